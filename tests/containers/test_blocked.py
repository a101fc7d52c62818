"""A session that blocks the host's access to its mailbox is stopped, and held when it does so repeatedly."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from nanohost.containers.hold_service import HOLD_NOTICE
from nanohost.containers.pool import MAX_STOPS, WINDOW_S, MailboxStopCounter
from nanohost.db import holds
from nanohost.mailbox.backoff import MAX_BACKOFF_S, MAX_LOCKED_S
from nanohost.model import Session, SessionId
from nanohost.runtimes.runtime_api import Container
from nanohost_protocol.outbound import OutboundWriter
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager
from tests.containers.test_hold_service import (
    check_health,
    has_an_owner,
    hold,
    notices,
    release,
    wait_until_idle,
    write_message,
)
from tests.containers.test_manager import has_started
from tests.support.invariants import wait_until

WHY = "its outbound.db has been locked for 8 s"


async def start_container(bench: ContainerManagerHarness, session: Session, number: int) -> None:
    """Wait until its container with this number runs."""
    bench.manager._start_backoff.reset(session.id)
    bench.manager.wake(session.id)
    await wait_until(partial(has_started, bench, number))
    await wait_until_idle(bench)


async def is_stopped(bench: ContainerManagerHarness, session: Session, why: str = WHY) -> None:
    bench.manager.stop_for_blocked_mailbox(session.id, why)
    await wait_until(lambda: not bench.manager.containers())
    await wait_until_idle(bench)


async def is_held(bench: ContainerManagerHarness, session: Session) -> bool:
    return await holds.find(bench.store, session.id) is not None


@pytest.mark.behaviour("SE-06")
async def test_a_session_stopped_for_its_mailbox_three_times_in_an_hour_is_held_with_notices(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        await has_an_owner(bench)
        session = await bench.add_session("a")
        for number in range(1, MAX_STOPS + 1):
            assert not await is_held(bench, session)
            await start_container(bench, session, number)
            await is_stopped(bench, session)
        await write_message(bench, session, "more")
        assert (bench.runtime.living, len(bench.runtime.started_specs)) == ([], MAX_STOPS)
        reason = f"{WHY}; within an hour it has kept the host from its mailbox {MAX_STOPS} times"
        (row,) = await holds.list_for_status(bench.store.reports)
        assert (row["session"], row["by"], row["reason"]) == (session.id, "host", reason)
        owner = f"Session {session.id} is on hold: {reason}. To release it: nanohost sessions release {session.id}"
        assert ("d", owner) in await notices(bench)
        assert ("a", HOLD_NOTICE) in await notices(bench)


@pytest.mark.behaviour("SE-06", "SE-07")
async def test_the_stop_that_causes_a_hold_is_not_a_failure_in_status(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        for number in range(1, MAX_STOPS + 1):
            await start_container(bench, session, number)
            await is_stopped(bench, session)
        assert bench.manager.failures() == {}


async def test_releasing_a_session_resets_its_count_of_stops(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        for number in range(1, MAX_STOPS + 1):
            await start_container(bench, session, number)
            await is_stopped(bench, session)
        await release(bench, session)
        await wait_until(partial(has_started, bench, MAX_STOPS + 1))
        await wait_until_idle(bench)
        await is_stopped(bench, session)
        assert not await is_held(bench, session)


def test_stops_of_other_sessions_and_of_an_hour_ago_do_not_count() -> None:
    stops, one, other = MailboxStopCounter(), SessionId("s1"), SessionId("s2")
    assert [stops.record_stop(one, now) for now in (0.0, 1.0)] == [1, 2]
    assert stops.record_stop(other, 2.0) == 1
    assert [stops.record_stop(one, now) for now in (WINDOW_S, WINDOW_S + 1)] == [2, 2]


def test_stops_outside_the_window_are_forgotten() -> None:
    stops = MailboxStopCounter()
    for number in range(1_000):
        stops.record_stop(SessionId(f"s{number}"), number * WINDOW_S / 10)
    assert len(stops._stops) == 10


async def test_a_container_that_crashes_repeatedly_does_not_cause_a_hold(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        for number in range(1, 2 * MAX_STOPS):
            await start_container(bench, session, number)
            bench.runtime.exit_container(bench.runtime.living[0])
            await wait_until(lambda: not bench.manager.containers())
            await wait_until_idle(bench)
        assert not await is_held(bench, session)


@pytest.mark.behaviour("SE-06")
async def test_a_file_refused_during_a_health_check_counts_towards_a_hold(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        for number in range(1, MAX_STOPS):
            await start_container(bench, session, number)
            await is_stopped(bench, session)
        await start_container(bench, session, MAX_STOPS)
        bench.mailboxes.layout(session).outbound_db.write_bytes(b"no database " * 1000)
        for _ in range(20):
            await check_health(bench, session)
            await wait_until_idle(bench)
        assert await is_held(bench, session)


@pytest.mark.behaviour("SE-06")
async def test_a_session_that_keeps_its_file_locked_in_each_container_is_held(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        outbound = bench.mailboxes.layout(session).outbound_db
        OutboundWriter(outbound, container_id="l", durable=False).close()
        for number in range(1, MAX_STOPS + 1):
            await start_container(bench, session, number)
            with closing(sqlite3.connect(outbound, isolation_level=None)) as locker:
                locker.execute("PRAGMA locking_mode = EXCLUSIVE")
                locker.execute("BEGIN EXCLUSIVE")
                await stops_answering(bench, session.id)
            await wait_until(lambda: not bench.manager.containers())
            await wait_until_idle(bench)
        assert await is_held(bench, session)


async def stops_answering(bench: ContainerManagerHarness, session: SessionId) -> None:
    """Check the session regularly until its container is stopped."""
    for _ in range(50):
        if not bench.manager.containers():
            return
        bench.manager.on_outbox_changed(session)
        await wait_until(lambda: not bench.manager._ack_workers.active_count())
        await bench.clock.advance(min(MAX_BACKOFF_S, MAX_LOCKED_S / 4))
    raise AssertionError("nobody stops it")


async def test_the_chat_is_notified_of_a_hold_once_its_container_is_gone_and_the_mailbox_writable(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, SlowToStopRuntime()) as bench:
        runtime = bench.runtime
        assert isinstance(runtime, SlowToStopRuntime)
        session = await bench.add_session("a")
        for number in range(1, MAX_STOPS):
            await start_container(bench, session, number)
            await is_stopped(bench, session)
        await start_container(bench, session, MAX_STOPS)
        with closing(sqlite3.connect(bench.mailboxes.layout(session).inbound_db, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM meta").fetchall()
            runtime.may_go.clear()
            bench.manager.stop_for_blocked_mailbox(session.id, WHY)
            await wait_until(lambda: not bench.manager._hold_workers.active_count())
            assert HOLD_NOTICE not in [text for _, text in await notices(bench)]
        runtime.may_go.set()
        await wait_until(lambda: not bench.manager.containers())
        await wait_until_idle(bench)
        assert ("a", HOLD_NOTICE) in await notices(bench)


async def test_a_session_released_before_any_notice_gets_the_backoff_of_a_crashed_container(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        with closing(sqlite3.connect(bench.mailboxes.layout(session).inbound_db, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM meta").fetchall()
            await hold(bench, session)
        await release(bench, session)
        for number in range(1, 3):
            await start_container(bench, session, number)
            bench.runtime.exit_container(bench.runtime.living[0])
            await wait_until(lambda: not bench.manager.containers())
            await wait_until_idle(bench)
            assert session.id in bench.manager.failures()


async def test_a_hold_that_the_database_refuses_is_recorded_later(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        async with bench.store.transaction() as tx:
            await tx.execute("CREATE TRIGGER full BEFORE INSERT ON holds BEGIN SELECT RAISE(FAIL, 'disk full'); END")
        for number in range(1, MAX_STOPS + 1):
            await start_container(bench, session, number)
            bench.manager.stop_for_blocked_mailbox(session.id, WHY)
            await wait_until(lambda: not bench.manager.containers())
        await bench.clock.wait_for_sleeper()
        async with bench.store.transaction() as tx:
            await tx.execute("DROP TRIGGER full")
        await bench.clock.advance(1)
        await wait_until_idle(bench)
        assert await is_held(bench, session)


class SlowToStopRuntime(FakeRuntime):
    """A container that does not end at once when it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = asyncio.Event()
        self.may_go.set()

    async def stop(self, container: Container, *, grace_s: float) -> None:
        await self.may_go.wait()
        await super().stop(container, grace_s=grace_s)
