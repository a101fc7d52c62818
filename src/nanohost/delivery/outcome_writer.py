"""Writes the outcomes of deliveries into the session's inbound.db, so that the runner can read them.

It is only a projection: nothing is lost when it is missing or late, and it is written anew for each container.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from nanohost.clock import Clock
from nanohost.db import deliveries
from nanohost.db.database import Store
from nanohost.errors import NanohostError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import HOST_SESSION_ID, SessionId
from nanohost.work.keyed_workers import KeyedLock
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import DeliveryResult

MAX_PROJECTED = 100
"""How many of its latest messages an agent can refer to after a restart."""

_log = structlog.get_logger()


class DeliveryProjection:
    """Writes the latest outcomes of a session into its mailbox."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._locks = KeyedLock[SessionId]()

    async def refresh(self, id: SessionId, *, limit: int = MAX_PROJECTED) -> None:
        """Updates the mailbox. If that fails, it is left for the next time."""
        if id == HOST_SESSION_ID:
            return  # it has no mailbox, and no agent that would refer to anything
        async with self._locks.hold(
            id
        ):  # queues of several chats call this: none may overwrite newer results with older ones
            await self._write(id, limit)

    async def _write(self, id: SessionId, limit: int) -> None:
        session, rows = await deliveries.get_results(self._store, id, now=self._clock.now(), limit=limit)
        cursor = str(session.out_cursor)

        def write_results(box: InboundWriter) -> None:
            box.record_delivery_results(rows)
            box.set_meta({"out_cursor": cursor})

        try:
            await self._mailboxes.update(session, write_results)
        except NanohostError as error:
            _log.warning("projection_failed", session=id, error=str(error))

    async def latest_deliveries(self, session: SessionId) -> Sequence[DeliveryResult]:
        """Returns the outcomes of the session's latest messages."""
        _, rows = await deliveries.get_results(self._store, session, now=self._clock.now(), limit=MAX_PROJECTED)
        return rows
