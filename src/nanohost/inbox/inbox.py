"""Accepts events from channels. Promises: `accept` returns after the event is on disk, once.

It does not decide who the event is for: the router does, and is notified that the chat has events. But events that
nobody listens to are not stored. In a chat without an agent it stores only messages that address the bot, edits of
those while they wait, and one-time codes, so that other talk there costs nothing. It does not store the deletion of a
message that reached no agent.
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

from nanohost.access.codes import find_open_codes
from nanohost.channel_api import Accepted, Capabilities, EventKind, InboundEvent
from nanohost.chat_mover import MoveHandler, ignore_move
from nanohost.clock import Clock
from nanohost.db import album_parts, cards, checkpoints, dropped, events, routes, wirings
from nanohost.db.database import Store, Transaction
from nanohost.db.domain_events import ChannelActive, ChannelConnected
from nanohost.db.events import ChatKey
from nanohost.errors import NanohostError
from nanohost.inbox.sanitize import find_problem, is_valid_id, placeholder_event, sanitize
from nanohost.work.fair_share import FairShare
from nanohost_protocol.crash_points import crash_point

MAX_LATEST_CHATS = 200
MAX_RECENT_MESSAGES = 500
MAX_CHECKPOINT_CHARS = 4_000
SENT_BY_BOT = "another bot wrote it"
BATCH_SIZE = 8
"""Events of one chat that are written in one transaction. A chat has one transaction waiting for the database at a
time: however many events it has, an event of another chat waits for one of them, which is short at this size."""

_log = structlog.get_logger()


class LateFailureHandler(Protocol):
    """Handles a platform's report that a message of (channel type, instance) was not delivered after all."""

    async def __call__(self, channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str) -> None: ...


async def _ignore_late_failure(channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str) -> None:
    """Ignores late failures, for an inbox without a delivery stage."""


@dataclass(slots=True, eq=False)
class _PendingEvent:
    """An event that arrived and is not written yet. `accepted` is set by the task that writes it."""

    event: InboundEvent
    problem: str | None
    received_at: datetime
    accepted: Accepted | None = None


