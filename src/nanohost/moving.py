"""A chat that goes on under another id, such as a Telegram group that became a supergroup: it goes on here, too.

Promises: all of it or nothing, in one transaction, once, on record; whoever says so first, and however often. What
comes in under the old id later is the new chat's, and what is said to the old one later goes to the new one: looked up
where it is needed (`store.moved_chats`), since a session's files name the old id for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import tzinfo

import structlog

from nanohost.approvals.settled import settle
from nanohost.clock import Clock
from nanohost.model import AgentGroupId
from nanohost.store import audit, moved_chats
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Store, Transaction
from nanohost.store.domain_events import ChatHasNews
from nanohost.store.events import ChatKey

Move = Callable[[ChatKey, str], Awaitable[None]]
"""What is called with a chat and what it is called now."""

_log = structlog.get_logger()


async def nobody_moves(_: ChatKey, to: str) -> None:
    """For those who serve a platform on which no chat ever moves."""


class Moving:
    """`tell` is called for each agent that may send to a chat which moved, times that
    people read are in `zone`."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        zone: tzinfo,
        tell: Callable[[AgentGroupId], Awaitable[None]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._zone = zone
        self._tell = tell

    async def move(self, old: ChatKey, to: str) -> None:
        """The chat `old` is called `to` from now on. Returns once that is on disk. Raises StoreError."""
        new, now = ChatKey(old.channel_type, old.instance, to), self._clock.now()
        if old == new:
            return
        async with self._store.transaction() as tx:
            if await moved_chats.current(tx, new) != new:
                _log.warning("chat_move_ignored", chat=str(old), to=to, reason="that one has moved away itself")
                return
            agents = await moved_chats.move_group(tx, old, new)
            along = await moved_chats.move_along(tx, old, new)
            if agents is None and not along:
                return  # nothing of it is here, or is here any more
            is_news = await moved_chats.add(tx, old, new, now)
            if is_news:
                await self._record(tx, old, new, along)
            # What came first in the new chat may wait for somebody to connect it: that is not needed any more.
            await settle(tx, now=now, zone=self._zone)
            await moved_chats.emit_lanes(tx, new)
            tx.emit(ChatHasNews(old), ChatHasNews(new))
        if is_news:
            _log.warning("chat_moved", channel=old.channel_type, chat=old.platform_id, to=to, moved=along)
        for agent in agents or ():
            await self._tell(agent)

    async def _record(self, tx: Transaction, old: ChatKey, new: ChatKey, along: Mapping[str, int]) -> None:
        await audit.record(
            tx,
            who="host",
            what="chats.moved",
            about=audit.about_chat(new),
            outcome=AuditOutcome.DONE,
            now=self._clock.now(),
            details={"from": audit.about_chat(old), "moved": along},
        )
