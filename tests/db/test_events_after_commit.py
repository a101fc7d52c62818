"""Events of a transaction reach subscribers after its commit, and never after a rollback."""

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


async def test_subscribers_are_called_after_the_commit_and_see_the_written_rows(store: Store) -> None:
    """Each subscriber reads on a connection that sees committed rows only."""
    seen: list[asyncio.Task[list[sqlite3.Row]]] = []
    store.bus.subscribe(Happened, lambda _: seen.append(asyncio.create_task(store.fetch_all("SELECT text FROM notes"))))
    async with store.transaction() as tx:
        await tx.execute("INSERT INTO notes VALUES ('one')")
        tx.emit(Happened("one"))
        assert seen == [], "not before"
    [read] = seen
    assert [row["text"] for row in await read] == ["one"]


async def test_a_rolled_back_transaction_emits_no_event(store: Store) -> None:
    told = record_events(store.bus, Happened)
    with pytest.raises(Undone):
        await _emit(store, "one", fails=True)
    assert told == []


async def test_a_failing_savepoint_emits_no_event_and_the_rest_is_emitted(store: Store) -> None:
    told = record_events(store.bus, Happened)
    async with store.transaction() as tx:
        tx.emit(Happened("before"))
        with pytest.raises(SavepointFailed):
            await _fail_in_a_part(tx)
        tx.emit(Happened("after"))
    assert told == [Happened("before"), Happened("after")]


async def test_of_transactions_in_one_commit_those_that_succeed_emit_their_events(store: Store) -> None:
    told = record_events(store.bus, Happened)
    works = [_emit(store, f"n{number}", fails=number % 3 == 1) for number in range(9)]
    await asyncio.gather(*works, return_exceptions=True)
    assert sorted(one.what for one in told) == ["n0", "n2", "n3", "n5", "n6", "n8"]


async def test_a_refused_commit_emits_no_event(store: Store) -> None:
    told = record_events(store.bus, Happened)
    async with store.transaction() as tx:
        await tx.execute(
            "CREATE TABLE pages (id INTEGER PRIMARY KEY, page REFERENCES pages DEFERRABLE INITIALLY DEFERRED)"
        )
    with pytest.raises(sqlite3.IntegrityError):
        await _refer_to_nothing(store)
    assert told == []


async def test_a_transaction_cancelled_during_its_commit_still_emits_its_event(store: Store) -> None:
    """The rows are committed, so the event is emitted, even if the transaction's task is cancelled."""
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


def test_equal_events_are_delivered_once_in_order() -> None:
    bus = EventBus()
    told = record_events(bus, Happened)
    bus.publish(Happened("b"), Happened("a"), Happened("b"))
    assert told == [Happened("b"), Happened("a")]


def test_subscribers_are_called_in_order_of_subscription() -> None:
    bus, told = EventBus(), list[int]()
    for number in range(5):
        bus.subscribe(Happened, lambda _, number=number: told.append(number))  # type: ignore[misc]
    bus.publish(Happened("one"))
    assert told == [0, 1, 2, 3, 4]


def test_a_failing_subscriber_does_not_affect_others() -> None:
    bus = EventBus()
    bus.subscribe(Happened, lambda event: 1 / 0)
    told = record_events(bus, Happened)
    with capture_logs() as logs:
        bus.publish(Happened("one"))
    assert told == [Happened("one")]
    assert [one["event"] for one in logs] == ["event_handler_failed"]


def test_a_temporary_subscription_receives_nothing_afterwards() -> None:
    bus = EventBus()
    told: list[Happened] = []
    with bus.subscribed(Subscription(Happened, told.append)):
        bus.publish(Happened("one"))
    bus.publish(Happened("two"))
    assert told == [Happened("one")]
