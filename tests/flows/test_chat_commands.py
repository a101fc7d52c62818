"""What people type after a slash, with real runners: /stop, /clear, /status, /help, and a fresh container."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime

import pytest

from nanohost.chat_commands.clear import FRESH
from nanohost.chat_commands.stop import NOTHING, STOPPED
from nanohost.mailbox import queries
from nanohost.model import Session
from nanohost.testing.limits import HANG_S, seconds
from nanohost_protocol.inbound import reading_inbound
from nanohost_protocol.payloads import SystemIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn
from nanohost_protocol.schema import OUTBOUND
from nanohost_protocol.sqlite import reading
from tests.flows.stage import Stage
from tests.support.flow import Flow, Script
from tests.support.invariants import claimed, claims_of, until

WORKS: Script = [
    {"match": "long", "actions": [{"narration": "Let me see."}, {"hang": True}, {"answer": "never"}]},
    {"match": "remember", "actions": [{"conversation": "abc"}, {"answer": "noted"}]},
]
FAILS: Script = [{"match": "fails", "actions": [{"error": "transient"}]}]


@pytest.mark.behaviour("SE-12")
async def test_stop_ends_the_running_turn_and_what_waits_and_says_so_once(stage: Stage) -> None:
    async with stage.host() as flow:
        await flow.wire(script=WORKS)
        await stage.fake.person_writes("long one", message_id="q1")
        await claimed(flow)
        await stage.fake.person_writes("/stop", message_id="stop")
        await stage.fake.wait_for(1)
        assert [(one.text, one.reply_to) for one in stage.fake.sent] == [(STOPPED, "stop")]
        assert len(await flow.containers()) == 1  # it obeyed, so it goes on living
        await stage.fake.person_writes("hi")
        await stage.fake.wait_for(2)
    assert flow.texts() == [STOPPED, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_stop_ends_a_turn_over_a_word_for_a_fresh_container_and_leaves_one_for_the_next(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(1)
        await flow.types("groups restart", "main", message="a long one")
        await claimed(flow)
        session = await flow.session()
        await flow.host.mailboxes.put(session, [_word("w2")])
        await watched.fake.person_writes("/stop")
        await watched.fake.wait_for(2)
        with reading_inbound(flow.layout(session).inbound_db) as box:
            found = box.find("w2")
        assert found is not None
        assert found.status == "pending"
        flow.host.keeper.stop(session.id)
        await watched.fake.person_writes("and now")
        await watched.fake.wait_for(3)
    assert flow.texts()[:2] == ["echo: hi", STOPPED]


@pytest.mark.behaviour("SE-12")
async def test_the_same_stop_delivered_twice_is_answered_once(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("long one")
        await claimed(flow)
        for _ in range(2):
            await watched.fake.person_writes("/stop", message_id="the same")
        await watched.fake.wait_for(1)
        await watched.fake.person_writes("/help")
        await watched.fake.wait_for(2)
    assert flow.texts().count(STOPPED) == 1


@pytest.mark.behaviour("SE-12")
@pytest.mark.parametrize("text", ["/stop", " /STOP  ", "/stop@the_bot", "/Stop\n"])
async def test_stop_is_known_in_every_spelling_and_nothing_to_stop_is_said(watched: Stage, text: str) -> None:
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes(text)
        await watched.fake.wait_for(1)
        assert await flow.containers() == []
    assert flow.texts() == [NOTHING]


@pytest.mark.behaviour("SE-12")
async def test_what_is_to_be_tried_again_is_stopped_too(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=FAILS)
        await watched.fake.person_writes("fails")
        session = await _backing_off(flow)
        await watched.fake.person_writes("/stop")
        await watched.fake.wait_for(1)
        with reading_inbound(flow.layout(session).inbound_db) as box:
            assert box.next_due(datetime.now(UTC)) is None
    assert flow.texts() == [STOPPED]


@pytest.mark.behaviour("SE-12")
async def test_a_runner_that_does_not_listen_is_ended_and_the_person_is_told(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("long one")
        await claimed(flow)
        [container] = await flow.containers()
        os.kill(int(container.state["pid"]), signal.SIGSTOP)
        await watched.fake.person_writes("/stop")
        await watched.fake.wait_for(1)
        assert flow.texts() == [STOPPED]
        assert container not in await flow.containers()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(2)
    assert flow.texts() == [STOPPED, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_a_container_that_dies_after_the_stop_brings_nothing_back(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("long one")
        await claimed(flow)
        [container] = await flow.containers()
        os.kill(int(container.state["pid"]), signal.SIGSTOP)
        await watched.fake.person_writes("/stop")
        os.kill(int(container.state["pid"]), signal.SIGKILL)
        await watched.fake.wait_for(1)
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(2)
    assert flow.texts() == [STOPPED, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_clear_forgets_the_conversation_while_a_container_runs(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("remember")
        await watched.fake.wait_for(1)
        assert await conversation(flow) == "abc"
        await watched.fake.person_writes("/clear")
        await watched.fake.wait_for(2)
        await forgotten(flow)
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(3)
    assert flow.texts() == ["noted", FRESH, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_clear_during_a_turn_stops_it(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("long one")
        await claimed(flow)
        await watched.fake.person_writes("/clear")
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(2)
    assert flow.texts() == [FRESH, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_clear_without_a_container_wakes_none_and_the_next_one_starts_afresh(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("remember")
        await watched.fake.wait_for(1)
    async with watched.host() as flow:
        await watched.fake.person_writes("/clear")
        await watched.fake.wait_for(2)
        assert await flow.containers() == []
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(3)
        await forgotten(flow)
    assert flow.texts() == ["noted", FRESH, "echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_status_says_what_is_done_since_when_and_what_waits(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire(script=WORKS)
        await watched.fake.person_writes("/status")
        await watched.fake.wait_for(1)
        await watched.fake.person_writes("long one")
        await claimed(flow)
        await watched.fake.person_writes("/status")
        await watched.fake.wait_for(2)
        await watched.fake.person_writes("/stop")
        await watched.fake.wait_for(3)
    assert flow.texts()[0] == "I am not doing anything.\nNothing waits."
    assert flow.texts()[1].startswith("I am working since ")
    assert flow.texts()[1].endswith("Nothing waits.")


@pytest.mark.behaviour("SE-12")
async def test_help_lists_the_commands_and_starts_nothing(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("/help")
        await watched.fake.wait_for(1)
        assert await flow.containers() == []
    for name in ("/stop", "/clear", "/status", "/help"):
        assert name in flow.texts()[0]


@pytest.mark.behaviour("SE-13")
async def test_a_row_for_a_fresh_container_is_not_seen_by_the_running_one_but_first_by_the_next(stage: Stage) -> None:
    async with stage.host() as flow:
        await flow.wire()
        await stage.fake.person_writes("one")
        await stage.fake.wait_for(1)
        session = await flow.session()
        await flow.host.mailboxes.put(session, [_word("w1")])
        await stage.fake.person_writes("two")
        await stage.fake.wait_for(2)
        with reading_inbound(flow.layout(session).inbound_db) as box:
            found = box.find("w1")
        assert found is not None
        assert found.status == "pending"
        assert flow.host.keeper.stop(session.id)
        await until(lambda: not flow.host.keeper.containers())
        assert await flow.containers() == []  # by itself it starts none
        await stage.fake.person_writes("three")
        await stage.fake.wait_for(3)
        turns = await flow.host.mailboxes.outbound(session, queries.turns())
        assert turns is not None
        assert "w1" in turns[0].message_ids


def _word(id: str) -> NewMessageIn:
    """For a fresh container; it wakes none."""
    note = SystemIn(text="you were restarted")
    return NewMessageIn(
        id=id, kind=InKind.SYSTEM, timestamp=datetime.now(UTC), content=encode(note), on_wake=True, trigger=False
    )


async def _backing_off(flow: Flow) -> Session:
    """Wait until the only session's message failed and is to be tried again."""
    async with asyncio.timeout(seconds(HANG_S)):
        while True:
            for session in await flow.sessions():
                if session.ack_cursor and session.due_at and not await claims_of(flow, session):
                    return session
            await asyncio.sleep(0.01)


async def conversation(flow: Flow) -> str | None:
    """The conversation that the only session's runner would go on with."""
    with reading(flow.layout(await flow.session()).outbound_db, OUTBOUND) as db:
        found = db.execute("SELECT value FROM session_state WHERE key = 'conversation:scripted'").fetchone()
    return None if found is None else str(found["value"])


async def forgotten(flow: Flow) -> None:
    """Wait until there is none."""
    async with asyncio.timeout(seconds(HANG_S)):
        while await conversation(flow) is not None:  # noqa: ASYNC110 - a file announces nothing
            await asyncio.sleep(0.01)
