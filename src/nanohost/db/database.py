"""The central database: one file, one process, one writer.

Promises: a transaction that ends without an exception is on disk. Transactions that wait for each other are committed
together (one sync for all of them), and each still fails alone. Reads see committed data only. Lists, reports and
status use their own connections (`Store.reports`), so that no message waits for them. Events that a transaction emits
are delivered to subscribers after its commit (`Store.bus`).
Never: writes outside `transaction`, or builds SQL from values.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import aiosqlite

from nanohost.errors import StoreError
from nanohost.work.event_bus import EventBus

Value = str | int | float | None
Values = Sequence[Value] | Mapping[str, Value]

BUSY_TIMEOUT_S = 5.0
"""Only a person with a database shell can lock the database, since one process uses it."""
FETCH_SIZE = 64
"""The default of aiosqlite; we fetch all rows at once."""
MAX_REPORT_CONNECTIONS = 4
"""Concurrent reads of lists and reports; more wait. Each has a thread and a page cache of 2 MB."""
PROGRESS_STEPS = 10_000
"""Steps of SQLite's virtual machine (half a millisecond) after which a report checks whether it was cancelled."""
MAX_GROUP_SIZE = 256
"""A group is committed at this size even if more transactions wait, so that none waits for ever."""


CORRUPTION_ERRORS = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_READONLY_DBMOVED")
"""Errors that are permanent. A full or read-only disk is not one: the database works again once there is space."""


class Queries(Protocol):
    """Runs queries: the store outside a transaction, or a transaction, which sees its own writes."""

    async def fetch_one(self, sql: str, values: Values = ()) -> sqlite3.Row | None: ...

    async def fetch_all(self, sql: str, values: Values = ()) -> list[sqlite3.Row]: ...


async def database_path(db: Queries) -> Path:
    """Returns the path of the database, for a caller that only has a transaction."""
    row = await db.fetch_one("PRAGMA database_list")
    assert row is not None, "an open database is listed"
    return Path(row["file"])


class SavepointFailed(Exception):
    """A part of a transaction was rolled back; `__cause__` is the exception that was raised in it."""