@dataclass(slots=True)
class _ChatQueue:
    """The pending events of one chat, in order of arrival. The task that holds the lock writes later ones, too."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    pending: list[_PendingEvent] = field(default_factory=list)


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
        fair_share: FairShare | None = None,
        on_late_failure: LateFailureHandler = _ignore_late_failure,
        on_move: MoveHandler = ignore_move,
    ) -> None:
        self._channel_type = channel_type
        self._instance = instance
        self._has_threads = capabilities.threads
        self._store = store
        self._clock = clock
        self._fair_share = fair_share or FairShare()
        self._on_late_failure = on_late_failure
        self._on_move = on_move
        self._queues: dict[ChatKey, _ChatQueue] = {}

    async def accept(self, event: InboundEvent) -> Accepted:
        """Commits the event, or records that it is invalid. An event that nobody listens to is not stored.

        Raises StoreError when the disk refuses.
        """
        now = self._clock.now()
        problem = find_problem(event)
        kept = sanitize(event, has_threads=self._has_threads) if problem is None else placeholder_event(event, now)
        chat = ChatKey(self._channel_type, self._instance, kept.platform_id)
        waiting = _PendingEvent(kept, problem, now)
        async with self._queued(chat, waiting) as queue, queue.lock:
            if waiting.accepted is None:
                began = time.monotonic()
                await self._write_batch(chat, waiting, queue)
                self._fair_share.record_event(chat)
                if queue.pending:
                    await self._fair_share.yield_to_others(chat, time.monotonic() - began)
        assert waiting.accepted is not None, "the oldest pending event belongs to the task that holds the lock"
        return waiting.accepted

    @asynccontextmanager
    async def _queued(self, chat: ChatKey, pending: _PendingEvent) -> AsyncIterator[_ChatQueue]:
        queue = self._queues.setdefault(chat, _ChatQueue())
        queue.pending.append(pending)
        try:
            yield queue
        finally:
            queue.pending = [one for one in queue.pending if one is not pending]
            if not queue.pending and self._queues.get(chat) is queue:
                del self._queues[chat]

    async def _write_batch(self, chat: ChatKey, pending: _PendingEvent, queue: _ChatQueue) -> None:
        """Writes the queue's next events; if that fails, `pending` alone, so that no event fails because of another."""
        try:
            await self._write(chat, queue.pending[:BATCH_SIZE])
        except NanohostError:
            raise  # the disk: no event is at fault
        except Exception:
            await self._write(chat, [pending])
        queue.pending = [one for one in queue.pending if one.accepted is None]

    async def _write(self, chat: ChatKey, batch: Sequence[_PendingEvent]) -> None:
        kept = await self._select_kept(chat, batch)
        new: list[bool] = []
        if kept:
            async with self._store.transaction() as tx:
                new = [await self._insert(tx, chat, one) for one in kept]
                if any(one.problem is None for one in kept):
                    tx.emit(ChannelActive(self._channel_type, self._instance))
                crash_point("inbox.open")
            crash_point("inbox.committed")
        for one, is_new in zip(kept, new, strict=True):
            one.accepted = Accepted(new=is_new)
            if not is_new:
                _log.debug("message_duplicate", **_log_fields(chat, one.event), kind=one.event.kind)
            elif one.problem is None:
                _log_received(chat, one.event)
            if one.problem is not None:
                _log.info("event_dropped", channel=self._channel_type, chat=chat.platform_id, reason=one.problem)

    async def _insert(self, tx: Transaction, chat: ChatKey, pending: _PendingEvent) -> bool:
        """Stores the event; returns False if it is stored already."""
        new = await events.add(tx, chat, pending.event, now=pending.received_at, drop_reason=pending.problem)
        if new and pending.problem is not None and not pending.event.sender.is_self:
            user = chat.user_id_of(pending.event.sender.handle)
            await dropped.record(tx, chat, user, pending.problem, now=pending.received_at)
        return new

    async def _select_kept(self, chat: ChatKey, batch: Sequence[_PendingEvent]) -> list[_PendingEvent]:
        """What of these is kept: as what, is said in `problem`. What leaves nothing is accepted by that."""
        kept: list[_PendingEvent] = []
        for one in batch:
            if one.problem is None and one.event.kind is EventKind.DELETION:
                if await self._is_relevant_deletion(chat, one.event.refers_to, kept):
                    kept.append(one)
                else:
                    _discard(chat, one)
                continue
            if one.problem is None and (one.event.sender.is_bot or not _is_addressed(one.event)):
                listening = await wirings.find_listeners(self._store, chat)
                heard = listening.can_hear_people or _is_addressed(one.event)
                if not heard and not await self._is_relevant_unheard(chat, one.event, kept):
                    _discard(chat, one)
                    continue
                one.problem = SENT_BY_BOT if one.event.sender.is_bot and not listening.can_hear_bots else None
            kept.append(one)
        return kept

    async def _is_relevant_deletion(self, chat: ChatKey, message: str | None, earlier: Sequence[_PendingEvent]) -> bool:
        """Returns whether the deleted message waits or was routed to an agent; other deletions need not be stored.

        `earlier`: events that came before it and are not written yet.
        """
        if message is None:
            return False
        if any(one.event.platform_message_id == message for one in earlier if one.problem is None):
            return True
        message = await album_parts.find_whole_id(self._store, chat, message)
        if await events.find_unsettled(self._store, chat, message) is not None:
            return True
        return bool(await routes.list_routed(self._store, chat, message))

    async def _is_relevant_unheard(self, chat: ChatKey, event: InboundEvent, earlier: Sequence[_PendingEvent]) -> bool:
        """Returns whether to store an event of a chat where no agent listens.

        That is a press on a card that was sent there, an edit of a held message, the first edit that mentions the bot,
        or an open code that somebody else could use. `earlier`: events that came before it and are not written yet.
        """
        match event.kind:
            case EventKind.CLICK:
                choice = await cards.find_choice(self._store, event.value)
                return choice is not None and choice.was_sent_to(chat)
            case EventKind.EDIT if event.refers_to is not None:
                waits = any(one.event.platform_message_id == event.refers_to for one in earlier if one.problem is None)
                message = await album_parts.find_whole_id(self._store, chat, event.refers_to)
                if waits or await events.is_open(self._store, chat, message):
                    return True
                is_first = event.is_group and event.mentions_bot and not event.sender.is_bot
                if is_first and not await events.mentions_bot(self._store, chat, message):
                    return True
        return not event.sender.is_bot and bool(await find_open_codes(self._store, event))

    def reached(self) -> None:
        self._store.bus.publish(ChannelConnected(self._channel_type, self._instance))

    async def moved(self, old: str, new: str) -> None:
        """Raises StoreError when the disk refuses."""
        if is_valid_id(old) and is_valid_id(new):
            await self._on_move(ChatKey(self._channel_type, self._instance, old), new)

    async def latest(self) -> Mapping[str, str]:
        return await events.latest_messages(
            self._store.reports, channel_type=self._channel_type, instance=self._instance, limit=MAX_LATEST_CHATS
        )

    async def recent(self, platform_id: str, since: datetime) -> Mapping[str, str | None]:
        chat = ChatKey(self._channel_type, self._instance, platform_id)
        return await events.recent_messages(self._store.reports, chat, since=since, limit=MAX_RECENT_MESSAGES)

    async def save_checkpoint(self, text: str) -> None:
        if len(text) > MAX_CHECKPOINT_CHARS:
            raise ValueError(f"a checkpoint has {MAX_CHECKPOINT_CHARS} characters at most, and this one {len(text)}")
        async with self._store.transaction() as tx:
            await checkpoints.save(
                tx, channel_type=self._channel_type, instance=self._instance, checkpoint=text, now=self._clock.now()
            )

    async def checkpoint(self) -> str | None:
        return await checkpoints.find(self._store, channel_type=self._channel_type, instance=self._instance)

    async def failed_later(self, key: str, platform_message_id: str, reason: str) -> None:
        """Raises StoreError when the disk refuses."""
        channel = (self._channel_type, self._instance)
        await self._on_late_failure(channel, key=key, platform_message_id=platform_message_id, reason=reason)


def _discard(chat: ChatKey, pending: _PendingEvent) -> None:
    """Marks the event as accepted without storing it."""
    pending.accepted = Accepted(new=False)
    _log.debug(
        "message_discarded", **_log_fields(chat, pending.event), kind=pending.event.kind, reason="nobody listens"
    )


def _log_fields(chat: ChatKey, event: InboundEvent) -> dict[str, str]:
    return {"channel": chat.channel_type, "chat": chat.platform_id, "message": event.platform_message_id}


def _log_received(chat: ChatKey, event: InboundEvent) -> None:
    known = _log_fields(chat, event)
    _log.info("message_received", **known, kind=event.kind, user=chat.user_id_of(event.sender.handle))
    _log.debug("message_received", **known, text=event.text)


def _is_addressed(event: InboundEvent) -> bool:
    return event.kind is EventKind.MESSAGE and (event.mentions_bot or not event.is_group)
