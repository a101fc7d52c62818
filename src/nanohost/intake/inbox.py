"""Where channels hand in events. Promises: `accept` returns after the event is on disk, once.

It decides nothing about who the event is for: that is routing's, which is told that the chat has news. But what nobody
listens to is not even kept: in a chat without an agent only what is said to us is, later changes of it while it waits,
and a one-time code, so that others may talk there at whatever length. Nor is kept that something was deleted which was
for nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from nanohost.access.codes import open_in
from nanohost.channel_api import Accepted, Capabilities, EventKind, InboundEvent
from nanohost.clock import Clock
from nanohost.errors import NanohostError
from nanohost.fair_share import FairShare
from nanohost.intake.cleaning import cleaned, is_id, problem_of, recordable
from nanohost.moving import Move, nobody_moves
from nanohost.store import cards, checkpoints, dropped, events, pieces, routes, wirings
from nanohost.store.database import Store, Transaction
from nanohost.store.domain_events import ChannelHeard, ChannelReached
from nanohost.store.events import ChatKey
from nanohost_protocol.crash_points import reach

LATEST_CHATS = 200
RECENT_MESSAGES = 500
LONGEST_CHECKPOINT = 4_000
ANOTHER_BOT = "another bot wrote it"
BATCH = 8
"""Events of one chat that are written in one transaction. One transaction of a chat waits for the database at a time:
however many events there are, an event of another chat has one before it; this many statements are not noticed."""

_log = structlog.get_logger()


class FailedLater(Protocol):
    """Takes a platform's word that a message of (channel type, instance) did not arrive after all."""

    async def __call__(self, channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str) -> None: ...


