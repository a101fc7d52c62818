"""Chat commands with real runners: /stop, /clear, /status, /help, and messages for a fresh container."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime

import pytest

from nanohost.chat_commands.clear import CLEARED_TEXT
from nanohost.chat_commands.stop import NOTHING_TO_STOP, STOPPED_TEXT
from nanohost.mailbox import queries
from nanohost.model import Session
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.inbound import inbound_snapshot
from nanohost_protocol.payloads import SystemIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn
from nanohost_protocol.schema import OUTBOUND
from nanohost_protocol.sqlite import read_snapshot
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost, Script
from tests.support.invariants import read_open_claims, wait_for_claims, wait_until

WORKS: Script = [
    {"match": "long", "actions": [{"narration": "Let me see."}, {"hang": True}, {"answer": "never"}]},
    {"match": "remember", "actions": [{"conversation": "abc"}, {"answer": "noted"}]},
]
FAILS: Script = [{"match": "fails", "actions": [{"error": "transient"}]}]


@pytest.mark.behaviour("SE-12")
async def test_stop_ends_the_running_turn_and_its_queue_with_one_answer(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env.fake.person_writes("long one", message_id="q1")
        await wait_for_claims(flow)
        await host_env.fake.person_writes("/stop", message_id="stop")
        await host_env.fake.wait_for_sent(1)
        assert [(one.text, one.reply_to) for one in host_env.fake.sent] == [(STOPPED_TEXT, "stop")]
        assert len(await flow.containers()) == 1  # it stopped the turn in time, so it keeps running
        await host_env.fake.person_writes("hi")
        await host_env.fake.wait_for_sent(2)
    assert flow.texts() == [STOPPED_TEXT, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_stop_ends_a_turn_over_a_wake_message_and_leaves_one_for_the_next_container(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
        await flow.run_command("agents restart", "main", message="a long one")
        await wait_for_claims(flow)
        session = await flow.session()
        await flow.host.mailboxes.put(session, [_wake_message("w2")])
        await host_env_with_events.fake.person_writes("/stop")
        await host_env_with_events.fake.wait_for_sent(2)
        with inbound_snapshot(flow.layout(session).inbound_db) as box:
            found = box.find("w2")
        assert found is not None
        assert found.status == "pending"
        flow.host.container_manager.stop(session.id)
        await host_env_with_events.fake.person_writes("and now")
        await host_env_with_events.fake.wait_for_sent(3)
    assert flow.texts()[:2] == ["echo: hi", STOPPED_TEXT]


@pytest.mark.behaviour("SE-12")
async def test_the_same_stop_delivered_twice_is_answered_once(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("long one")
        await wait_for_claims(flow)
        for _ in range(2):
            await host_env_with_events.fake.person_writes("/stop", message_id="the same")
        await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("/help")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts().count(STOPPED_TEXT) == 1


@pytest.mark.behaviour("SE-12")
@pytest.mark.parametrize("text", ["/stop", " /STOP  ", "/stop@the_bot", "/Stop\n"])
async def test_stop_is_accepted_in_every_spelling_and_reports_when_nothing_runs(
    host_env_with_events: HostTestEnv, text: str
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes(text)
        await host_env_with_events.fake.wait_for_sent(1)
        assert await flow.containers() == []
    assert flow.texts() == [NOTHING_TO_STOP]


@pytest.mark.behaviour("SE-12")
async def test_stop_also_closes_a_message_that_waits_for_a_retry(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=FAILS)
        await host_env_with_events.fake.person_writes("fails")
        session = await _backing_off(flow)
        await host_env_with_events.fake.person_writes("/stop")
        await host_env_with_events.fake.wait_for_sent(1)
        with inbound_snapshot(flow.layout(session).inbound_db) as box:
            assert box.next_due(datetime.now(UTC)) is None
    assert flow.texts() == [STOPPED_TEXT]


@pytest.mark.behaviour("SE-12")
async def test_stop_ends_an_unresponsive_runner_and_is_answered(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("long one")
        await wait_for_claims(flow)
        [container] = await flow.containers()
        os.kill(int(container.state["pid"]), signal.SIGSTOP)
        await host_env_with_events.fake.person_writes("/stop")
        await host_env_with_events.fake.wait_for_sent(1)
        assert flow.texts() == [STOPPED_TEXT]
        assert container not in await flow.containers()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts() == [STOPPED_TEXT, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_a_container_crash_after_stop_does_not_restore_the_stopped_message(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("long one")
        await wait_for_claims(flow)
        [container] = await flow.containers()
        os.kill(int(container.state["pid"]), signal.SIGSTOP)
        await host_env_with_events.fake.person_writes("/stop")
        os.kill(int(container.state["pid"]), signal.SIGKILL)
        await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts() == [STOPPED_TEXT, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_clear_forgets_the_conversation_while_a_container_runs(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("remember")
        await host_env_with_events.fake.wait_for_sent(1)
        assert await conversation(flow) == "abc"
        await host_env_with_events.fake.person_writes("/clear")
        await host_env_with_events.fake.wait_for_sent(2)
        await wait_for_no_conversation(flow)
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(3)
    assert flow.texts() == ["noted", CLEARED_TEXT, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_clear_during_a_turn_stops_it(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("long one")
        await wait_for_claims(flow)
        await host_env_with_events.fake.person_writes("/clear")
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts() == [CLEARED_TEXT, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_clear_without_a_container_starts_none_and_the_next_begins_a_new_conversation(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("remember")
        await host_env_with_events.fake.wait_for_sent(1)
    async with host_env_with_events.run_host() as flow:
        await host_env_with_events.fake.person_writes("/clear")
        await host_env_with_events.fake.wait_for_sent(2)
        assert await flow.containers() == []
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(3)
        await wait_for_no_conversation(flow)
    assert flow.texts() == ["noted", CLEARED_TEXT, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_status_reports_the_current_turn_its_start_and_the_queue(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("/status")
        await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("long one")
        await wait_for_claims(flow)
        await host_env_with_events.fake.person_writes("/status")
        await host_env_with_events.fake.wait_for_sent(2)
        await host_env_with_events.fake.person_writes("/stop")
        await host_env_with_events.fake.wait_for_sent(3)
    assert flow.texts()[0] == "I am not doing anything.\nNothing waits."
    assert flow.texts()[1].startswith("I have been working since ")
    assert flow.texts()[1].endswith("Nothing waits.")


@pytest.mark.behaviour("SE-12")
async def test_help_lists_the_commands_and_starts_no_container(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("/help")
        await host_env_with_events.fake.wait_for_sent(1)
        assert await flow.containers() == []
    for name in ("/stop", "/clear", "/status", "/help"):
        assert name in flow.texts()[0]


@pytest.mark.behaviour("SE-13")
async def test_a_message_for_a_fresh_container_is_skipped_by_the_running_one_and_first_in_the_next(
    host_env: HostTestEnv,
) -> None:
    async with host_env.run_host() as flow:
        await flow.wire()
        await host_env.fake.person_writes("one")
        await host_env.fake.wait_for_sent(1)
        session = await flow.session()
        await flow.host.mailboxes.put(session, [_wake_message("w1")])
        await host_env.fake.person_writes("two")
        await host_env.fake.wait_for_sent(2)
        with inbound_snapshot(flow.layout(session).inbound_db) as box:
            found = box.find("w1")
        assert found is not None
        assert found.status == "pending"
        assert flow.host.container_manager.stop(session.id)
        await wait_until(lambda: not flow.host.container_manager.containers())
        assert await flow.containers() == []  # by itself it starts none
        await host_env.fake.person_writes("three")
        await host_env.fake.wait_for_sent(3)
        turns = await flow.host.mailboxes.read_outbound(session, queries.turns())
        assert turns is not None
        assert "w1" in turns[0].message_ids


def _wake_message(id: str) -> NewMessageIn:
    """A message for a fresh container, which starts none."""
    note = SystemIn(text="you were restarted")
    return NewMessageIn(
        id=id, kind=InKind.SYSTEM, timestamp=datetime.now(UTC), content=encode(note), on_wake=True, trigger=False
    )


async def _backing_off(flow: RunningHost) -> Session:
    """Wait until the only session's message failed and waits for a retry."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            for session in await flow.sessions():
                if session.ack_cursor and session.due_at and not await read_open_claims(flow, session):
                    return session
            await asyncio.sleep(0.01)


async def conversation(flow: RunningHost) -> str | None:
    """The conversation that the only session's runner would resume."""
    with read_snapshot(flow.layout(await flow.session()).outbound_db, OUTBOUND) as db:
        found = db.execute("SELECT value FROM session_state WHERE key = 'conversation:scripted'").fetchone()
    return None if found is None else str(found["value"])


async def wait_for_no_conversation(flow: RunningHost) -> None:
    """Wait until there is no conversation."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while await conversation(flow) is not None:  # noqa: ASYNC110 - a file announces nothing
            await asyncio.sleep(0.01)
