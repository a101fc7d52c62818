"""Where channels hand in events. Promises: `accept` returns after the event is on disk, once.

It decides nothing about who the event is for: that is routing's, which is told that the chat has news.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from nanohost.channel_api import Accepted, Capabilities, InboundEvent
from nanohost.clock import Clock
from nanohost.intake.cleaning import cleaned, problem_of, recordable
from nanohost.store import events
from nanohost.store.database import Store
from nanohost.store.events import ChatKey
from nanohost_protocol.crash_points import reach

LATEST_CHATS = 200

_log = structlog.get_logger()


class ChannelInbox:
    """The inbox of one channel instance; satisfies channel_api.Inbox."""

    def __init__(
        self,
        *,
        channel_type: str,
        instance: str,
        capabilities: Capabilities,
        store: Store,
        clock: Clock,
        on_accepted: Callable[[ChatKey], None],
    ) -> None:
        self._channel_type = channel_type
        self._instance = instance
        self._threads = capabilities.threads
        self._store = store
        self._clock = clock
        self._on_accepted = on_accepted

    async def accept(self, event: InboundEvent) -> Accepted:
        """Commit the event, or the fact that it cannot be used. Raises StoreError when the disk refuses."""
        now = self._clock.now()
        problem = problem_of(event)
        kept = cleaned(event, threads=self._threads) if problem is None else recordable(event, now)
        chat = ChatKey(self._channel_type, self._instance, kept.platform_id)
        async with self._store.transaction() as tx:
            new = await events.add(tx, chat, kept, now=now, dropped=problem)
            reach("intake.open")
        reach("intake.committed")
        if problem is not None:
            _log.info("event_dropped", channel=self._channel_type, chat=chat.platform_id, reason=problem)
        elif new:
            self._on_accepted(chat)
        return Accepted(new=new)

    async def latest(self) -> Mapping[str, str]:
        return await events.latest_messages(
            self._store, channel_type=self._channel_type, instance=self._instance, limit=LATEST_CHATS
        )
