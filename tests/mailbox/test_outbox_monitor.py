"""When a change of a session's outbound.db is reported."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.clock import Clock, SystemClock
from nanohost.db.domain_events import OutboxChanged
from nanohost.mailbox.outbox_monitor import EVENT_COOLDOWN_S, MAX_EVENTS, OutboxMonitor
from nanohost.model import SessionId
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work.event_bus import EventBus
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import OutboundWriter

ONE = SessionId("one")
LONG_AGO = 1_000_000_000


@pytest.fixture
def layout(tmp_path: Path) -> SessionLayout:
    layout = SessionLayout(tmp_path)
    layout.out_dir.mkdir()
    return layout


class RecordedSessions:
    """Records the reported sessions."""

    def __init__(self) -> None:
        self.sessions: list[SessionId] = []
        self.something = asyncio.Event()

    def __call__(self, session: SessionId) -> None:
        self.sessions.append(session)
        self.something.set()


def changed(layout: SessionLayout, *, second: int = 0, text: str = "x") -> None:
    """A write long ago, so that its time identifies it."""
    layout.outbound_db.write_text(text)
    os.utime(layout.outbound_db, (LONG_AGO + second, LONG_AGO + second))


def told_by(told: RecordedSessions) -> EventBus:
    bus = EventBus()
    bus.subscribe(OutboxChanged, lambda event: told(event.session))
    return bus


def polling(told: RecordedSessions, clock: ManualClock | None = None) -> OutboxMonitor:
    return OutboxMonitor(clock or ManualClock(), told_by(told), interval_s=1.0, use_events=False)


def test_a_check_reports_each_change_once(layout: SessionLayout) -> None:
    told = RecordedSessions()
    news = polling(told)
    news.watch(ONE, layout)
    news.check_all()
    assert told.sessions == []
    changed(layout)
    news.check_all()
    news.check_all()
    assert told.sessions == [ONE]
    changed(layout, second=1)
    news.check_all()
    assert told.sessions == [ONE, ONE]
    changed(layout, second=1, text="longer, at the same time")
    news.check_all()
    assert told.sessions == [ONE, ONE, ONE]


def test_a_recently_changed_file_is_checked_again(layout: SessionLayout) -> None:
    told = RecordedSessions()
    news = polling(told)
    news.watch(ONE, layout)
    layout.outbound_db.write_text("x")
    news.check_all()
    assert told.sessions == [ONE]
    os.utime(layout.outbound_db, (LONG_AGO, LONG_AGO))
    news.check_all()
    news.check_all()
    assert told.sessions == [ONE, ONE]


def test_a_session_without_a_container_is_not_checked(layout: SessionLayout) -> None:
    told = RecordedSessions()
    news = polling(told)
    news.watch(ONE, layout)
    news.unwatch(ONE)
    news.unwatch(ONE)
    changed(layout)
    news.check_all()
    assert told.sessions == []


async def test_the_poll_checks_once_an_interval(layout: SessionLayout) -> None:
    told, clock = RecordedSessions(), ManualClock()
    news = polling(told, clock)
    news.watch(ONE, layout)
    changed(layout)
    poll = asyncio.create_task(news.poll())
    await clock.wait_for_sleeper()
    await clock.advance(0.9)
    assert told.sessions == []
    await clock.advance(0.2)
    assert told.sessions == [ONE]
    poll.cancel()
    await asyncio.wait([poll])


async def test_without_file_events_the_monitor_only_polls() -> None:
    news = polling(RecordedSessions())
    async with news.opened():
        assert not news.has_events


@asynccontextmanager
async def listening(told: RecordedSessions, clock: Clock | None = None) -> AsyncIterator[OutboxMonitor]:
    """File events only, without polling."""
    pytest.importorskip("asyncinotify")
    news = OutboxMonitor(clock or SystemClock(), told_by(told), interval_s=3600, use_events=True)
    async with news.opened():
        task = asyncio.create_task(news.listen())
        try:
            yield news
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_a_commit_is_noticed_without_a_poll(layout: SessionLayout) -> None:
    told = RecordedSessions()
    async with listening(told) as news:
        writer = OutboundWriter(layout.outbound_db, container_id="l", durable=False)
        news.watch(ONE, layout)
        writer.abandon_stale_claims(datetime.now(UTC))
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await told.something.wait()
        writer.close()
    assert set(told.sessions) == {ONE}


async def test_a_folder_with_too_many_events_is_left_to_the_poll_for_a_while(layout: SessionLayout) -> None:
    told, clock = RecordedSessions(), ManualClock()
    files = [layout.out_dir / name for name in ("a", "b")]
    async with listening(told, clock) as news:
        news.watch(ONE, layout)
        for number in range(2 * MAX_EVENTS):
            files[number % 2].write_text(str(number))  # alternately: the kernel merges equal events in a row
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await told.something.wait()
        told.something.clear()
        commit(layout)
        news.check_all()
        assert told.something.is_set(), "the poll finds it"
        await clock.advance(EVENT_COOLDOWN_S)
        news.check_all()
        told.something.clear()
        commit(layout)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await told.something.wait()


def commit(layout: SessionLayout) -> None:
    writer = OutboundWriter(layout.outbound_db, container_id="l", durable=False)
    writer.abandon_stale_claims(datetime.now(UTC))
    writer.close()


async def test_an_unwatched_folder_is_not_reported_and_can_be_watched_again(layout: SessionLayout) -> None:
    told = RecordedSessions()
    journal = layout.out_dir / "outbound.db-journal"
    async with listening(told) as news:
        news.watch(ONE, layout)
        news.unwatch(ONE)
        journal.write_text("")
        journal.unlink()
        news.watch(ONE, layout)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while not told.sessions:
                told.something.clear()
                journal.write_text("")
                journal.unlink()
                await told.something.wait()
    assert set(told.sessions) == {ONE}


async def test_a_missing_folder_is_left_to_the_poll(tmp_path: Path) -> None:
    async with listening(RecordedSessions()) as news:
        news.watch(ONE, SessionLayout(tmp_path / "nowhere"))
        news.check_all()
        news.unwatch(ONE)
