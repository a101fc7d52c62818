"""A message deleted after it was sent, with real runners."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.db import roles
from nanohost.model import Role
from nanohost.testing.fake_channel import PERSON
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost
from tests.support.invariants import wait_until

OWNER = Sender(handle="boss", name="Bea")


def message(id: str, text: str) -> InboundEvent:
    return InboundEvent(platform_id="c1", platform_message_id=id, sender=PERSON, text=text, sent_at=datetime.now(UTC))


def deletion(id: str) -> InboundEvent:
    return replace(message(id, ""), kind=EventKind.DELETION, refers_to=id, sender=Sender(handle="", name=""))


async def _owner_says(stage: HostTestEnv, text: str) -> None:
    before = len(stage.fake.sent)
    await stage.fake.person_writes(text, chat="office", sender=OWNER)
    await wait_until(lambda: len(stage.fake.sent) > before)


async def _with_owner(flow: RunningHost) -> None:
    async with flow.host.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=datetime.now(UTC))


@pytest.mark.behaviour("RT-14")
async def test_a_message_deleted_while_waiting_in_its_mailbox_is_not_answered(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await _with_owner(flow)
        await flow.wire()
        await host_env.fake.person_writes("before")
        await wait_until(lambda: "echo: before" in flow.texts("c1"))
        await _owner_says(host_env, "/pause")
        await host_env.fake.emit_event(message("m1", "oops"))
        await host_env.fake.emit_event(message("m2", "hello"))
        await host_env.fake.emit_event(deletion("m1"))
        await _owner_says(host_env, "/resume")
        await wait_until(lambda: "echo: hello" in flow.texts("c1"))
        await host_env.fake.person_writes("after")
        await wait_until(lambda: "echo: after" in flow.texts("c1"))
        assert [one for one in flow.texts("c1") if "oops" in one] == []
