"""Handles events that are for the host itself, before any wiring: commands, codes, button presses on the host's cards.

Promises: the effect of an event, the reply and the mark that it is handled are one transaction of the central database:
a crash leaves all of it or nothing. No wiring and no session is needed, so that the first owner can register and an
admin can decide in a chat without an agent.
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
    """Handles one kind of host request."""

    async def can_handle(self, db: Queries, stored: StoredEvent) -> bool:
        """Returns whether the event may be for this handler. Must be cheap for an ordinary message."""
        ...

    async def prefetch(self, reports: ReportReader, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        """Reads what takes long, before the transaction that all other writers wait for. None: nothing to read."""
        ...

    async def handle(self, request: HostRequest) -> bool:
        """Handles the request in its transaction. Returns False if it is not for this handler: the next one may try."""
        ...


class HostRequestHandler:
    """One per host."""

    def __init__(self, *, store: Store, clock: Clock, zone: tzinfo, handlers: Sequence[RequestHandler]) -> None:
        self._store = store
        self._clock = clock
        self._zone = zone
        self._handlers = handlers

    async def can_handle(self, stored: StoredEvent) -> bool:
        """Returns whether the event may be for the host itself."""
        return not stored.event.sender.is_bot and bool(await self._matching_handlers(stored))

    async def handle(self, stored: StoredEvent) -> bool:
        """Handles an event that is for the host itself; returns False, having changed nothing, for any other."""
        matching = await self._matching_handlers(stored)
        if not matching or not await self._dispatch(stored, matching):
            return False
        _log.info("message_routed", number=stored.id, chat=str(stored.chat), outcome="host")
        return True

    async def _matching_handlers(self, stored: StoredEvent) -> list[RequestHandler]:
        return [handler for handler in self._handlers if await handler.can_handle(self._store, stored)]

    async def _dispatch(self, stored: StoredEvent, handlers: Sequence[RequestHandler]) -> bool:
        user, now = stored.user_id, self._clock.now()
        prefetched = [await handler.prefetch(self._store.reports, stored, now, self._zone) for handler in handlers]
        async with self._store.transaction() as tx:
            if not await events.is_new(tx, stored.id):
                return True  # another event of its batch failed, and the whole batch is repeated
            request = HostRequest(
                tx=tx,
                stored=stored,
                user_id=user,
                grants=await roles.list_for_user(tx, user),
                now=now,
                zone=self._zone,
                prefetched=next((found for found in prefetched if found is not None), None),
            )
            for handler in handlers:
                if await handler.handle(request):
                    break
            else:
                return False
            await record_contact(tx, stored, request.now)
            await events.mark_settled(tx, stored.id, events.REASON_FOR_HOST)
            crash_point("host_requests.open")
        crash_point("host_requests.committed")
        return True
