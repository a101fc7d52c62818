"""Who reaches an agent, with a whole host: context, bots, unconnected chats, unknown senders."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from nanohost.approvals.held_messages import APPROVAL_REQUESTED_TEXT
from nanohost.channel_api import Sender
from nanohost.db import dropped, events, roles, users, wirings
from nanohost.model import EngageMode, IgnoredMessagePolicy, Role, SenderScope, UnknownSender
from nanohost.routing.engagement import BOT_LOOP, MAX_BOT_MESSAGES
from nanohost.routing.unknown_sender_policy import NO_APPROVER_YET
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.rows import Origin
from tests.flows.host_fixture import HostTestEnv
from tests.flows.test_who_answers import outcomes
from tests.support.flow import RunningHost

BOT = Sender(handle="ci", name="CI", is_bot=True)
STRANGER = Sender(handle="eve", name="Eve")


async def change(flow: RunningHost, **axes: object) -> None:
    """Change the engagement of the only wiring."""
    async with flow.host.store.transaction() as tx:
        [wiring] = await wirings.list_all(tx)
        for axis, value in axes.items():
            await tx.execute(f"UPDATE wirings SET {axis} = ? WHERE id = ?", (value, wiring.id))  # type: ignore[arg-type]


async def grant(flow: RunningHost, user: str, role: Role) -> None:
    async with flow.host.store.transaction() as tx:
        await roles.grant(tx, user_id=user, role=role, agent_group=None, now=datetime.now(UTC))


async def can_be_asked(flow: RunningHost, user: str) -> None:
    """Record a direct chat, so that they can be asked."""
    place, now = Origin(channel_type="fake", instance="default", platform_id="dm"), datetime.now(UTC)
    async with flow.host.store.transaction() as tx:
        await users.record_seen(tx, user, name="Bea", now=now)
        await users.save_dm(tx, user, place, now)


async def count_rows(flow: RunningHost, table: str) -> int:
    row = await flow.host.store.fetch_one(f"SELECT count(*) AS rows FROM {table}")
    assert row is not None
    return int(row["rows"])


async def routed(flow: RunningHost) -> None:
    """Wait until every event is routed."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while await events.list_chats_with_new(flow.host.store):
            pass


