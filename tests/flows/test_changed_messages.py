"""A message that people delete after they sent it, with real runners."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.model import Role
from nanohost.store import roles
from nanohost.testing.fake_channel import PERSON
from tests.flows.stage import Stage
from tests.support.flow import Flow
from tests.support.invariants import until

OWNER = Sender(handle="boss", name="Bea")


def message(id: str, text: str) -> InboundEvent:
    return InboundEvent(platform_id="c1", platform_message_id=id, sender=PERSON, text=text, sent_at=datetime.now(UTC))


def deletion(id: str) -> InboundEvent:
    return replace(message(id, ""), kind=EventKind.DELETION, refers_to=id, sender=Sender(handle="", name=""))


async def _owner_says(stage: Stage, text: str) -> None:
    before = len(stage.fake.sent)
    await stage.fake.person_writes(text, chat="office", sender=OWNER)
    await until(lambda: len(stage.fake.sent) > before)


async def _with_owner(flow: Flow) -> None:
    async with flow.host.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=datetime.now(UTC))


@pytest.mark.behaviour("RT-14")
async def test_what_was_deleted_while_it_waited_in_its_mailbox_is_not_answered(stage: Stage) -> None:
    async with stage.host() as flow:
        await _with_owner(flow)
        await flow.wire()
        await stage.fake.person_writes("before")
        await until(lambda: "echo: before" in flow.texts("c1"))
        await _owner_says(stage, "/pause")
        await stage.fake.happens(message("m1", "oops"))
        await stage.fake.happens(message("m2", "hello"))
        await stage.fake.happens(deletion("m1"))
        await _owner_says(stage, "/resume")
        await until(lambda: "echo: hello" in flow.texts("c1"))
        await stage.fake.person_writes("after")
        await until(lambda: "echo: after" in flow.texts("c1"))
        assert [one for one in flow.texts("c1") if "oops" in one] == []
