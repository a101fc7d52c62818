"""What people say to the host itself, looked at before any wiring: commands, codes, presses on the host's own cards.

Promises: what is done about an event, what is answered, and the mark that it is dealt with are one transaction of the
central database: a crash leaves all of it or nothing. It needs no wiring and no session, so that a first owner can come
in, and an admin be asked, where no agent listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Protocol

import structlog

from nanohost.access.acquaintance import meet
from nanohost.clock import Clock
from nanohost.reception.visit import Visit
from nanohost.store import events, roles
from nanohost.store.database import Queries, Reports, Store
from nanohost.store.events import StoredEvent
from nanohost_protocol.crash_points import reach

_log = structlog.get_logger()


class Counter(Protocol):
    """One kind of thing that people come to the host for."""

    async def wants(self, db: Queries, stored: StoredEvent) -> bool:
        """Whether this event is for it. Costs next to nothing for an ordinary message."""
        ...

    async def look(self, reports: Reports, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        """What takes long to read, before the transaction that everybody who writes waits for. None: nothing."""
        ...

    async def serve(self, visit: Visit) -> bool:
        """Deal with it, inside the visit's transaction. False: it is none after all, the next one may look."""
        ...


class Reception:
    """One per host."""

    def __init__(self, *, store: Store, clock: Clock, zone: tzinfo, counters: Sequence[Counter]) -> None:
        self._store = store
        self._clock = clock
        self._zone = zone
        self._counters = counters

    async def wants(self, stored: StoredEvent) -> bool:
        """Whether the event may be for the host itself."""
        return not stored.event.sender.is_bot and bool(await self._wanting(stored))

    async def handle(self, stored: StoredEvent) -> bool:
        """Deal with an event that is for the host itself; False for all others, which nothing was done about."""
        wanting = await self._wanting(stored)
        if not wanting or not await self._serve(stored, wanting):
            return False
        _log.info("message_routed", number=stored.id, chat=str(stored.chat), outcome="host")
        return True

    async def _wanting(self, stored: StoredEvent) -> list[Counter]:
        return [counter for counter in self._counters if await counter.wants(self._store, stored)]

    async def _serve(self, stored: StoredEvent, counters: Sequence[Counter]) -> bool:
        user, now = stored.user, self._clock.now()
        looked = [await counter.look(self._store.reports, stored, now, self._zone) for counter in counters]
        async with self._store.transaction() as tx:
            if not await events.is_new(tx, stored.id):
                return True  # what came with it in a batch failed, and all of the batch is done again
            visit = Visit(
                tx=tx,
                stored=stored,
                user=user,
                grants=await roles.of_user(tx, user),
                now=now,
                zone=self._zone,
                seen=next((found for found in looked if found is not None), None),
            )
            for counter in counters:
                if await counter.serve(visit):
                    break
            else:
                return False
            await meet(tx, stored, visit.now)
            await events.mark_settled(tx, stored.id, events.FOR_HOST)
            reach("reception.open")
        reach("reception.committed")
        return True
