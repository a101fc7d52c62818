"""Moves a chat to its new id, such as a Telegram group that became a supergroup.

Promises: moves everything in one transaction, once, with an audit entry, however often and by whomever the move is
reported. Later events of the old id belong to the new chat, and later messages to the old id go to the new chat. The
host looks up the new id where it is needed (`db/moved_chats.py`), since a session's files keep the old id for ever.
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
"""Called with the chat's old key and its new id."""

_log = structlog.get_logger()


async def ignore_move(_: ChatKey, new_id: str) -> None:
    """Do nothing. For a platform on which no chat ever moves."""


class ChatMover:
    """Moves chats. Calls `notify_agents` for each agent that may send to a moved chat; shows times in `zone`."""

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
        """Move the chat `old` to the id `new_id`. Returns once that is on disk. Raises StoreError."""
        new, now = ChatKey(old.channel_type, old.instance, new_id), self._clock.now()
        if old == new:
            return
        async with self._store.transaction() as tx:
            if await moved_chats.current_chat(tx, new) != new:
                _log.warning("chat_move_rejected", chat=str(old), to=new_id, reason="that one has moved away itself")
                return
            agents = await moved_chats.move_group(tx, old, new)
            moved_counts = await moved_chats.move_pending(tx, old, new)
            if agents is None and not moved_counts:
                return  # the database has nothing of the old chat, or it was moved before
            is_new = await moved_chats.record_move(tx, old, new, now)
            if is_new:
                await self._record_audit(tx, old, new, moved_counts)
            # The first messages in the new chat may wait for an approval to connect it, which is not needed any more.
            await withdraw_obsolete(tx, now=now, zone=self._zone)
            await moved_chats.emit_queues(tx, new)
            tx.emit(ChatHasEvents(old), ChatHasEvents(new))
        if is_new:
            _log.warning("chat_moved", channel=old.channel_type, chat=old.platform_id, to=new_id, moved=moved_counts)
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
