"""An agent's request that needs approval: from its tool to the card, the press, the effect and the report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nanohost.channel_api import Sender
from nanohost.config.settings import make_settings
from nanohost.db import agent_groups, audit, roles
from nanohost.model import Role
from nanohost.scheduler import task_operations
from nanohost.testing.fake_channel import SentMessage
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.flow import SCRIPTED_HOST_SETTINGS, RunningHost, run_host
from tests.support.invariants import assert_clean

OLGA = Sender(handle="olga", name="Olga")
DM = "dm-olga"
TOLD = {"match": "^.*Your request", "actions": [{"answer": "told: {text}"}]}
SCHEDULE = {
    "tool": "schedule_task",
    "arguments": {"prompt": "water the plants", "cron": "0 9 * * *"},
    "answer": "{result}",
}


@asynccontextmanager
async def hosted(
    root: Path, *, guard: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[RunningHost, FullFeatureChannel]]:
    """A host with an owner, who can be written to."""
    fake = FullFeatureChannel()
    async with run_host(
        root, fake=fake, settings=make_settings(host=SCRIPTED_HOST_SETTINGS, guard=guard or {})
    ) as flow:
        async with flow.host.store.transaction() as tx:
            now = flow.host.clock.now()
            await roles.grant(tx, user_id="fake:olga", role=Role.OWNER, agent_group=None, now=now)
        yield flow, fake
        await assert_clean(flow)


async def wait_for_message(fake: FullFeatureChannel, chat: str, words: str = "", *, card: bool = False) -> SentMessage:
    """Wait for a message there with this text, or with buttons; returns the latest."""

    def found() -> list[SentMessage]:
        there = [one for one in fake.sent if one.address.platform_id == chat and words in one.text]
        return [one for one in there if one.buttons or not card]

    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not found():
            await fake.wait_for_sent(len(fake.sent) + 1)
    return found()[-1]


async def press(fake: FullFeatureChannel, card: SentMessage, label: str) -> None:
    [button] = [one for one in card.buttons if one.label == label]
    await fake.person_presses(card, button, sender=OLGA)


@pytest.mark.behaviour("AP-02", "AP-05", "AP-07")
async def test_a_held_task_request_is_created_once_its_owner_approved_every_argument(
    tmp_path: Path,
) -> None:
    async with hosted(tmp_path, guard={"tasks.create": "hold"}) as (flow, fake):
        await flow.wire(script=[TOLD, {"match": ".", "actions": [SCHEDULE]}])
        await fake.person_writes("plants, daily")
        card = await wait_for_message(fake, DM, card=True)
        assert "water the plants" in card.text
        assert "0 9 * * *" in card.text
        session = await flow.session()
        assert await task_operations.list_open(flow.host.store, session.id) == []
        await press(fake, card, "Allow once")
        told = await wait_for_message(fake, "c1", "told: ")
        [task] = await task_operations.list_open(flow.host.store, session.id)
        kept = await audit.latest(flow.host.store.reports, limit=10, action="tasks")
    assert (task.content, task.cron) == ("water the plants", "0 9 * * *")
    assert told.text == "told: Your request tasks.create was approved and is done."
    assert [str(one.outcome) for one in reversed(kept)] == ["held", "done"]
    assert not [one for one in fake.sent if one.address.platform_id == "c1" and one.buttons]


@pytest.mark.behaviour("AP-07")
async def test_an_agent_is_told_why_its_request_was_denied(tmp_path: Path) -> None:
    async with hosted(tmp_path, guard={"tasks.create": "hold"}) as (flow, fake):
        await flow.wire(script=[TOLD, {"match": ".", "actions": [SCHEDULE]}])
        await fake.person_writes("plants, daily")
        await press(fake, await wait_for_message(fake, DM, card=True), "Deny")
        told = await wait_for_message(fake, "c1", "told: ")
        assert await task_operations.list_open(flow.host.store, (await flow.session()).id) == []
    assert told.text.startswith("told: Your request tasks.create was refused: a person denied it")


@pytest.mark.behaviour("AP-01", "AP-05", "AP-07")
async def test_a_message_to_another_chat_needs_approval_by_more_than_the_agents_admin(
    tmp_path: Path,
) -> None:
    ask = {"tool": "add_destination", "arguments": {"name": "family", "chat": "c9"}, "answer": "{result}"}
    send = {"tool": "send_message", "arguments": {"text": "dinner is ready", "to": "family"}}
    told = {"match": "You can send to family", "actions": [send]}
    async with hosted(tmp_path) as (flow, fake):
        await flow.wire(script=[told, {"match": ".", "actions": [ask]}])
        await flow.wire("c9", "other")
        async with flow.host.store.transaction() as tx:
            main = await agent_groups.find(tx, "main")
            assert main is not None
            now = flow.host.clock.now()
            await roles.grant(tx, user_id="fake:adam", role=Role.ADMIN, agent_group=main.id, now=now)
        await fake.person_writes("tell the family")
        assert await wait_for_message(fake, "c1", "Asked for.")
        card = await wait_for_message(fake, DM, card=True)
        await press(fake, card, "Allow")
        await wait_for_message(fake, "c9", "dinner is ready")
        assert not flow.texts("dm-adam")
    assert "c9" in card.text
