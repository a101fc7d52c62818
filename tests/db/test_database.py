"""The single writer: transactions share commits, fail alone, and leave a working store, whatever is cancelled when."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from nanohost.db.database import MAX_REPORT_CONNECTIONS, SavepointFailed, Store, Transaction, open_store
from nanohost.errors import StoreError
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

ADD = "INSERT INTO notes (text) VALUES (?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "a b?c#d%41"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "notes.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE notes (text TEXT NOT NULL UNIQUE) STRICT")
    return folder / "notes.db"


@pytest.fixture
async def notes(path: Path) -> AsyncIterator[Store]:
    async with open_store(path, durable=False) as opened:
        yield opened


async def texts(store: Store) -> list[str]:
    return [row["text"] for row in await store.fetch_all("SELECT text FROM notes ORDER BY text")]


async def add(store: Store, *values: str, fail: bool = False) -> None:
    async with store.transaction() as tx:
        for value in values:
            await tx.execute(ADD, (value,))
        if fail:
            raise LookupError(values)


async def still_works(store: Store) -> None:
    """No lock is held, no transaction is open, and a transaction succeeds."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        await add(store, "afterwards")
    assert "afterwards" in await texts(store)
    assert not store._writer.in_transaction
    assert (store._waiting, store._group) == (0, None)


@asynccontextmanager
async def counting(store: Store) -> AsyncIterator[list[str]]:
    """The statements that reach the writer."""
    seen: list[str] = []
    await store._writer.set_trace_callback(seen.append)
    yield seen
    await store._writer.set_trace_callback(None)  # type: ignore[arg-type]


@asynccontextmanager
async def full_disk(store: Store) -> AsyncIterator[None]:
    row = next(iter(await store._writer.execute_fetchall("PRAGMA page_count")))
    await store._writer.execute_fetchall(f"PRAGMA max_page_count = {row[0]}")
    yield
    await store._writer.execute_fetchall("PRAGMA max_page_count = 1000000")


# --- transactions


async def test_a_transaction_left_without_an_exception_is_on_disk(notes: Store, path: Path) -> None:
    await add(notes, "one")
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT text FROM notes").fetchall() == [("one",)]


async def test_a_transaction_sees_its_own_writes_and_readers_do_not(notes: Store) -> None:
    async with notes.transaction() as tx:
        assert await tx.execute(ADD, ("one",)) == 1
        await tx.execute_many(ADD, [("two",), ("three",)])
        counted = await tx.fetch_one("SELECT count(*) AS n FROM notes")
        assert counted is not None
        assert counted["n"] == 3
        assert len(await tx.fetch_all("SELECT * FROM notes")) == 3
        assert await texts(notes) == []
        assert await notes.fetch_one("SELECT * FROM notes") is None
    assert await texts(notes) == ["one", "three", "two"]


async def test_an_exception_inside_rolls_the_transaction_back_and_is_raised_unchanged(notes: Store) -> None:
    with pytest.raises(LookupError):
        await add(notes, "one", fail=True)
    assert await texts(notes) == []
    await still_works(notes)


async def half(tx: Transaction, *values: str) -> None:
    async with tx.savepoint():
        for value in values:
            await tx.execute(ADD, (value,))


@pytest.mark.parametrize("others", [[], ["other"]], ids=["alone", "beside others"])
async def test_a_failing_savepoint_is_rolled_back_alone(notes: Store, others: list[str]) -> None:
    async def whole() -> None:
        async with notes.transaction() as tx:
            await tx.execute(ADD, ("before",))
            with pytest.raises(SavepointFailed) as failed:
                await half(tx, "half", "before")
            assert isinstance(failed.value.__cause__, sqlite3.IntegrityError)
            await half(tx, "after")

    await asyncio.gather(*(add(notes, other) for other in others), whole())
    assert await texts(notes) == ["after", "before", *others]
    await still_works(notes)


async def test_a_savepoint_that_meets_a_full_disk_rolls_back_the_whole_transaction(notes: Store) -> None:
    async def whole() -> None:
        async with notes.transaction() as tx:
            await tx.execute(ADD, ("before",))
            await half(tx, "x" * 100_000)

    async with full_disk(notes):
        with pytest.raises(StoreError, match="full"):
            await whole()
    assert await texts(notes) == []
    await still_works(notes)


