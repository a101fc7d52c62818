"""Moves a chat to its new id, such as a Telegram group that became a supergroup.

Promises: all of it or nothing, in one transaction, once, on record; whoever says so first, and however often. What
comes in under the old id later is the new chat's, and what is said to the old one later goes to the new one: looked up
where it is needed (`store.moved_chats`), since a session's files name the old id for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import tzinfo

import structlog

from nanohost.approvals.obsolete import withdraw_obsolete
from nanohost.clock import Clock
from nanohost.db import audit, moved_chats
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Store, Transaction
from nanohost.db.domain_events import ChatHasEvents
from nanohost.db.events import ChatKey
from nanohost.model import AgentGroupId

MoveHandler = Callable[[ChatKey, str], Awaitable[None]]
"""What is called with a chat and what it is called now."""

_log = structlog.get_logger()


async def ignore_move(_: ChatKey, new_id: str) -> None:
    """For those who serve a platform on which no chat ever moves."""


class ChatMover:
    """`notify_agents` is called for each agent that may send to a chat which moved, times that
    people read are in `zone`."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        zone: tzinfo,
        notify_agents: Callable[[AgentGroupId], Awaitable[None]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._zone = zone
        self._notify_agents = notify_agents

    async def move(self, old: ChatKey, new_id: str) -> None:
        """The chat `old` is called `new_id` from now on. Returns once that is on disk. Raises StoreError."""
        new, now = ChatKey(old.channel_type, old.instance, new_id), self._clock.now()
        if old == new:
            return
        async with self._store.transaction() as tx:
            if await moved_chats.current_chat(tx, new) != new:
                _log.warning("chat_move_rejected", chat=str(old), to=new_id, reason="that one has moved away itself")
                return
            agents = await moved_chats.move_group(tx, old, new)
            along = await moved_chats.move_pending(tx, old, new)
            if agents is None and not along:
                return  # nothing of it is here, or is here any more
            is_news = await moved_chats.record_move(tx, old, new, now)
            if is_news:
                await self._record_audit(tx, old, new, along)
            # What came first in the new chat may wait for somebody to connect it: that is not needed any more.
            await withdraw_obsolete(tx, now=now, zone=self._zone)
            await moved_chats.emit_queues(tx, new)
            tx.emit(ChatHasEvents(old), ChatHasEvents(new))
        if is_news:
            _log.warning("chat_moved", channel=old.channel_type, chat=old.platform_id, to=new_id, moved=along)
        for agent in agents or ():
            await self._notify_agents(agent)

    async def _record_audit(self, tx: Transaction, old: ChatKey, new: ChatKey, moved_counts: Mapping[str, int]) -> None:
        await audit.record(
            tx,
            actor="host",
            action="chats.moved",
            target=audit.chat_target(new),
            outcome=AuditOutcome.DONE,
            now=self._clock.now(),
            details={"from": audit.chat_target(old), "moved": moved_counts},
        )
