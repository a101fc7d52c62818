"""Handles all other events, for the agents that are wired to the chat; without one, requests approval of the chat.

Each wiring decides for itself. The results of one batch are recorded in one transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import structlog

from nanohost.approvals.requests import PendingApproval
from nanohost.channel_api import EventKind
from nanohost.clock import Clock
from nanohost.db import album_parts, dropped, events, messaging_groups, wirings
from nanohost.db.database import Store
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.db.routes import Route
from nanohost.mailbox.writer import WriteResult
from nanohost.model import MessagingGroup, Session, SessionId
from nanohost.routing.engagement import is_addressed
from nanohost.routing.route_resolver import RoutedEntry, RouteResolver
from nanohost.routing.route_writer import RouteWriter
from nanohost.routing.routing_batch import RoutingBatch, record_contacts
from nanohost.routing.unknown_sender_policy import UnknownSenderPolicy

_log = structlog.get_logger()


class WiringHandler:
    """The last of the router's handlers: it handles several events of a chat together."""

    def __init__(self, *, store: Store, clock: Clock, resolver: RouteResolver, writer: RouteWriter) -> None:
        self._store = store
        self._clock = clock
        self._resolver = resolver
        self._writer = writer

    async def handle_all(self, chat: ChatKey, batch: Sequence[StoredEvent]) -> bool:
        """Handles a batch in order. False: events may be left, and are read again with the next batch of the chat."""
        if not batch:
            return True
        wired = await wirings.find_wired_chat(self._store, chat)
        # Looked at after the wirings, or together with them: what wires a chat also releases what was held there.
        first_new = wired.first_new if wired else await events.find_first_new(self._store, chat)
        if first_new != batch[0].id:
            # Held events were released since the batch was read, and go first; or this batch is handled, and only
            # another part of it failed. Checked after reading the wirings: wiring a chat also releases its events.
            return False
        if wired is None:
            await self._handle_unwired(chat, batch)
            return False
        now, later = await self._split_before_edit(batch)
        await self._update_chat_info(wired.group, now)
        run = RoutingBatch(
            events={stored.id: stored for stored in now},
            group=wired.group,
            wirings={wiring.id: wiring for wiring in wired.wirings},
        )
        return await self._route(run) and await self.handle_all(chat, later)

    async def _split_before_edit(
        self, batch: Sequence[StoredEvent]
    ) -> tuple[Sequence[StoredEvent], Sequence[StoredEvent]]:
        """Splits the batch before the first edit of a message that is in the batch, too.

        The route of an edit depends on the recorded routes of its message and of earlier edits.
        """
        seen = set[str]()
        for at, stored in enumerate(batch):
            message = stored.event.platform_message_id
            if stored.event.kind is EventKind.EDIT and stored.event.refers_to is not None:
                message = await album_parts.find_whole_id(self._store, stored.chat, stored.event.refers_to)
                if message in seen:
                    return batch[:at], batch[at:]
            seen.add(message)
        return batch, ()

    async def _handle_unwired(self, chat: ChatKey, batch: Sequence[StoredEvent]) -> None:
        """Holds events that address the bot until somebody decides about the chat; drops the rest."""
        async with self._store.transaction() as tx:
            group = await messaging_groups.find_by_chat(tx, chat)
            if group is not None and await wirings.list_for_chat(tx, group.id):
                return  # it was wired meanwhile, and the events are still new
            sender_policy = UnknownSenderPolicy(tx=tx, now=self._clock.now())
            for stored in batch:
                answer = await sender_policy.check(stored, group)
                if isinstance(answer, PendingApproval):
                    await events.hold_for_approval(tx, stored.id, answer.id)
                    _log.info("message_held", number=stored.id, chat=str(chat), approval=answer.id)
                    continue
                _log.info("event_dropped", chat=str(chat), user=stored.user_id, reason=answer.reason)
                await events.mark_dropped(tx, stored.id, answer.reason)
                await dropped.record(tx, chat, stored.user_id, answer.reason, now=sender_policy.now)
            await record_contacts(sender_policy, [stored for stored in batch if is_addressed(stored.event)])

    async def _route(self, routing_batch: RoutingBatch) -> bool:
        """Whether all of it is on record: an event whose sender was let in just now is not."""
        declined: list[Route] = []
        ready: dict[SessionId, list[RoutedEntry]] = defaultdict(list)
        known: dict[SessionId, Session] = {}
        for stored in routing_batch.events.values():
            for wiring in routing_batch.wirings.values():
                route, session = await self._resolver.resolve(stored, routing_batch, wiring, ready)
                if session is None:
                    declined.append(route)
                    continue
                known[session.id] = session
                entry = await self._resolver.build_entry(
                    stored, wiring.id, wiring.agent_group_id, trigger=route.trigger
                )
                whole = await self._resolver.with_message_files(stored, wiring.id) if route.trigger else stored
                ready[session.id].append(RoutedEntry(route=route, stored=whole, entry=entry))
        made, written = declined, dict[SessionId, WriteResult]()
        for id, rows in ready.items():
            routed, written[id] = await self._writer.write(known[id], rows)
            made += routed
        recorded = await self._writer.record(routing_batch, made, written)
        return recorded == routing_batch.events.keys()

    async def _update_chat_info(self, group: MessagingGroup, batch: Sequence[StoredEvent]) -> None:
        """Stores the name and type that the platform reports, for a chat that was wired by its bare id."""
        latest = next((stored for stored in reversed(batch) if stored.event.kind is EventKind.MESSAGE), None)
        if latest is None:
            return
        name = latest.event.chat_name or group.name
        if (group.is_group, group.name) == (latest.event.is_group, name):
            return
        async with self._store.transaction() as tx:
            await messaging_groups.update_from_platform(tx, group.id, is_group=latest.event.is_group, name=name)
