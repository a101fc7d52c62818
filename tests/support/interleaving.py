"""Runs code between two steps of the code under test: between a read and the write that depends on it. Each hook runs
once, at the first such moment after it was set, so that a test controls the interleaving."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from sqlite3 import Row
from typing import TypeVar

from nanohost.db.database import Store, Transaction, Values
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.queries import Query
from nanohost.model import Session, SessionId
from nanohost_protocol.inbound import InboundReader, InboundWriter
from nanohost_protocol.layout import SessionLayout

T = TypeVar("T")
Hook = Callable[[], Awaitable[object]]


class InterleavedMailboxes(Mailboxes):
    """Wraps session files, and records which were read or updated. `after_read` and `after_update` run after the first
    read of an outbound.db and the first update of an inbound.db, `before_update` before that."""

    def __init__(self, files: Mailboxes) -> None:
        self._files = files
        self.read_sessions: list[SessionId] = []
        self.after_read: Hook | None = None
        self.updated_sessions: list[SessionId] = []
        self.before_update: Hook | None = None
        self.after_update: Hook | None = None

    def layout(self, session: Session) -> SessionLayout:
        return self._files.layout(session)

    async def read_outbound(self, session: Session, query: Query[T]) -> T | None:
        self.read_sessions.append(session.id)
        found = await self._files.read_outbound(session, query)
        happens, self.after_read = self.after_read, None
        await _run_hook(happens)
        return found

    async def read_inbound(self, session: Session, read: Callable[[InboundReader], T]) -> T:
        return await self._files.read_inbound(session, read)

    async def update(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        self.updated_sessions.append(session.id)
        happens, self.before_update = self.before_update, None
        await _run_hook(happens)
        changed = await self._files.update(session, change)
        happens, self.after_update = self.after_update, None
        await _run_hook(happens)
        return changed


class InterleavedStore(Store):
    """Wraps a database. `before_write` runs before the first transaction begins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.bus = store.bus
        self.before_write: Hook | None = None

    async def fetch_one(self, sql: str, values: Values = ()) -> Row | None:
        return await self._store.fetch_one(sql, values)

    async def fetch_all(self, sql: str, values: Values = ()) -> list[Row]:
        return await self._store.fetch_all(sql, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        happens, self.before_write = self.before_write, None
        await _run_hook(happens)
        async with self._store.transaction() as tx:
            yield tx


async def _run_hook(happens: Hook | None) -> None:
    if happens is not None:
        await happens()
