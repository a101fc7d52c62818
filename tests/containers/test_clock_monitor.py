"""A wall clock that was set back: times that were computed by the old one are brought forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nanohost.clock import Clock
from nanohost.containers.clock_monitor import CHECK_INTERVAL_S, ClockMonitor
from nanohost.db import sessions, tasks, turn_failures
from nanohost.db.domain_events import SessionHasWork, TasksChanged
from nanohost.db.tasks import TaskKind
from nanohost.db.turn_failures import TurnFailures
from nanohost.model import Session, SessionId, TaskId
from nanohost.scheduler import task_operations
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.rows import ErrorClass
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, make_message, run_manager
from tests.support.invariants import wait_until
from tests.support.recorded_events import record_events

HOUR = timedelta(hours=1)
PAUSE = timedelta(seconds=40)


class SetClock:
    """A manual clock whose wall clock can be set, and may go at another rate; satisfies Clock."""

    def __init__(self, clock: ManualClock, *, rate: float = 1.0) -> None:
        self._clock = clock
        self._rate = rate
        self.off = timedelta()

    def now(self) -> datetime:
        return START + (self._clock.now() - START) * self._rate + self.off

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        return self._clock.sleep(seconds)


@dataclass
class RecordedSessions:
    """Records which sessions were brought forward."""

    awake: list[SessionId]
    planned: list[SessionId]


async def session_waiting_for_retry(bench: ContainerManagerHarness) -> SessionId:
    """A session whose one message waits for a retry."""
    session = await bench.add_session("c1")
    at = bench.clock.now() + PAUSE
    await bench.mailboxes.update(session, lambda box: box.retry("m-c1", tries=0, process_after=at))
    async with bench.store.transaction() as tx:
        await sessions.replace_due(tx, session.id, expected=session.due_at, due=at)
    return session.id


@asynccontextmanager
async def watching(bench: ContainerManagerHarness, clock: Clock) -> AsyncIterator[RecordedSessions]:
    """A monitor that has read the clock once."""
    bus = bench.store.bus
    told = RecordedSessions(
        awake=record_events(bus, SessionHasWork, lambda event: event.session),
        planned=record_events(bus, TasksChanged, lambda event: event.session),
    )
    watch = ClockMonitor(store=bench.store, mailboxes=bench.mailboxes, clock=clock)
    task = asyncio.create_task(watch.run())
    await bench.clock.wait_for_sleeper()
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait([task])


async def due_of(bench: ContainerManagerHarness, session: SessionId) -> datetime:
    due = (await sessions.get(bench.store, session)).due_at
    assert due is not None
    return due


@pytest.mark.behaviour("SE-07")
@pytest.mark.parametrize(("set_by", "woken"), [(-HOUR, True), (HOUR, False), (timedelta(seconds=-2), False)])
async def test_a_clock_set_back_does_not_lengthen_the_pause_of_a_retry(
    tmp_path: Path, set_by: timedelta, woken: bool
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        waits = await session_waiting_for_retry(bench)
        clock = SetClock(bench.clock)
        async with watching(bench, clock) as told:
            clock.off = set_by
            await bench.clock.advance(CHECK_INTERVAL_S)
            if not woken:
                assert told.awake == []
                return
            await wait_until(lambda: told.awake == [waits])
            assert timedelta() < await due_of(bench, waits) - clock.now() <= PAUSE


@pytest.mark.behaviour("SE-07")
async def test_a_session_that_was_due_when_the_clock_was_set_back_is_due_at_once(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        clock = SetClock(bench.clock)
        async with watching(bench, clock) as told:
            clock.off = -HOUR
            await bench.clock.advance(CHECK_INTERVAL_S)
            await wait_until(lambda: told.awake == [session.id])
            assert await due_of(bench, session.id) <= clock.now()


async def test_a_slowly_advancing_clock_does_not_count_as_set_back(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        await session_waiting_for_retry(bench)
        async with watching(bench, SetClock(bench.clock, rate=0.01)) as told:
            for _ in range(20):
                await bench.clock.advance(CHECK_INTERVAL_S)
                await bench.clock.wait_for_sleeper()
            assert told.awake == []


@pytest.mark.behaviour("RU-04", "SE-07")
@pytest.mark.parametrize("wrote", [True, False])
async def test_a_clock_set_back_does_not_lengthen_a_pause_of_the_model(tmp_path: Path, wrote: bool) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await session_in_backoff(bench, wrote=wrote)
        clock = SetClock(bench.clock)
        async with watching(bench, clock) as told:
            clock.off = -HOUR
            await bench.clock.advance(CHECK_INTERVAL_S)
            await wait_until(lambda: told.awake == [session.id])
        found = await turn_failures.find(bench.store, session.id)
        assert found is not None
        assert found.held_until is not None
        assert timedelta() < found.held_until - clock.now() <= PAUSE
        await bench.mailboxes.put(session, [make_message("later", bench.clock)])
        rows = await bench.mailboxes.update(session, lambda box: list(box.pending()))
        assert {row.process_after for row in rows} == {found.held_until}
        await bench.mailboxes.update(session, lambda box: box.release_hold())
        assert {
            row.process_after for row in await bench.mailboxes.update(session, lambda box: list(box.pending()))
        } == {None}


async def session_in_backoff(bench: ContainerManagerHarness, *, wrote: bool) -> Session:
    """A session in model backoff. `wrote`: a message waits for its end."""
    session = await bench.add_session("c1")
    now = bench.clock.now()
    failures = TurnFailures(
        error_class=ErrorClass.RATE_LIMITED, sentence="No.", since=now, latest_at=now, count=1, held_until=now + PAUSE
    )
    if not wrote:
        await bench.mailboxes.update(session, lambda box: box.close("m-c1", "completed"))
    await bench.mailboxes.update(session, lambda box: box.hold(now + PAUSE))
    async with bench.store.transaction() as tx:
        await turn_failures.save(tx, session.id, failures)
        due = now + PAUSE if wrote else None
        await sessions.replace_due(tx, session.id, expected=session.due_at, due=due)
    return session


@pytest.mark.behaviour("TK-02", "SE-07")
@pytest.mark.parametrize("counted", [True, False])
async def test_a_relative_task_time_moves_with_a_changed_clock_and_a_time_of_day_does_not(
    tmp_path: Path, counted: bool
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session, now = await bench.add_session("c1"), bench.clock.now()
        async with bench.store.transaction() as tx:
            task = await task_operations.create(
                tx,
                id=TaskId("j1"),
                session=session.id,
                kind=TaskKind.AGENT,
                content="look",
                out_kind=None,
                due=now + PAUSE,
                cron=None,
                timezone="UTC",
                origin=None,
                created_by="test",
                now=now,
                is_relative=counted,
            )
        clock = SetClock(bench.clock)
        async with watching(bench, clock) as told:
            clock.off = -HOUR
            await bench.clock.advance(CHECK_INTERVAL_S)
            await wait_until(lambda: bool(told.awake))
            assert told.planned == ([session.id] if counted else [])
        found = await tasks.find(bench.store, task.id)
        assert found is not None
        assert found.next_due == now + PAUSE - (HOUR if counted else timedelta())
