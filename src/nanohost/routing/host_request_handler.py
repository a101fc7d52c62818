"""Handles events that are for the host itself, before any wiring: commands, codes, presses on the host's cards.

Promises: what is done about an event, what is answered, and the mark that it is handled are one transaction of the
central database: a crash leaves all of it or nothing. It needs no wiring and no session, so that a first owner can come
in, and an admin be asked, where no agent listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Protocol

import structlog

from nanohost.access.contacts import record_contact
from nanohost.clock import Clock
from nanohost.db import events, roles
from nanohost.db.database import Queries, ReportReader, Store
from nanohost.db.events import StoredEvent
from nanohost.routing.host_request import HostRequest
from nanohost_protocol.crash_points import crash_point

_log = structlog.get_logger()


class RequestHandler(Protocol):
    """One kind of thing that people come to the host for."""

    async def can_handle(self, db: Queries, stored: StoredEvent) -> bool:
        """Whether this event is for it. Costs next to nothing for an ordinary message."""
        ...

    async def prefetch(self, reports: ReportReader, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        """What takes long to read, before the transaction that everybody who writes waits for. None: nothing."""
        ...

    async def handle(self, request: HostRequest) -> bool:
        """Handle it, inside the visit's transaction. False: it is none after all, the next one may look."""
        ...


class HostRequestHandler:
    """One per host."""

    def __init__(self, *, store: Store, clock: Clock, zone: tzinfo, handlers: Sequence[RequestHandler]) -> None:
        self._store = store
        self._clock = clock
        self._zone = zone
        self._handlers = handlers

    async def can_handle(self, stored: StoredEvent) -> bool:
        """Whether the event may be for the host itself."""
        return not stored.event.sender.is_bot and bool(await self._matching_handlers(stored))

    async def handle(self, stored: StoredEvent) -> bool:
        """Deal with an event that is for the host itself; False for all others, which nothing was done about."""
        wanting = await self._matching_handlers(stored)
        if not wanting or not await self._dispatch(stored, wanting):
            return False
        _log.info("message_routed", number=stored.id, chat=str(stored.chat), outcome="host")
        return True

    async def _matching_handlers(self, stored: StoredEvent) -> list[RequestHandler]:
        return [counter for counter in self._handlers if await counter.can_handle(self._store, stored)]

    async def _dispatch(self, stored: StoredEvent, handlers: Sequence[RequestHandler]) -> bool:
        user, now = stored.user_id, self._clock.now()
        looked = [await counter.prefetch(self._store.reports, stored, now, self._zone) for counter in handlers]
        async with self._store.transaction() as tx:
            if not await events.is_new(tx, stored.id):
                return True  # what came with it in a batch failed, and all of the batch is done again
            visit = HostRequest(
                tx=tx,
                stored=stored,
                user_id=user,
                grants=await roles.list_for_user(tx, user),
                now=now,
                zone=self._zone,
                prefetched=next((found for found in looked if found is not None), None),
            )
            for counter in handlers:
                if await counter.handle(visit):
                    break
            else:
                return False
            await record_contact(tx, stored, visit.now)
            await events.mark_settled(tx, stored.id, events.REASON_FOR_HOST)
            crash_point("host_requests.open")
        crash_point("host_requests.committed")
        return True
