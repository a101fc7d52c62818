"""The host's half of the two files: the guarantees for its callers."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from nanohost.db.domain_events import MailboxBlocked
from nanohost.errors import MailboxError
from nanohost.mailbox import mailboxes as mailboxes_module
from nanohost.mailbox import queries
from nanohost.mailbox.backoff import MAX_BACKOFF_S, MAX_LOCKED_S
from nanohost.mailbox.mailboxes import THREAD_COUNT, Mailboxes
from nanohost.model import Session, SessionId
from nanohost.testing.manual_clock import START, ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work.event_bus import EventBus
from nanohost_protocol.outbound import OutboundWriter
from nanohost_protocol.times import to_text
from tests.support.session_values import SESSION


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


@pytest.fixture
async def mailboxes(tmp_path: Path, clock: ManualClock, bus: EventBus) -> AsyncIterator[Mailboxes]:
    boxes = Mailboxes(tmp_path, durable=False, clock=clock, bus=bus)
    async with boxes.opened():
        _make(boxes, SESSION)
        yield boxes


def _make(boxes: Mailboxes, session: Session) -> None:
    layout = boxes.layout(session)
    layout.out_dir.mkdir(parents=True)
    OutboundWriter(layout.outbound_db, container_id="l", durable=False).close()


def _run(mailboxes: Mailboxes, insert_turn: str) -> None:
    with closing(sqlite3.connect(mailboxes.layout(SESSION).outbound_db)) as database, database:
        database.execute(insert_turn, ("t", json.dumps(["\ud800"]), to_text(START)))


def _locked(mailboxes: Mailboxes, session: Session = SESSION) -> sqlite3.Connection:
    """Holds the write lock of the session's outbound.db until it is closed."""
    connection = sqlite3.connect(mailboxes.layout(session).outbound_db, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    return connection


async def test_an_unexpected_error_in_a_file_is_an_error_of_its_session(mailboxes: Mailboxes) -> None:
    # A lone surrogate, which no text from the reader can contain.
    _run(mailboxes, "INSERT INTO turns (turn_id, attempt, message_ids, started_at) VALUES (?, 1, ?, ?)")
    with pytest.raises(MailboxError, match=r"s1 of main.*cannot be read: UnicodeEncodeError"):
        await mailboxes.read_outbound(SESSION, queries.turns())


async def test_a_locked_outbound_db_reads_as_unchanged_and_is_retried_with_growing_pauses(
    mailboxes: Mailboxes, clock: ManualClock
) -> None:
    told: list[SessionId] = []
    looks = 0
    retrying = asyncio.create_task(mailboxes.run_retries(told.append))
    with closing(_locked(mailboxes)):
        for _ in range(400):
            before = mailboxes.read_count
            assert await mailboxes.read_outbound(SESSION, queries.open_claims()) is None
            looks += mailboxes.read_count - before
            await clock.advance(0.05)
    assert looks < 20, "in twenty seconds"
    assert told, "somebody is told to look again"
    await clock.advance(MAX_LOCKED_S)
    assert await mailboxes.read_outbound(SESSION, queries.open_claims()) == []
    retrying.cancel()


async def test_ten_sessions_with_locked_files_do_not_delay_reads_of_another(
    mailboxes: Mailboxes, clock: ManualClock
) -> None:
    """Only the first read of a locked file waits, and soon reads become rare."""
    ten = [replace(SESSION, id=SessionId(f"locks-{number}")) for number in range(10)]
    in_vain = 0
    with ExitStack() as locks:
        for one in ten:
            _make(mailboxes, one)
            locks.enter_context(closing(_locked(mailboxes, one)))
        for _ in range(100):
            before = mailboxes.read_count
            for one in ten:
                assert await mailboxes.read_outbound(one, queries.open_claims()) is None
            in_vain += mailboxes.read_count - before
            assert await mailboxes.read_outbound(SESSION, queries.open_claims()) == []
            await clock.advance(0.1)
    assert in_vain <= 10 * len(ten), "in a thousand tries within ten seconds"


async def test_idle_sessions_leave_nothing_in_memory(mailboxes: Mailboxes) -> None:
    """There may be one for every thread ever, and all of them are read when a host starts."""
    before = _locks()
    for number in range(100):
        one = replace(SESSION, id=SessionId(f"rests-{number}"))
        assert await mailboxes.read_outbound(one, queries.open_claims()) is None
        await mailboxes.update(one, lambda box: box.set_meta({}))
    assert _locks() - before < 10


def _locks() -> int:
    gc.collect()
    return sum(isinstance(one, asyncio.Lock) for one in gc.get_objects())


async def test_a_session_that_keeps_its_file_locked_is_reported(
    mailboxes: Mailboxes, clock: ManualClock, bus: EventBus
) -> None:
    named: dict[SessionId, str] = {}
    bus.subscribe(MailboxBlocked, lambda event: named.__setitem__(event.session, event.reason))
    with closing(_locked(mailboxes)):
        while clock.monotonic() < MAX_LOCKED_S:
            await mailboxes.read_outbound(SESSION, queries.open_claims())
            assert not named
            await clock.advance(1)
        await clock.advance(MAX_BACKOFF_S)
        await mailboxes.read_outbound(SESSION, queries.open_claims())
    assert "outbound.db has been locked for" in named[SESSION.id]


async def test_a_session_whose_container_stopped_is_read_at_once(mailboxes: Mailboxes) -> None:
    with closing(_locked(mailboxes)):
        for _ in range(10):
            await mailboxes.read_outbound(SESSION, queries.open_claims())
    mailboxes.reset_backoff(SESSION.id)
    assert await mailboxes.read_outbound(SESSION, queries.open_claims()) == []


async def test_a_lock_on_inbound_db_blocks_no_thread_and_is_reported(
    mailboxes: Mailboxes, clock: ManualClock, bus: EventBus
) -> None:
    named: dict[SessionId, str] = {}
    bus.subscribe(MailboxBlocked, lambda event: named.__setitem__(event.session, event.reason))
    await mailboxes.update(SESSION, lambda box: box.set_meta({"a": "b"}))
    with closing(sqlite3.connect(mailboxes.layout(SESSION).inbound_db, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        for _ in range(4):
            with pytest.raises(MailboxError, match="held by the other side"):
                await mailboxes.update(SESSION, lambda box: box.set_meta({"a": "c"}))
            await clock.advance(MAX_LOCKED_S / 3 + 1)
    assert "inbound.db has been locked for" in named[SESSION.id]
    await mailboxes.update(SESSION, lambda box: box.set_meta({"a": "c"}))


async def test_work_in_a_containers_folders_blocks_nothing_else(mailboxes: Mailboxes) -> None:
    hangs = threading.Event()
    hanging = [asyncio.create_task(mailboxes.run_in_folder_pool(hangs.wait)) for _ in range(3 * THREAD_COUNT)]
    try:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await mailboxes.update(SESSION, lambda box: box.set_meta({"agent_name": "main"}))
            await mailboxes.read_inbound(SESSION, lambda box: None)
            assert await mailboxes.read_outbound(SESSION, queries.open_claims()) == []
            assert await asyncio.to_thread(lambda: "others go on") == "others go on"
    finally:
        hangs.set()
        await asyncio.gather(*hanging)


async def test_an_unresponsive_folder_is_waited_for_with_a_timeout(
    mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailboxes_module, "FOLDER_TIMEOUT_S", 0.01)
    hangs = threading.Event()
    try:
        with pytest.raises(OSError, match="timed out"):
            await mailboxes.run_in_folder_pool(hangs.wait)
    finally:
        hangs.set()