class Transaction:
    """The write side, inside `Store.transaction`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._db = connection
        self.emitted: list[object] = []
        """Events to publish after the commit."""

    def emit(self, *events: object) -> None:
        """Emit events (see domain_events.py). They are delivered after the commit, and dropped if this transaction, or
        the current savepoint, is rolled back."""
        self.emitted.extend(events)

    async def fetch_one(self, sql: str, values: Values = ()) -> sqlite3.Row | None:
        """The first row, or None."""
        return next(iter(await self._db.execute_fetchall(sql, values)), None)

    async def fetch_all(self, sql: str, values: Values = ()) -> list[sqlite3.Row]:
        return list(await self._db.execute_fetchall(sql, values))

    async def execute(self, sql: str, values: Values = ()) -> int:
        """Run a statement that changes rows. Returns how many."""
        async with self._db.execute(sql, values) as cursor:
            return cursor.rowcount

    async def execute_many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run one statement for each of many value lists."""
        async with self._db.executemany(sql, rows):
            pass

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction that can fail alone; not nested. If an exception is raised inside, rolls the part
        back and raises SavepointFailed from it; the transaction can continue. If SQLite has rolled back the whole
        transaction, the original exception is raised."""
        await self.execute("SAVEPOINT part")
        emitted = len(self.emitted)
        try:
            yield
        except Exception as error:
            del self.emitted[emitted:]
            if not self._db.in_transaction:
                raise
            await self.execute("ROLLBACK TO part")
            await self.execute("RELEASE part")
            raise SavepointFailed from error
        await self.execute("RELEASE part")


class _CommitGroup:
    """Transactions that share a commit: the first one, and those that waited when it ended. Later ones join the next
    group; otherwise a stream of transactions would delay the commit without end."""

    def __init__(self) -> None:
        self.members = 0
        self.max_members = MAX_GROUP_SIZE
        self.emitted: list[object] = []
        self.committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        """Make every member raise the error."""
        self.committed.set_exception(error)
        self.committed.exception()  # no warning if there is no member left to raise it


class ReportReader:
    """Reads for lists, reports and status, which may scan the whole database. Each read has its own connection, so that
    no message, poll or sweep waits for it, and a report waits only while MAX_REPORT_CONNECTIONS run. A read is
    interrupted when its caller is cancelled. Raises StoreError.
    """

    def __init__(self, path: Path, translate_errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._path = path
        self._translated_errors = translate_errors
        self._slots = asyncio.Semaphore(MAX_REPORT_CONNECTIONS)
        self._idle: list[aiosqlite.Connection] = []
        self._connections: list[aiosqlite.Connection] = []
        self._is_closed = False

    async def fetch_one(self, sql: str, values: Values = ()) -> sqlite3.Row | None:
        """The first row, or None."""
        return next(iter(await self.fetch_all(sql, values)), None)

    async def fetch_all(self, sql: str, values: Values = ()) -> list[sqlite3.Row]:
        is_over = False

        def should_interrupt() -> int:
            return int(is_over or self._is_closed)

        with self._translated_errors():
            async with self._slots:
                if self._is_closed:
                    raise StoreError("the central database is closed")
                connection = self._idle.pop() if self._idle else await self._open()
                try:
                    # Not interrupt(): it has no effect on a statement that its thread has not begun yet.
                    await connection.set_progress_handler(should_interrupt, PROGRESS_STEPS)
                    return list(await connection.execute_fetchall(sql, values))
                finally:
                    is_over = True
                    self._idle.append(connection)

    async def _open(self) -> aiosqlite.Connection:
        connection = await _connect_reader(self._path)
        connection.row_factory = sqlite3.Row
        self._connections.append(connection)
        return connection

    async def close(self) -> None:
        """Interrupt the running reads and close every connection."""
        self._is_closed = True
        for _ in range(MAX_REPORT_CONNECTIONS):
            await self._slots.acquire()
        for connection in self._connections:
            await connection.close()
        for _ in range(MAX_REPORT_CONNECTIONS):
            self._slots.release()


class Store:
    """The open database. Made by `open_store`."""

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection, path: Path) -> None:
        self._writer = writer
        self._reader = reader
        self._reports = ReportReader(path, self._translated_errors)
        self.bus = EventBus()
        """Delivers the events of this store's transactions after their commit."""
        self._write_lock = asyncio.Lock()
        self._waiting = 0
        self._group: _CommitGroup | None = None
        self._pending_commit: asyncio.Future[None] | None = None
        self._is_closed = False
        self._corruption = ""

    @property
    def reports(self) -> ReportReader:
        """The reader for lists, reports and status."""
        return self._reports

    @property
    def corruption(self) -> str:
        """SQLite's error when it first found the file to be corrupt; empty while it is intact."""
        return self._corruption

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        with translated_errors():
            try:
                yield
            except sqlite3.Error as error:
                name = str(getattr(error, "sqlite_errorname", ""))  # errors of Python's sqlite3 module have no name
                if name.startswith(CORRUPTION_ERRORS):
                    self._corruption = self._corruption or str(error)
                raise

    async def fetch_one(self, sql: str, values: Values = ()) -> sqlite3.Row | None:
        """The first row, or None."""
        # Fetch all rows: a cursor that a cancelled caller left open would show the next reader an old snapshot.
        with self._translated_errors():
            return next(iter(await self._reader.execute_fetchall(sql, values)), None)

    async def fetch_all(self, sql: str, values: Values = ()) -> list[sqlite3.Row]:
        with self._translated_errors():
            return list(await self._reader.execute_fetchall(sql, values))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run one immediate transaction. Exit returns after the commit; an exception inside rolls back only this one.

        Await nothing but the database inside: all other writers wait meanwhile. Raises StoreError if the database
        cannot be written.
        """
        with self._translated_errors():
            group = await self._join_group()
            try:
                await self._begin(group)
                tx = Transaction(self._writer)
                yield tx
                await self._end(group, tx)
            except BaseException:
                await _run_uncancelled(self._rollback(group))
                raise
            finally:
                self._write_lock.release()
            await asyncio.shield(group.committed)

    async def _join_group(self) -> _CommitGroup:
        self._waiting += 1
        try:
            await self._write_lock.acquire()
        except BaseException:
            self._pending_commit = asyncio.ensure_future(self._commit_if_last())
            raise
        finally:
            self._waiting -= 1
        if self._is_closed:
            self._write_lock.release()
            raise StoreError("the central database is closed")
        if self._group is None:
            self._group = _CommitGroup()
        return self._group

    async def _commit_if_last(self) -> None:
        # The last transaction may have left the commit to a waiter that was then cancelled.
        async with self._write_lock:
            if self._group is not None and self._group.members and self._waiting == 0:
                await self._commit(self._group)

    async def _begin(self, group: _CommitGroup) -> None:
        # The first member needs no savepoint: if it fails, there is nothing else to keep.
        await self._writer.execute("BEGIN IMMEDIATE" if group.members == 0 else "SAVEPOINT member")

    async def _end(self, group: _CommitGroup, tx: Transaction) -> None:
        if group.members > 0:
            await self._writer.execute("RELEASE member")
        group.members += 1
        group.emitted += tx.emitted
        if group.members == 1:
            group.max_members = min(1 + self._waiting, MAX_GROUP_SIZE)
        if self._waiting == 0 or group.members >= group.max_members:
            await self._commit(group)

    async def _rollback(self, group: _CommitGroup) -> None:
        if group.committed.done() or self._group is not group:
            return
        if group.members == 0:
            self._group = None
            with contextlib.suppress(sqlite3.Error):
                await self._writer.execute("ROLLBACK")
            return
        with contextlib.suppress(sqlite3.Error):
            await self._writer.execute("ROLLBACK TO member")
            await self._writer.execute("RELEASE member")
        if not self._writer.in_transaction:
            # On a full disk SQLite rolls back the whole transaction, so the writes of the other members are lost too.
            self._group = None
            group.fail(sqlite3.OperationalError("the transaction was given up together with another one"))
        elif self._waiting == 0:
            await self._commit(group)

    async def _commit(self, group: _CommitGroup) -> None:
        self._group = None
        await _run_uncancelled(self._commit_now(group))

    async def _commit_now(self, group: _CommitGroup) -> None:
        try:
            await self._writer.execute("COMMIT")
        except BaseException as error:
            group.fail(error)
            with contextlib.suppress(sqlite3.Error):
                await self._writer.execute("ROLLBACK")
        else:
            group.committed.set_result(None)
            self.bus.publish(*group.emitted)

    async def drain(self) -> None:
        """Let running and waiting transactions finish, and accept no new ones."""
        async with self._write_lock:
            self._is_closed = True
            if self._group is not None:
                await self._commit(self._group)


async def _run_uncancelled(work: Coroutine[None, None, None]) -> None:
    """Run the work to its end even if the caller is cancelled: the lock must not be released before."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Translate sqlite3's errors into StoreError, except IntegrityError, which is the caller's mistake."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise StoreError(
            f"the central database refused: {error}",
            hint="check the disk with df -h and the database with nanohost verify",
        ) from error


def _connect_reader(path: Path) -> aiosqlite.Connection:
    return _connect("reader", path, f"file:{quote(str(path))}?mode=ro")


def _connect_writer(path: Path) -> aiosqlite.Connection:
    return _connect("writer", path, f"file:{quote(str(path))}")


def _connect(role: str, path: Path, uri: str) -> aiosqlite.Connection:
    """Open a connection whose thread is named after the file, so that reports of hung threads can name it."""

    def connect() -> sqlite3.Connection:
        threading.current_thread().name = f"{role} of {path}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    return aiosqlite.Connection(connect, FETCH_SIZE)


@asynccontextmanager
async def open_store(path: Path, *, durable: bool = True) -> AsyncIterator[Store]:
    """Open a migrated database (see migrations.py). On exit, drain the writer and close the database.

    `durable=False` turns sync off, for tests.
    """
    async with (
        _connect_writer(path) as writer,
        _connect_reader(path) as reader,
    ):
        for connection in (writer, reader):
            connection.row_factory = sqlite3.Row
            await connection.execute("PRAGMA foreign_keys = ON")
        await writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        store = Store(writer, reader, path)
        try:
            yield store
        finally:
            await store.drain()
            await store.reports.close()