async def _nobody_listens(channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str) -> None:
    """For an inbox without a delivery beside it."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """An event that came and is not written yet. `accepted` is set by whoever writes it."""

    event: InboundEvent
    problem: str | None
    at: datetime
    accepted: Accepted | None = None


@dataclass(slots=True)
class _Queue:
    """Of one chat, in order of arrival. Who has the turn writes for those behind it, too."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: list[_Waiting] = field(default_factory=list)


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
        fair: FairShare | None = None,
        take_late_failure: FailedLater = _nobody_listens,
        move: Move = nobody_moves,
    ) -> None:
        self._channel_type = channel_type
        self._instance = instance
        self._threads = capabilities.threads
        self._store = store
        self._clock = clock
        self._fair = fair or FairShare()
        self._take_late_failure = take_late_failure
        self._move = move
        self._queues: dict[ChatKey, _Queue] = {}

    async def accept(self, event: InboundEvent) -> Accepted:
        """Commit the event, or the fact that it cannot be used; what nobody listens to leaves nothing. Raises
        StoreError when the disk refuses."""
        now = self._clock.now()
        problem = problem_of(event)
        kept = cleaned(event, threads=self._threads) if problem is None else recordable(event, now)
        chat = ChatKey(self._channel_type, self._instance, kept.platform_id)
        waiting = _Waiting(kept, problem, now)
        async with self._queued(chat, waiting) as queue, queue.turn:
            if waiting.accepted is None:
                began = time.monotonic()
                await self._write_with_others(chat, waiting, queue)
                self._fair.heard(chat)
                if queue.waiting:
                    await self._fair.give_way(chat, time.monotonic() - began)
        assert waiting.accepted is not None, "what waits longest is the event of whoever has the turn"
        return waiting.accepted

    @asynccontextmanager
    async def _queued(self, chat: ChatKey, waiting: _Waiting) -> AsyncIterator[_Queue]:
        queue = self._queues.setdefault(chat, _Queue())
        queue.waiting.append(waiting)
        try:
            yield queue
        finally:
            queue.waiting = [one for one in queue.waiting if one is not waiting]
            if not queue.waiting and self._queues.get(chat) is queue:
                del self._queues[chat]

    async def _write_with_others(self, chat: ChatKey, waiting: _Waiting, queue: _Queue) -> None:
        """Its own, and what came next; its own alone if that fails, so that no event fails for another."""
        try:
            await self._write(chat, queue.waiting[:BATCH])
        except NanohostError:
            raise  # the disk: no event is to blame
        except Exception:
            await self._write(chat, [waiting])
        queue.waiting = [one for one in queue.waiting if one.accepted is None]

    async def _write(self, chat: ChatKey, batch: Sequence[_Waiting]) -> None:
        kept = await self._decided(chat, batch)
        new: list[bool] = []
        if kept:
            async with self._store.transaction() as tx:
                new = [await self._put(tx, chat, one) for one in kept]
                if any(one.problem is None for one in kept):
                    tx.emit(ChannelHeard(self._channel_type, self._instance))
                reach("intake.open")
            reach("intake.committed")
        for one, is_new in zip(kept, new, strict=True):
            one.accepted = Accepted(new=is_new)
            if not is_new:
                _log.debug("message_repeated", **_known(chat, one.event), kind=one.event.kind)
            elif one.problem is None:
                _say(chat, one.event)
            if one.problem is not None:
                _log.info("event_dropped", channel=self._channel_type, chat=chat.platform_id, reason=one.problem)

    async def _put(self, tx: Transaction, chat: ChatKey, one: _Waiting) -> bool:
        """False: it is there already."""
        new = await events.add(tx, chat, one.event, now=one.at, dropped=one.problem)
        if new and one.problem is not None and not one.event.sender.is_self:
            user = chat.user(one.event.sender.handle)
            await dropped.count(tx, chat, user, one.problem, now=one.at)
        return new

    async def _decided(self, chat: ChatKey, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """What of these is kept: as what, is said in `problem`. What leaves nothing is accepted by that."""
        kept: list[_Waiting] = []
        for one in batch:
            if one.problem is None and one.event.kind is EventKind.DELETION:
                if await self._is_known(chat, one.event.refers_to, kept):
                    kept.append(one)
                else:
                    _leave(chat, one)
                continue
            if one.problem is None and (one.event.sender.is_bot or not _is_said_to_us(one.event)):
                listening = await wirings.listening(self._store, chat)
                heard = listening.to_people or _is_said_to_us(one.event)
                if not heard and not await self._is_about_ours(chat, one.event, kept):
                    _leave(chat, one)
                    continue
                one.problem = ANOTHER_BOT if one.event.sender.is_bot and not listening.to_bots else None
            kept.append(one)
        return kept

    async def _is_known(self, chat: ChatKey, message: str | None, before: Sequence[_Waiting]) -> bool:
        """Whether this message waits, or was for an agent: of anything else nobody need know that it is gone. `before`
        as below."""
        if message is None:
            return False
        if any(one.event.platform_message_id == message for one in before if one.problem is None):
            return True
        message = await pieces.whole_of(self._store, chat, message)
        if await events.unsettled(self._store, chat, message) is not None:
            return True
        return bool(await routes.heard(self._store, chat, message))

    async def _is_about_ours(self, chat: ChatKey, event: InboundEvent, before: Sequence[_Waiting]) -> bool:
        """Where no agent listens: a press on a card that was sent there, an edit of what waits to be let in or that is
        the first to name us, or a code that somebody else could type now. `before`: what came before it and is not
        written yet."""
        match event.kind:
            case EventKind.CLICK:
                choice = await cards.chosen(self._store, event.value)
                return choice is not None and choice.is_in(chat)
            case EventKind.EDIT if event.refers_to is not None:
                waits = any(one.event.platform_message_id == event.refers_to for one in before if one.problem is None)
                message = await pieces.whole_of(self._store, chat, event.refers_to)
                if waits or await events.is_open(self._store, chat, message):
                    return True
                is_first = event.is_group and event.mentions_bot and not event.sender.is_bot
                if is_first and not await events.named_us(self._store, chat, message):
                    return True
        return not event.sender.is_bot and bool(await open_in(self._store, event))

    def reached(self) -> None:
        self._store.bus.publish(ChannelReached(self._channel_type, self._instance))

    async def moved(self, old: str, new: str) -> None:
        """Raises StoreError when the disk refuses."""
        if is_id(old) and is_id(new):
            await self._move(ChatKey(self._channel_type, self._instance, old), new)

    async def latest(self) -> Mapping[str, str]:
        return await events.latest_messages(
            self._store.reports, channel_type=self._channel_type, instance=self._instance, limit=LATEST_CHATS
        )

    async def recent(self, platform_id: str, since: datetime) -> Mapping[str, str | None]:
        chat = ChatKey(self._channel_type, self._instance, platform_id)
        return await events.recent_messages(self._store.reports, chat, since=since, limit=RECENT_MESSAGES)

    async def save_checkpoint(self, text: str) -> None:
        if len(text) > LONGEST_CHECKPOINT:
            raise ValueError(f"a checkpoint has {LONGEST_CHECKPOINT} characters at most, and this one {len(text)}")
        async with self._store.transaction() as tx:
            await checkpoints.save(
                tx, channel_type=self._channel_type, instance=self._instance, text=text, now=self._clock.now()
            )

    async def checkpoint(self) -> str | None:
        return await checkpoints.find(self._store, channel_type=self._channel_type, instance=self._instance)

    async def failed_later(self, key: str, platform_message_id: str, reason: str) -> None:
        """Raises StoreError when the disk refuses."""
        channel = (self._channel_type, self._instance)
        await self._take_late_failure(channel, key=key, platform_message_id=platform_message_id, reason=reason)


def _leave(chat: ChatKey, one: _Waiting) -> None:
    """It is accepted, and nothing is kept of it."""
    one.accepted = Accepted(new=False)
    _log.debug("message_not_kept", **_known(chat, one.event), kind=one.event.kind, reason="nobody listens")


def _known(chat: ChatKey, event: InboundEvent) -> dict[str, str]:
    return {"channel": chat.channel_type, "chat": chat.platform_id, "message": event.platform_message_id}


def _say(chat: ChatKey, event: InboundEvent) -> None:
    known = _known(chat, event)
    _log.info("message_received", **known, kind=event.kind, user=chat.user(event.sender.handle))
    _log.debug("message_received", **known, text=event.text)


def _is_said_to_us(event: InboundEvent) -> bool:
    return event.kind is EventKind.MESSAGE and (event.mentions_bot or not event.is_group)
