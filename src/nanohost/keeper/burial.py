"""What is owed to a container that is gone: why it ended, its last words taken over, and a word to who waits.

Everything here can be done twice. Whether its end counts, and what comes next, is the keeper's business.
"""

from __future__ import annotations

import asyncio

import structlog

from nanohost.clock import Clock
from nanohost.errors import MailboxError
from nanohost.keeper.acks import AckTaker
from nanohost.keeper.orders import Orders
from nanohost.keeper.slots import Slot
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId
from nanohost.runtimes.folders import last_words
from nanohost.runtimes.output import shorten
from nanohost.store import sessions
from nanohost.store.database import Store

LAST_LINES = 5
"""Of a dead container's output, for the host's log."""

_log = structlog.get_logger()


class Burial:
    """One per keeper."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, taker: AckTaker, orders: Orders, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._taker = taker
        self._orders = orders
        self._clock = clock

    async def cause(self, slot: Slot) -> str:
        """Why a container is gone that should not be: what it was stopped for or that it died, and its last words."""
        session = await sessions.get(self._store, slot.session_id)
        said = await asyncio.to_thread(last_words, self._mailboxes.layout(session).root, lines=LAST_LINES)
        cause = slot.fault or "its container died"
        hint = f"nanohost logs {slot.session_id}"
        _log.error("container_died", session=slot.session_id, group=session.group_folder, cause=cause, hint=hint)
        _log.debug("container_died", session=slot.session_id, last_words=said)
        return f"{cause}; it last wrote: {said[-1]}" if said else cause

    async def take_last_words(self, id: SessionId) -> None:
        """Take over what it left. Raises StoreError."""
        try:
            await self._take_over(await sessions.get(self._store, id))
        except MailboxError as error:
            _log.error("last_words_unreadable", session=id, error=str(error), hint=error.hint)

    async def cut_log(self, id: SessionId) -> None:
        """Of what it said only the end is kept, however much disk it took. Raises StoreError."""
        await asyncio.to_thread(shorten, self._mailboxes.layout(await sessions.get(self._store, id)).root)

    async def tell_waiting(self, id: SessionId, sentence: str) -> None:
        """Say it to whoever waits for the session's agent, if they can be found."""
        try:
            await self._taker.tell_waiting(await sessions.get(self._store, id), sentence)
        except MailboxError as error:
            _log.error("nobody_told", session=id, error=str(error), hint=error.hint)

    async def _take_over(self, session: Session) -> None:
        await self._orders.settle(session)
        standing = await self._taker.take(session.id)
        if standing is None and await self._mailboxes.needs_rollback(session):
            # Only a runner may open outbound.db for writing, and what it committed cannot be read before that.
            now = self._clock.now()
            async with self._store.transaction() as tx:
                await sessions.make_due(tx, session.id, at=now, now=now)