async def test_a_violated_constraint_is_raised_as_an_integrity_error(notes: Store) -> None:
    await add(notes, "one")
    with pytest.raises(sqlite3.IntegrityError):
        await add(notes, "two", "one")
    assert await texts(notes) == ["one"]
    await still_works(notes)


async def test_bad_sql_is_a_store_error_with_a_hint(notes: Store) -> None:
    with pytest.raises(StoreError, match="refused") as caught:
        await notes.fetch_all("SELECT * FROM nothing")
    assert caught.value.hint
    with pytest.raises(StoreError):
        async with notes.transaction() as tx:
            await tx.execute("DELETE FROM nothing")
    await still_works(notes)


async def test_the_read_connection_cannot_write(notes: Store) -> None:
    with pytest.raises(StoreError):
        await notes.fetch_all("DELETE FROM notes")


async def test_a_cancelled_read_does_not_make_the_next_one_stale(notes: Store) -> None:
    await add(notes, "one", "two")
    for number in range(20):
        read = asyncio.ensure_future(notes.fetch_one("SELECT text FROM notes"))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        read.cancel()
        await asyncio.gather(read, return_exceptions=True)
        await add(notes, f"new{number:02}")
        assert f"new{number:02}" in await texts(notes)


# --- batches


async def test_simultaneous_transactions_share_commits(notes: Store) -> None:
    async with counting(notes) as statements:
        await asyncio.gather(*(add(notes, f"{number:02}") for number in range(32)))
    assert len(await texts(notes)) == 32
    assert sum(statement == "COMMIT" for statement in statements) <= 2


async def test_an_endless_stream_of_transactions_is_committed_in_between(notes: Store) -> None:
    async with counting(notes) as statements:
        await asyncio.gather(*(add(notes, f"{number:04}") for number in range(600)))
    assert len(await texts(notes)) == 600
    assert 3 <= sum(statement == "COMMIT" for statement in statements) <= 5


@pytest.mark.parametrize("failing", [{0}, {31}, {0, 31}, set(range(0, 32, 2)), set(range(32))], ids=range(5))
async def test_a_failing_member_of_a_batch_does_not_affect_others(notes: Store, failing: set[int]) -> None:
    results = await asyncio.gather(
        *(add(notes, f"{number:02}", fail=number in failing) for number in range(32)), return_exceptions=True
    )
    assert {number for number, result in enumerate(results) if result is not None} == failing
    assert await texts(notes) == [f"{number:02}" for number in range(32) if number not in failing]
    await still_works(notes)


# --- cancellation


@pytest.mark.parametrize("role", ["first", "middle", "last", "all"])
@pytest.mark.parametrize("steps", range(12))
async def test_a_member_cancelled_at_any_step_does_not_affect_others(notes: Store, role: str, steps: int) -> None:
    tasks = [asyncio.create_task(add(notes, f"{number}a", f"{number}b")) for number in range(4)]
    await asyncio.sleep(0)
    for _ in range(steps):
        await notes._writer.execute_fetchall("SELECT 1")  # one step of the writer's thread
    chosen = {"first": tasks[:1], "middle": tasks[1:3], "last": tasks[3:], "all": tasks}[role]
    for task in chosen:
        task.cancel()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = await texts(notes)
    for number, result in enumerate(results):
        assert (f"{number}a" in kept) == (f"{number}b" in kept)
        if result is None:
            assert f"{number}a" in kept
    assert all(result is None for task, result in zip(tasks, results, strict=True) if task not in chosen)
    await still_works(notes)


