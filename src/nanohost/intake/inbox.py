"""Where channels hand in events. Promises: `accept` returns after the event is on disk, once.

It decides nothing about who the event is for: that is routing's, which is told that the chat has news. But what nobody
listens to is not even kept: in a chat without an agent only what is said to us is, later changes of it while it waits,
and a one-time code, so that others may talk there at whatever length.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from nanohost.access.codes import open_in
from nanohost.channel_api import Accepted, Capabilities, EventKind, InboundEvent
from nanohost.clock import Clock
from nanohost.fair_share import FairShare
from nanohost.intake.cleaning import cleaned, problem_of, recordable
from nanohost.store import cards, dropped, events, wirings
from nanohost.store.database import Store
from nanohost.store.events import ChatKey
from nanohost_protocol.crash_points import reach

LATEST_CHATS = 200
ANOTHER_BOT = "another bot wrote it"
AT_ONCE = 4
"""Events of one chat that wait for the database at a time; the rest of them wait for these. However many there are in
one chat, an event of another one has this many before it: enough to share a commit, too few to be noticed."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Queue:
    """Of one chat: in order of arrival. `users`: how many events are in it or wait."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    users: int = 0


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
        fair: FairShare | None = None,
    ) -> None:
        self._channel_type = channel_type
        self._instance = instance
        self._threads = capabilities.threads
        self._store = store
        self._clock = clock
        self._on_accepted = on_accepted
        self._fair = fair or FairShare()
        self._queues: dict[ChatKey, _Queue] = {}

    async def accept(self, event: InboundEvent) -> Accepted:
        """Commit the event, or the fact that it cannot be used; what nobody listens to leaves nothing. Raises
        StoreError when the disk refuses."""
        now = self._clock.now()
        problem = problem_of(event)
        kept = cleaned(event, threads=self._threads) if problem is None else recordable(event, now)
        chat = ChatKey(self._channel_type, self._instance, kept.platform_id)
        async with self._turn(chat) as queue:
            began = time.monotonic()
            accepted = await self._keep(chat, kept, problem, now)
            self._fair.heard(chat)
            if queue.users > AT_ONCE:
                await self._fair.give_way(chat, time.monotonic() - began)
            return accepted

    @asynccontextmanager
    async def _turn(self, chat: ChatKey) -> AsyncIterator[_Queue]:
        queue = self._queues.setdefault(chat, _Queue())
        queue.users += 1
        try:
            async with queue.places:
                yield queue
        finally:
            queue.users -= 1
            if queue.users == 0:
                del self._queues[chat]

    async def _keep(self, chat: ChatKey, kept: InboundEvent, problem: str | None, now: datetime) -> Accepted:
        if problem is None and (kept.sender.is_bot or not _is_said_to_us(kept)):
            listening = await wirings.listening(self._store, chat)
            if not listening.to_people and not _is_said_to_us(kept) and not await self._is_about_ours(chat, kept):
                return Accepted(new=False)
            problem = ANOTHER_BOT if kept.sender.is_bot and not listening.to_bots else None
        async with self._store.transaction() as tx:
            new = await events.add(tx, chat, kept, now=now, dropped=problem)
            if new and problem is not None and not kept.sender.is_self:
                await dropped.count(tx, chat, chat.user(kept.sender.handle), problem, now=now)
            reach("intake.open")
        reach("intake.committed")
        if problem is not None:
            _log.info("event_dropped", channel=self._channel_type, chat=chat.platform_id, reason=problem)
        else:
            self._on_accepted(chat)  # of a repeat, too: the first delivery may have been cut off right here
        return Accepted(new=new)

    async def _is_about_ours(self, chat: ChatKey, event: InboundEvent) -> bool:
        """Where no agent listens: a press on a card that was sent there, an edit of what waits to be let in, or a code
        that somebody else could type now."""
        match event.kind:
            case EventKind.CLICK:
                choice = await cards.chosen(self._store, event.value)
                return choice is not None and choice.is_in(chat)
            case EventKind.EDIT if event.refers_to is not None:
                if await events.is_open(self._store, chat, event.refers_to):
                    return True
        return not event.sender.is_bot and bool(await open_in(self._store, event))

    async def latest(self) -> Mapping[str, str]:
        return await events.latest_messages(
            self._store.reports, channel_type=self._channel_type, instance=self._instance, limit=LATEST_CHATS
        )


def _is_said_to_us(event: InboundEvent) -> bool:
    return event.kind is EventKind.MESSAGE and (event.mentions_bot or not event.is_group)
