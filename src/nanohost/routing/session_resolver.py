"""Finds the session in which to answer the sender of an event that could not be routed.

The host uses it for its own error messages. Never: a session for a sender who may not talk to the agent, or for a group
message that did not engage it.
"""

from __future__ import annotations

from nanohost.access.decision import check_access
from nanohost.clock import Clock
from nanohost.db import conversations, messaging_groups, roles, routes, wirings
from nanohost.db.conversations import session_key
from nanohost.db.database import Store
from nanohost.db.events import StoredEvent
from nanohost.model import EngageMode, MessagingGroup, SessionId, Wiring
from nanohost.routing.engagement import is_command, should_engage
from nanohost.routing.patterns import PatternError


class SessionResolver:
    """Checks each wiring of a chat as routing does."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def find_or_create_session(self, stored: StoredEvent) -> SessionId | None:
        """Returns the event's session, and creates it for a new conversation. None: no wiring engages."""
        if stored.event.sender.is_bot:
            return None
        group = await messaging_groups.find_by_chat(self._store, stored.chat)
        if group is None:
            return None
        for wiring in await wirings.list_for_chat(self._store, group.id):
            if await self._should_engage(wiring, stored) and await self._may_talk(wiring, group, stored):
                return await self._ensure_session(wiring, stored)
        return None

    async def _should_engage(self, wiring: Wiring, stored: StoredEvent) -> bool:
        if is_command(stored.event):
            return True
        try:
            return should_engage(wiring, stored.event, has_session=await self._is_sticky(wiring, stored))
        except PatternError:
            return False

    async def _is_sticky(self, wiring: Wiring, stored: StoredEvent) -> bool:
        if wiring.engage_mode is not EngageMode.MENTION_STICKY:
            return False
        session = await conversations.find(self._store, session_key(wiring, stored.event))
        return session is not None and await routes.has_reached_thread(
            self._store, session.id, wiring.id, stored.event.thread_id
        )

    async def _may_talk(self, wiring: Wiring, group: MessagingGroup, stored: StoredEvent) -> bool:
        grants = await roles.list_for_user(self._store, stored.user_id)
        return check_access(grants, group.unknown_sender, wiring.agent_group_id, wiring.sender_scope).is_allowed

    async def _ensure_session(self, wiring: Wiring, stored: StoredEvent) -> SessionId:
        async with self._store.transaction() as tx:
            return (await conversations.get_or_create(tx, session_key(wiring, stored.event), self._clock.now())).id