async def test_repeated_cancellations_and_failures_leave_only_whole_transactions(notes: Store) -> None:
    chance = random.Random(11)
    done: set[str] = set()

    async def member(name: str) -> None:
        await add(notes, f"{name}a", f"{name}b", fail=chance.random() < 0.2)
        done.add(name)

    for batch in range(30):
        tasks = [asyncio.create_task(member(f"{batch:02}-{number}-")) for number in range(12)]
        while any(not task.done() for task in tasks):
            for task in chance.sample(tasks, 2):
                if chance.random() < 0.3:
                    task.cancel()  # some of them twice, during the rollback
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            await asyncio.wait(tasks, timeout=0)
        await asyncio.gather(*tasks, return_exceptions=True)
    kept = await texts(notes)
    wholes = {text[:-1] for text in kept}
    assert sorted(kept) == sorted(whole + part for whole in wholes for part in "ab")
    assert done <= wholes
    await still_works(notes)


async def test_cancelling_the_committing_member_of_a_batch_leaves_no_other_waiting(notes: Store) -> None:
    inside, go = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with notes.transaction() as tx:
            await tx.execute(ADD, ("slow",))
            inside.set()
            await go.wait()

    first = asyncio.create_task(slow())
    await inside.wait()
    second = asyncio.create_task(add(notes, "second"))
    await asyncio.sleep(0)
    go.set()
    await notes._writer.execute_fetchall("SELECT 1")
    second.cancel()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        await first
    await asyncio.gather(second, return_exceptions=True)
    assert "slow" in await texts(notes)
    await still_works(notes)


async def test_a_second_cancellation_during_a_rollback_does_not_admit_the_next_too_early(notes: Store) -> None:
    inside = asyncio.Event()

    async def stuck() -> None:
        async with notes.transaction() as tx:
            await tx.execute(ADD, ("stuck",))
            inside.set()
            await asyncio.Event().wait()

    first = asyncio.create_task(add(notes, "first"))
    stubborn = asyncio.create_task(stuck())
    await inside.wait()
    last = asyncio.create_task(add(notes, "last", fail=True))
    await asyncio.sleep(0)
    while not stubborn.done():
        stubborn.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        results = await asyncio.gather(first, last, return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], LookupError)
    assert await texts(notes) == ["first"]
    await still_works(notes)


# --- a full disk


async def test_a_full_disk_is_a_store_error_and_the_store_works_again_with_free_space(notes: Store) -> None:
    async with full_disk(notes):
        with pytest.raises(StoreError, match="full"):
            await add(notes, "x" * 100_000)
    assert await texts(notes) == []
    await still_works(notes)


@pytest.mark.parametrize("big", range(5))
async def test_a_full_disk_is_reported_to_exactly_those_whose_rows_are_missing(notes: Store, big: int) -> None:
    async with full_disk(notes):
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            results = await asyncio.gather(
                *(add(notes, f"{number}" + "x" * (100_000 if number == big else 0)) for number in range(5)),
                return_exceptions=True,
            )
    kept = {text[0] for text in await texts(notes)}
    assert kept == {str(number) for number, result in enumerate(results) if result is None}
    assert all(result is None or isinstance(result, StoreError) for result in results)
    await still_works(notes)


async def test_a_failing_commit_is_reported_to_every_member_of_the_batch(notes: Store) -> None:
    await notes._writer.execute_fetchall("PRAGMA foreign_keys = ON")
    async with notes.transaction() as tx:
        await tx.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        await tx.execute("CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")

    async def orphan() -> None:
        async with notes.transaction() as tx:
            await tx.execute("INSERT INTO children VALUES (7)")

    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        results = await asyncio.gather(add(notes, "one"), orphan(), add(notes, "two"), return_exceptions=True)
    assert all(isinstance(result, sqlite3.IntegrityError) for result in results)
    assert await texts(notes) == []
    await still_works(notes)