@pytest.mark.behaviour("RT-05", "RT-06")
async def test_accumulated_context_starts_no_container_and_joins_the_message_that_does(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(engage=EngageMode.MENTION)
        await change(flow, ignored=IgnoredMessagePolicy.ACCUMULATE)
        for text in ("we could go on Friday", "or Saturday"):
            await host_env.fake.person_writes(text, group=True)
        await routed(flow)
        assert await outcomes(flow) == ["context", "context"]
        assert await flow.containers() == []
        await host_env.fake.person_writes("which day?", group=True, mentions=True)
        await host_env.fake.wait_for_sent(1)
        session = await flow.session()
        await host_env.fake.person_writes("Sunday it is", group=True)
        await routed(flow)
    assert flow.texts() == ["echo: which day?"]
    async with host_env.run_host() as flow:
        box = await flow.host.mailboxes.read_inbound(
            session, lambda box: [row.content for row in box.due(datetime.now(UTC))]
        )
    assert ["Sunday" in content for content in box] == [True], "all that came before was taken"


@pytest.mark.behaviour("IN-05")
async def test_a_bot_is_answered_where_the_wiring_allows_bots_and_recorded_as_dropped_elsewhere(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("build one", sender=BOT, group=True)
        await routed(flow)
        await change(flow, bots=1)
        await host_env_with_events.fake.person_writes("build two", sender=BOT, group=True)
        await host_env_with_events.fake.wait_for_sent(1)
        [lost] = await dropped.latest(flow.host.store.reports, limit=9)
    assert flow.texts() == ["echo: build two"]
    assert (lost.user_id, lost.reason, lost.count) == ("fake:ci", "another bot wrote it", 1)


@pytest.mark.behaviour("IN-05")
async def test_bots_that_keep_answering_each_other_are_stopped_until_a_person_writes(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await change(flow, bots=1)
        for number in range(MAX_BOT_MESSAGES + 5):
            await host_env_with_events.fake.person_writes(f"beep {number}", sender=BOT, group=True)
        await routed(flow)
        assert (await outcomes(flow)).count("written") == MAX_BOT_MESSAGES
        [lost] = await dropped.latest(flow.host.store.reports, limit=9)
        assert (lost.user_id, lost.reason, lost.count) == ("fake:ci", BOT_LOOP, 5)
        await host_env_with_events.fake.person_writes("go on, you two", group=True)
        await host_env_with_events.fake.person_writes("boop", sender=BOT, group=True)
        await host_env_with_events.fake.wait_for_sent(MAX_BOT_MESSAGES + 2)
    assert flow.texts()[-2:] == ["echo: go on, you two", "echo: boop"]


@pytest.mark.behaviour("RT-04")
async def test_a_text_made_to_exhaust_a_pattern_delays_nobody(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(pattern="(a+)+$")
        await flow.wire("c2", "one")
        await host_env_with_events.fake.person_writes("a" * 4095 + "!")
        await host_env_with_events.fake.person_writes("hello", chat="c2")
        await host_env_with_events.fake.person_writes("aaa")
        await host_env_with_events.fake.wait_for_sent(2)
    assert sorted(flow.texts()) == ["echo: aaa", "echo: hello"]


@pytest.mark.behaviour("RT-04", "RT-10")
async def test_an_old_pattern_that_is_no_longer_valid_is_recorded_as_the_reason_of_a_drop(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await change(flow, engage_pattern=r"(a)\1")
        await host_env_with_events.fake.person_writes("aa")
        await routed(flow)
        await change(flow, engage_pattern=".")
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
        [lost] = await dropped.latest(flow.host.store.reports, limit=9)
    assert "the wiring's pattern cannot be used" in lost.reason
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("RT-08")
async def test_messages_of_an_unconnected_group_leave_no_rows(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        for number in range(5):
            await host_env_with_events.fake.person_writes(f"chatter {number}", chat="strange", group=True)
        await routed(flow)
        tables = ("inbound_events", "dropped_messages", "users", "approvals")
        assert [await count_rows(flow, table) for table in tables] == [0, 0, 0, 0]


@pytest.mark.behaviour("RT-08", "RT-10")
async def test_on_a_new_install_a_direct_message_is_answered_with_the_command_to_type(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        for text in ("hello", "anybody?"):
            await host_env_with_events.fake.person_writes(text, sender=STRANGER)
        await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("@nan", sender=STRANGER, chat="group", group=True, mentions=True)
        await flow.wire("c2")
        await host_env_with_events.fake.person_writes("hi", chat="c2")
        await host_env_with_events.fake.wait_for_sent(2)
        lost = await dropped.latest(flow.host.store.reports, limit=9)
    assert flow.texts() == [NO_APPROVER_YET.format(channel="fake"), "echo: hi"]
    assert sum(one.count for one in lost) == 3


@pytest.mark.behaviour("AC-04", "RT-08")
@pytest.mark.parametrize("wired", [True, False])
async def test_an_unknown_sender_is_told_that_somebody_is_asked_and_reaches_no_agent(
    host_env_with_events: HostTestEnv, wired: bool
) -> None:
    async with host_env_with_events.run_host() as flow:
        await grant(flow, "fake:boss", Role.OWNER)
        await can_be_asked(flow, "fake:boss")
        if wired:
            await flow.wire(unknown=UnknownSender.REQUEST_APPROVAL)
        for text in ("hello", "are you there?"):
            await host_env_with_events.fake.person_writes(text, sender=STRANGER)
        await host_env_with_events.fake.wait_for_sent(2)
        assert (await count_rows(flow, "approvals"), await flow.sessions()) == (1, [])
    assert flow.texts("c1")[:1] == [APPROVAL_REQUESTED_TEXT]


@pytest.mark.behaviour("AC-05")
async def test_an_agent_with_the_known_sender_scope_hears_nobody_else_in_a_public_chat(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await change(flow, sender_scope=SenderScope.KNOWN)
        await grant(flow, "fake:u1", Role.MEMBER)
        await host_env_with_events.fake.person_writes("psst", sender=STRANGER)
        await host_env_with_events.fake.person_writes("hi", sender=Sender(handle="u1", name="Ada"))
        await host_env_with_events.fake.wait_for_sent(1)
        assert await outcomes(flow) == ["denied", "written"]
    assert flow.texts() == ["echo: hi"]
