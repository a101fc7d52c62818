"""Reads the outbound.db of sessions for several stages: concurrent requests for one session share one read.

After a change several stages want a part of the same file: its messages, its acks. Requests that come before a read
begins share it. The reads of one session are sequential; those of different sessions do not wait for each other. The
session's row is read once for each read, before the file, so that the caller compares the same cursors when it writes
that the file was read from.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

from nanohost.db import sessions
from nanohost.db.database import Store
from nanohost.errors import NanohostError
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.queries import AckBatch, OutboxBatch, RowBatch
from nanohost.model import Session, SessionId
from nanohost.work.keyed_workers import KeyedLock

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRead(Generic[T]):
    """The rows above the session's recorded cursors. `batch` is None if outbound.db could not be read; see
    Mailboxes.read_outbound."""

    session: Session
    batch: T | None


@dataclass(slots=True)
class _PendingRead:
    """One read, and what was requested from it."""

    limit: int = 0
    """The most messages to read; 0: none were requested."""
    with_acks: bool = False
    result: OutboxRead[OutboxBatch] | None = None
    error: NanohostError | None = None

    @property
    def is_over(self) -> bool:
        return self.result is not None or self.error is not None


class OutboxReader:
    """One per host."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._locks = KeyedLock[SessionId]()
        self._pending: dict[SessionId, _PendingRead] = {}
        """The read of each session that has not begun: a new request shares it."""

    async def rows(self, session: SessionId, *, limit: int) -> OutboxRead[RowBatch]:
        """Returns `limit` messages above the session's cursor, or more if another request has a higher limit. Raises
        MailboxError, StoreError."""
        read = await self._read(session, limit=limit)
        return OutboxRead(session=read.session, batch=None if read.batch is None else read.batch.rows)

    async def acks(self, session: SessionId) -> OutboxRead[AckBatch]:
        """Returns the acks above the session's cursor, and its open claims. Raises MailboxError, StoreError."""
        read = await self._read(session, with_acks=True)
        return OutboxRead(session=read.session, batch=None if read.batch is None else read.batch.acks)

    async def _read(self, session: SessionId, *, limit: int = 0, with_acks: bool = False) -> OutboxRead[OutboxBatch]:
        pending = self._pending.setdefault(session, _PendingRead())
        pending.limit = max(pending.limit, limit)
        pending.with_acks |= with_acks
        async with self._locks.hold(session):
            if not pending.is_over:  # the first request performs the read, or the next one if it was cancelled
                await self._perform(session, pending)
        if pending.error is not None:
            raise pending.error
        assert pending.result is not None, "a read that is over has a result or an error"
        return pending.result

    async def _perform(self, id: SessionId, pending: _PendingRead) -> None:
        await asyncio.sleep(0)  # let all subscribers of one event make their requests first
        if self._pending.get(id) is pending:
            del self._pending[id]  # later requests may want rows that are written after this read
        try:
            session = await sessions.get(self._store, id)
            query = queries.outbox_batch(
                session.out_cursor, limit=pending.limit, ack_cursor=session.ack_cursor, with_acks=pending.with_acks
            )
            batch = await self._mailboxes.read_outbound(session, query)
            pending.result = OutboxRead(session=session, batch=batch)
        except NanohostError as error:
            pending.error = error