async def test_a_failing_commit_whose_caller_is_cancelled_does_not_touch_the_next_transaction(notes: Store) -> None:
    async with notes.transaction() as tx:
        await tx.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        await tx.execute("CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
    leaving = asyncio.Event()

    async def orphan() -> None:
        async with notes.transaction() as tx:
            await tx.execute("INSERT INTO children VALUES (7)")
            leaving.set()

    first = asyncio.create_task(orphan())
    await leaving.wait()
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        await add(notes, "next")
        await asyncio.gather(first, return_exceptions=True)
    assert await texts(notes) == ["next"]
    await still_works(notes)


# --- closing


async def test_closing_waits_for_open_transactions_and_refuses_new_ones(path: Path) -> None:
    async with open_store(path, durable=False) as store:
        early = [asyncio.create_task(add(store, f"{number}")) for number in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*early)
    with pytest.raises(StoreError, match="closed"):
        await add(store, "late")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM notes").fetchone() == (5,)


async def test_closing_after_an_exception_also_waits_for_open_transactions(path: Path) -> None:
    early: list[asyncio.Task[None]] = []
    with suppress(RuntimeError):
        async with open_store(path, durable=False) as store:
            early += [asyncio.create_task(add(store, f"{number}")) for number in range(5)]
            await asyncio.sleep(0)
            raise RuntimeError
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        await asyncio.gather(*early)


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@asynccontextmanager
async def endless_reports(store: Store, count: int) -> AsyncIterator[list[asyncio.Task[list[sqlite3.Row]]]]:
    """Reports that never end, until they are cancelled."""
    reports = [asyncio.create_task(store.reports.fetch_all(ENDLESS)) for _ in range(count)]
    while len(store.reports._connections) < min(count, MAX_REPORT_CONNECTIONS) or store.reports._idle:  # noqa: ASYNC110
        await asyncio.sleep(0)
    try:
        yield reports
    finally:
        for report in reports:
            report.cancel()
        await asyncio.gather(*reports, return_exceptions=True)


async def test_endless_reports_do_not_delay_a_write(notes: Store) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), endless_reports(notes, MAX_REPORT_CONNECTIONS):
        await add(notes, "a message")
        assert await texts(notes) == ["a message"]


async def test_reports_do_not_wait_for_each_other(notes: Store) -> None:
    await add(notes, "a message")
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), endless_reports(notes, MAX_REPORT_CONNECTIONS - 1):
        assert [row["text"] for row in await notes.reports.fetch_all("SELECT text FROM notes")] == ["a message"]


async def test_a_cancelled_report_frees_its_connection(notes: Store) -> None:
    async with (
        asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)),
        endless_reports(notes, MAX_REPORT_CONNECTIONS) as reports,
    ):
        waiting = asyncio.create_task(notes.reports.fetch_one("SELECT 1 AS it"))
        reports[0].cancel()
        row = await waiting
        assert row is not None
        assert row["it"] == 1


async def test_a_report_sees_the_latest_commit_and_writes_nothing(notes: Store) -> None:
    await add(notes, "one")
    assert len(await notes.reports.fetch_all("SELECT * FROM notes")) == 1
    await add(notes, "two")
    assert len(await notes.reports.fetch_all("SELECT * FROM notes")) == 2
    with pytest.raises(StoreError, match="readonly"):
        await notes.reports.fetch_all("DELETE FROM notes")


async def test_a_store_can_be_closed_while_a_report_is_read(path: Path) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        async with open_store(path, durable=False) as store:
            report = asyncio.create_task(store.reports.fetch_all(ENDLESS))
            while not store.reports._connections or store.reports._idle:  # noqa: ASYNC110
                await asyncio.sleep(0)
        with pytest.raises(StoreError, match="interrupted"):
            await report


async def test_a_stream_of_transactions_does_not_delay_a_commit(notes: Store) -> None:
    others: list[asyncio.Task[None]] = []

    async def one_more() -> None:
        async with notes.transaction() as tx:
            await tx.execute(ADD, (f"theirs {len(others)}",))
            if len(others) < 200:  # somebody waits at each moment
                others.append(asyncio.create_task(one_more()))
                await asyncio.sleep(0)

    others.append(asyncio.create_task(one_more()))
    await add(notes, "mine")
    came_first = len(others)
    while unfinished := [one for one in others if not one.done()]:
        await asyncio.wait(unfinished)
    assert came_first <= 10, f"{came_first} transactions of others came first"
    assert len(await texts(notes)) == 201


async def test_store_threads_are_named_after_the_file(notes: Store, path: Path) -> None:
    await notes.reports.fetch_one("SELECT 1")
    names = [thread.name for thread in threading.enumerate()]
    assert (names.count(f"writer of {path}"), names.count(f"reader of {path}")) == (1, 2)
