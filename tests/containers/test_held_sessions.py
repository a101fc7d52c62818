"""A session in model backoff: its messages wait, its people are notified, and no container is started for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from nanohost.db import sessions, turn_failures
from nanohost.model import Session
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import ErrorClass, InKind, NewMessageIn, TurnError, Usage
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, make_message, run_manager
from tests.containers.test_manager import claim_due, has_started, open_runner, sweeping
from tests.support.invariants import wait_until

WORDS = "It cannot be asked."


@asynccontextmanager
async def at_work(bench: ContainerManagerHarness) -> AsyncIterator[tuple[Session, OutboundWriter]]:
    session = await bench.add_session("a")
    bench.manager.wake(session.id)
    await wait_until(partial(has_started, bench, 1))
    await wait_until(lambda: not bench.manager._start_workers.active_count())
    with closing(open_runner(bench, session)) as runner:
        await claim_due(bench, session, runner)
        yield session, runner


async def fail_turn(
    bench: ContainerManagerHarness,
    session: Session,
    runner: OutboundWriter,
    error: ErrorClass,
    retry_at: datetime | None = None,
) -> None:
    """End the running turn with this error class."""
    words = TurnError(error_class=error, sentence=WORDS, retry_at=retry_at)
    runner.finish(
        TurnEnd(turn_id="t", messages=(), usage=Usage(), error=words), highest_seen_seq=0, now=bench.clock.now()
    )
    await process_acks(bench, session)


async def statuses(bench: ContainerManagerHarness) -> list[str]:
    """Statuses of host notices."""
    return [row["status"] for row in await bench.store.fetch_all("SELECT status FROM deliveries ORDER BY seq")]


async def completes(bench: ContainerManagerHarness, session: Session, runner: OutboundWriter) -> None:
    runner.finish(TurnEnd(turn_id="t", messages=(), usage=Usage()), highest_seen_seq=0, now=bench.clock.now())
    await process_acks(bench, session)


async def process_acks(bench: ContainerManagerHarness, session: Session) -> None:
    bench.manager.on_outbox_changed(session.id)
    await wait_until(lambda: not bench.manager._ack_workers.active_count())


async def write_message(bench: ContainerManagerHarness, session: Session, id: str, chat: str = "a") -> None:
    """Write a message as routing does."""
    fresh: NewMessageIn = replace(make_message(chat, bench.clock), id=id)
    await bench.mailboxes.put(session, [fresh])
    async with bench.store.transaction() as tx:
        await sessions.make_due(tx, session.id, at=bench.clock.now(), now=bench.clock.now())
    bench.manager.wake(session.id)
    await wait_until(lambda: not bench.manager._ack_workers.active_count())


async def sent_notices(bench: ContainerManagerHarness) -> list[tuple[str, str]]:
    rows = await bench.store.fetch_all("SELECT platform_id, content FROM deliveries ORDER BY created_at, seq")
    return [(row["platform_id"], json.loads(row["content"])["text"]) for row in rows]


async def due(bench: ContainerManagerHarness, session: Session) -> list[str]:
    return await bench.mailboxes.read_inbound(session, lambda box: [row.id for row in box.due(bench.clock.now())])


@pytest.mark.behaviour("RU-04")
async def test_a_sender_during_model_backoff_is_notified_once_a_chat_and_nothing_becomes_due(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, at_work(bench) as (session, runner):
        at = bench.clock.now() + timedelta(minutes=10)
        await fail_turn(bench, session, runner, ErrorClass.RATE_LIMITED, at)
        for number in range(3):
            await write_message(bench, session, f"more-{number}")
        await write_message(bench, session, "elsewhere", chat="b")
        sentence = f"{WORDS} I keep your message and try again in about 10 minutes."
        assert await sent_notices(bench) == [("a", sentence), ("b", sentence)]
        assert await due(bench, session) == []
        assert (await sessions.get(bench.store, session.id)).due_at == at
        await bench.clock.advance(601)
        assert len(await due(bench, session)) == 5
        await claim_due(bench, session, runner)
        await fail_turn(bench, session, runner, ErrorClass.RATE_LIMITED)
        assert len(await sent_notices(bench)) == 2


@pytest.mark.behaviour("RU-04")
async def test_a_pending_notice_about_the_model_is_dropped_once_the_model_answers(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, at_work(bench) as (session, runner):
        await fail_turn(bench, session, runner, ErrorClass.RATE_LIMITED)
        await bench.clock.advance(61)
        await claim_due(bench, session, runner)
        assert await statuses(bench) == ["pending"]
        await completes(bench, session, runner)
        assert await statuses(bench) == ["dropped"]


@pytest.mark.behaviour("RU-04", "SE-04")
async def test_a_session_in_model_backoff_starts_no_container_even_after_a_restart(
    tmp_path: Path,
) -> None:
    runtime = FakeRuntime()
    async with run_manager(tmp_path, runtime) as bench, at_work(bench) as (session, runner):
        await fail_turn(bench, session, runner, ErrorClass.RATE_LIMITED, bench.clock.now() + timedelta(minutes=10))
        runtime.exit_container(runtime.living[0])
        await wait_until(lambda: not bench.manager._reap_workers.active_count())
    async with run_manager(tmp_path, runtime) as bench, sweeping(bench):
        await write_message(bench, session, "more")
        assert bench.manager.containers() == [], "not even one that is yet to start"
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(590)
        assert len(runtime.started_specs) == 1
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(70)
        await wait_until(partial(has_started, bench, 2))


@pytest.mark.behaviour("RU-04")
async def test_a_rate_limit_counts_no_attempt_and_fails_the_message_after_six_hours(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, at_work(bench) as (session, runner):
        for _ in range(60):
            await fail_turn(bench, session, runner, ErrorClass.RATE_LIMITED)
            found = await turn_failures.find(bench.store, session.id)
            assert found is not None
            if found.held_until is None:
                break
            await bench.clock.advance((found.held_until - bench.clock.now()).total_seconds())
            await claim_due(bench, session, runner)
        first, last = await sent_notices(bench)
        assert "try again in about 1 minute" in first[1]
        assert "stopped" in last[1]
        row = await bench.mailboxes.read_inbound(session, lambda box: box.find("m-a"))
        assert row is not None
        assert row.status == "failed"
        assert timedelta(hours=5.5) < bench.clock.now() - row.timestamp < timedelta(hours=6.1)
        await write_message(bench, session, "later")
        assert await due(bench, session) == ["later"]


@pytest.mark.behaviour("RU-04")
async def test_a_lasting_outage_of_the_model_is_notified_and_messages_resume_when_it_answers(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, at_work(bench) as (session, runner):
        await fail_turn(bench, session, runner, ErrorClass.OVERLOADED)
        assert await sent_notices(bench) == []
        await bench.clock.advance(5)
        await claim_due(bench, session, runner)
        await write_message(bench, session, "more")
        await fail_turn(bench, session, runner, ErrorClass.OVERLOADED)
        assert await sent_notices(bench) == [("a", f"{WORDS} I keep your message and try again.")]
        await bench.clock.advance(10)
        await claim_due(bench, session, runner)
        await completes(bench, session, runner)
        assert await turn_failures.find(bench.store, session.id) is None
        await write_message(bench, session, "now")
        assert await due(bench, session) == ["now"]


@pytest.mark.behaviour("RU-04")
async def test_every_chat_with_a_message_in_a_failed_turn_is_notified(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, at_work(bench) as (session, runner):
        await write_message(bench, session, "elsewhere", chat="b")
        rows = await bench.mailboxes.read_inbound(session, lambda box: list(box.due(bench.clock.now())))
        runner.claim_more("t", rows[1:], bench.clock.now())
        await fail_turn(bench, session, runner, ErrorClass.AUTH)
        assert sorted(await sent_notices(bench)) == [("a", WORDS), ("b", WORDS)]


@pytest.mark.behaviour("RU-04")
async def test_a_control_message_ignores_and_keeps_the_backoff_of_the_model(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, at_work(bench) as (session, runner):
        await fail_turn(bench, session, runner, ErrorClass.RATE_LIMITED)
        order = NewMessageIn(id="o", kind=InKind.CONTROL, timestamp=bench.clock.now(), content='{"command":"x"}')
        await bench.mailboxes.put(session, [order])
        rows = await bench.mailboxes.read_inbound(session, lambda box: list(box.due(bench.clock.now())))
        assert [row.id for row in rows] == ["o"]
        runner.claim("o", rows, bench.clock.now())
        runner.finish(TurnEnd(turn_id="o", messages=(), usage=Usage()), highest_seen_seq=0, now=bench.clock.now())
        await process_acks(bench, session)
        assert bench.manager._ack_processor.is_in_backoff(session.id)
