"""Reads what runners write for the host: one look into an outbound.db for everybody who asks at that moment.

After a change several stages want something of the same file: its messages, its acks. Each asks for its part; who asks
while no look is under way, or while one waits, shares it. The looks of a session follow each other, those of different
sessions do not wait for each other. The session's row is read once for each look, before the file, so that the cursors
that the file is read from are the ones that the caller compares when it writes.
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
    """What a look found above the cursors of the session as it was on record. `batch` is None when outbound.db could
    not be read; see Mailboxes.outbound."""

    session: Session
    batch: T | None


@dataclass(slots=True)
class _PendingRead:
    """One look, and what was asked of it."""

    limit: int = 0
    """Of messages; 0: nobody asked for them."""
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
        """The look of each session that has not begun: whoever asks now shares it."""

    async def rows(self, session: SessionId, *, limit: int) -> OutboxRead[RowBatch]:
        """The messages above the session's cursor, as many or a few more. Raises MailboxError, StoreError."""
        read = await self._read(session, limit=limit)
        return OutboxRead(session=read.session, batch=None if read.batch is None else read.batch.rows)

    async def acks(self, session: SessionId) -> OutboxRead[AckBatch]:
        """The acks above the session's cursor, and its open claims. Raises MailboxError, StoreError."""
        read = await self._read(session, with_acks=True)
        return OutboxRead(session=read.session, batch=None if read.batch is None else read.batch.acks)

    async def _read(self, session: SessionId, *, limit: int = 0, with_acks: bool = False) -> OutboxRead[OutboxBatch]:
        look = self._pending.setdefault(session, _PendingRead())
        look.limit = max(look.limit, limit)
        look.with_acks |= with_acks
        async with self._locks.hold(session):
            if not look.is_over:  # nobody shares it, we come first, or who came first was cancelled
                await self._perform(session, look)
        if look.error is not None:
            raise look.error
        assert look.result is not None, "a look that is over found something or failed"
        return look.result

    async def _perform(self, id: SessionId, pending: _PendingRead) -> None:
        await asyncio.sleep(0)  # all subscribers of one event ask in the same step of the event loop
        if self._pending.get(id) is pending:
            del self._pending[id]  # what is written from now on need not be in it
        try:
            session = await sessions.get(self._store, id)
            query = queries.outbox_batch(
                session.out_cursor, limit=pending.limit, ack_cursor=session.ack_cursor, with_acks=pending.with_acks
            )
            news = await self._mailboxes.read_outbound(session, query)
            pending.result = OutboxRead(session=session, batch=news)
        except NanohostError as error:
            pending.error = error
