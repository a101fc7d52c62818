"""A card on each real platform: shown in full, pressed by its approver and by others, closed by the decision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nanohost.db import approvals, roles
from nanohost.model import Role
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import ADA, BOB, ScreenMessage, Simulator
from tests.channels.everywhere import AllPlatforms, bobs_chat, platform_names, read_by, run_host
from tests.support.flow import RunningHost

LET_IN, REFUSE = "Let them in", "Refuse"


async def arrange(flow: RunningHost, name: str) -> None:
    """Ada owns the host, and Bob is an unknown sender."""
    async with flow.host.store.transaction() as tx:
        await tx.execute("UPDATE messaging_groups SET unknown_sender = 'request_approval'")
        await roles.grant(tx, user_id=f"{name}:{ADA.id}", role=Role.OWNER, agent_group=None, now=flow.host.clock.now())


async def card_of(platform: Simulator) -> ScreenMessage:
    """The card that Ada gets."""
    await platform.wait_until(lambda: any(one.buttons for one in platform.screen(platform.dm)))
    return next(one for one in reversed(platform.screen(platform.dm)) if one.buttons)


@pytest.mark.behaviour("AP-02", "AP-03", "AP-04")
@pytest.mark.parametrize("name", platform_names())
async def test_a_card_is_decided_by_its_approver_and_not_by_a_forged_press(tmp_path: Path, name: str) -> None:
    platform = find_simulator(name)
    async with run_host(tmp_path, AllPlatforms(platforms={name: platform})) as flow:
        await arrange(flow, name)
        await platform.write(platform.dm, "good morning")
        await platform.wait_until(lambda: "echo: good morning" in read_by(platform))
        await platform.write(bobs_chat(platform), "please `let` *me* <@in>", person=BOB)
        card = await card_of(platform)
        assert sorted(card.buttons) == [LET_IN, REFUSE]
        for said in ("Bob", "me", "/approve", "main"):
            assert said in card.text
        # A direct chat is the person's own number on WhatsApp: whoever presses there does it in a chat of theirs.
        seen = replace(card, chat=bobs_chat(platform)) if name == "whatsapp" else card
        await platform.press(seen, LET_IN, person=BOB)
        await platform.write(platform.dm, "and now?")
        await platform.wait_until(lambda: "echo: and now?" in read_by(platform))
        [one] = await approvals.latest(flow.host.store.reports, limit=9)
        assert one.status == "pending"
        await platform.press(card, LET_IN)
        bobs = bobs_chat(platform)
        await platform.wait_until(lambda: any("echo: please" in text for text in read_by(platform, bobs)))
        await platform.wait_until(lambda: any("Approved" in text for text in read_by(platform)))
        if name != "whatsapp":  # nothing is changed there once it is sent
            assert not any(one.buttons for one in platform.screen(platform.dm)), "the buttons are gone"
