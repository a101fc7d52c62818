"""What a transaction emits is told to subscribers after its commit, and never when it is undone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.db.database import SavepointFailed, Store, Transaction, open_store
from nanohost.work.event_bus import EventBus, Subscription
from tests.support.recorded_events import record_events


@dataclass(frozen=True)
class Happened:
    """An event of the tests' own."""

    what: str


class Undone(Exception):
    """Raised in a transaction."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    path = tmp_path / "notes.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text TEXT)")
    db.close()
    async with open_store(path, durable=False) as store:
        yield store


async def _emit(store: Store, *texts: str, fails: bool = False) -> None:
    async with store.transaction() as tx:
        for text in texts:
            await tx.execute("INSERT INTO notes VALUES (?)", (text,))
            tx.emit(Happened(text))
        if fails:
            raise Undone


async def _fail_in_a_part(tx: Transaction) -> None:
    async with tx.savepoint():
        tx.emit(Happened("in the part"))
        raise Undone


async def _refer_to_nothing(store: Store) -> None:
    async with store.transaction() as tx:
        await tx.execute("INSERT INTO pages VALUES (1, 99)")
        tx.emit(Happened("one"))


async def test_subscribers_hear_after_the_commit_and_see_what_was_written(store: Store) -> None:
    """Each subscriber reads on a connection that sees committed rows alone."""
    seen: list[asyncio.Task[list[sqlite3.Row]]] = []
    store.bus.subscribe(Happened, lambda _: seen.append(asyncio.create_task(store.fetch_all("SELECT text FROM notes"))))
    async with store.transaction() as tx:
        await tx.execute("INSERT INTO notes VALUES ('one')")
        tx.emit(Happened("one"))
        assert seen == [], "not before"
    [read] = seen
    assert [row["text"] for row in await read] == ["one"]


async def test_what_is_undone_tells_nobody(store: Store) -> None:
    told = record_events(store.bus, Happened)
    with pytest.raises(Undone):
        await _emit(store, "one", fails=True)
    assert told == []


async def test_a_part_that_fails_tells_nobody_and_the_rest_is_told(store: Store) -> None:
    told = record_events(store.bus, Happened)
    async with store.transaction() as tx:
        tx.emit(Happened("before"))
        with pytest.raises(SavepointFailed):
            await _fail_in_a_part(tx)
        tx.emit(Happened("after"))
    assert told == [Happened("before"), Happened("after")]


async def test_of_transactions_that_share_a_commit_those_that_succeed_are_told(store: Store) -> None:
    told = record_events(store.bus, Happened)
    works = [_emit(store, f"n{number}", fails=number % 3 == 1) for number in range(9)]
    await asyncio.gather(*works, return_exceptions=True)
    assert sorted(one.what for one in told) == ["n0", "n2", "n3", "n5", "n6", "n8"]


async def test_a_commit_that_the_disk_refuses_tells_nobody(store: Store) -> None:
    told = record_events(store.bus, Happened)
    async with store.transaction() as tx:
        await tx.execute(
            "CREATE TABLE pages (id INTEGER PRIMARY KEY, page REFERENCES pages DEFERRABLE INITIALLY DEFERRED)"
        )
    with pytest.raises(sqlite3.IntegrityError):
        await _refer_to_nothing(store)
    assert told == []


async def test_whoever_is_cancelled_while_the_commit_is_under_way_is_told_of_all_the_same(store: Store) -> None:
    """The rows are there, so the event is: who waited for the commit need not be there any more."""
    told = record_events(store.bus, Happened)
    entered, release = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with store.transaction():
            entered.set()
            await release.wait()

    holder = asyncio.create_task(first())
    await entered.wait()
    writers = [asyncio.create_task(_emit(store, text)) for text in ("one", "two")]
    release.set()
    await holder
    while not told:
        await asyncio.sleep(0)
        writers[0].cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    rows = {row["text"] for row in await store.fetch_all("SELECT text FROM notes")}
    assert {one.what for one in told} == rows


def test_equal_events_are_told_once_and_in_order() -> None:
    bus = EventBus()
    told = record_events(bus, Happened)
    bus.publish(Happened("b"), Happened("a"), Happened("b"))
    assert told == [Happened("b"), Happened("a")]


def test_subscribers_hear_in_the_order_in_which_they_subscribed() -> None:
    bus, told = EventBus(), list[int]()
    for number in range(5):
        bus.subscribe(Happened, lambda _, number=number: told.append(number))  # type: ignore[misc]
    bus.publish(Happened("one"))
    assert told == [0, 1, 2, 3, 4]


def test_a_subscriber_that_fails_keeps_no_other_from_hearing() -> None:
    bus = EventBus()
    bus.subscribe(Happened, lambda event: 1 / 0)
    told = record_events(bus, Happened)
    with capture_logs() as logs:
        bus.publish(Happened("one"))
    assert told == [Happened("one")]
    assert [one["event"] for one in logs] == ["event_handler_failed"]


def test_who_is_subscribed_for_a_while_hears_nothing_afterwards() -> None:
    bus = EventBus()
    told: list[Happened] = []
    with bus.subscribed(Subscription(Happened, told.append)):
        bus.publish(Happened("one"))
    bus.publish(Happened("two"))
    assert told == [Happened("one")]
