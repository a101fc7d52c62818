"""What another one does between two steps of ours: between a look and what is written because of it.

Each thing happens once, at the first such moment after it was set, so that a test decides how two works interleave.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from sqlite3 import Row
from typing import TypeVar

from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.queries import Query
from nanohost.model import Session, SessionId
from nanohost.store.database import Store, Transaction, Values
from nanohost_protocol.inbound import InboundReader, InboundWriter
from nanohost_protocol.layout import SessionLayout

T = TypeVar("T")
Happens = Callable[[], Awaitable[object]]


class WatchedMailboxes(Mailboxes):
    """Others' session files, and whose were looked into or changed. `after_look` and `after_change` happen after the
    first look into an outbound.db and the first change of an inbound.db, `before_change` before that."""

    def __init__(self, files: Mailboxes) -> None:
        self._files = files
        self.looked: list[SessionId] = []
        self.after_look: Happens | None = None
        self.changed: list[SessionId] = []
        self.before_change: Happens | None = None
        self.after_change: Happens | None = None

    def layout(self, session: Session) -> SessionLayout:
        return self._files.layout(session)

    async def outbound(self, session: Session, query: Query[T]) -> T | None:
        self.looked.append(session.id)
        found = await self._files.outbound(session, query)
        happens, self.after_look = self.after_look, None
        await _now(happens)
        return found

    async def inbound(self, session: Session, read: Callable[[InboundReader], T]) -> T:
        return await self._files.inbound(session, read)

    async def update(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        self.changed.append(session.id)
        happens, self.before_change = self.before_change, None
        await _now(happens)
        changed = await self._files.update(session, change)
        happens, self.after_change = self.after_change, None
        await _now(happens)
        return changed


class WatchedStore(Store):
    """Another's database. `before_write` happens before the first transaction begins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.bus = store.bus
        self.before_write: Happens | None = None

    async def one(self, sql: str, values: Values = ()) -> Row | None:
        return await self._store.one(sql, values)

    async def all(self, sql: str, values: Values = ()) -> list[Row]:
        return await self._store.all(sql, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        happens, self.before_write = self.before_write, None
        await _now(happens)
        async with self._store.transaction() as tx:
            yield tx


async def _now(happens: Happens | None) -> None:
    if happens is not None:
        await happens()
