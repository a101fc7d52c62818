"""Handles deletions: withdraws the parts of the message that still wait, and notifies agents that received it."""

from __future__ import annotations

from datetime import tzinfo

from nanohost.channel_api import EventKind
from nanohost.clock import Clock
from nanohost.db import sessions
from nanohost.db.database import Store
from nanohost.db.events import StoredEvent
from nanohost.db.routes import Route, RouteOutcome
from nanohost.mailbox.writer import WriteResult
from nanohost.model import SessionId
from nanohost.routing.deletions import withdraw
from nanohost.routing.route_resolver import RoutedEntry, RouteResolver, route_to_session
from nanohost.routing.route_writer import RouteWriter


class DeletionHandler:
    """An event handler of the router. `zone`: the time zone of times that people read."""

    def __init__(
        self, *, store: Store, clock: Clock, zone: tzinfo, resolver: RouteResolver, writer: RouteWriter
    ) -> None:
        self._store = store
        self._clock = clock
        self._zone = zone
        self._resolver = resolver
        self._writer = writer

    async def can_handle(self, stored: StoredEvent) -> bool:
        return stored.event.kind is EventKind.DELETION

    async def handle(self, stored: StoredEvent) -> bool:
        """Withdraws what still waits of the message; notifies the agents that received it, without waking them."""
        async with self._store.transaction() as tx:
            now = self._clock.now()
            notice = await withdraw(tx, stored, now=now, zone=self._zone)
        made, written = list[Route](), dict[SessionId, WriteResult]()
        for wiring, session_id in dict.fromkeys((one.wiring_id, one.session_id) for one in notice.recipients):
            session = None if session_id is None else await sessions.find(self._store, session_id)
            if session is None:
                continue
            route = Route(event_id=stored.id, wiring_id=wiring, outcome=RouteOutcome.CONTEXT)
            entry = await self._resolver.build_entry(notice.deletion, wiring, session.agent_group_id, trigger=False)
            row = RoutedEntry(route=route_to_session(route, session, trigger=False), stored=stored, entry=entry)
            routed, written[session.id] = await self._writer.write(session, [row])
            made += routed
        await self._writer.record_deletion(stored, made, written)
        return True
