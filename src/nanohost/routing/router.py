"""Gives each accepted event to the first handler that takes it.

Promises: events of one chat are handled in order. An event that fails for an unknown reason is retried, then
quarantined, and delays no other chat. An album is joined before a handler gets it. A command for a session is routed
like a message and becomes a row; chat_commands/ carries it out.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, tzinfo
from typing import Protocol

import structlog

from nanohost.chat_commands.executor import CommandExecutor
from nanohost.clock import Clock
from nanohost.db import album_parts, events, routes
from nanohost.db.database import Store
from nanohost.db.domain_events import ChatHasEvents, MailboxHasPendingRows, PauseChanged
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.errors import NanohostError
from nanohost.mailbox.writer import MailboxWriter
from nanohost.model import SessionId
from nanohost.routing.albums import (
    MAX_PIECES,
    album_pieces,
    events_before_album,
    merge_pieces,
    remaining_wait_s,
    with_unique_file_names,
)
from nanohost.routing.answer_handler import AnswerHandler
from nanohost.routing.answers import AnswerProcessor
from nanohost.routing.attachments import AttachmentFetcher
from nanohost.routing.deletion_handler import DeletionHandler
from nanohost.routing.deletions import DELETED_BY_AUTHOR, remove_deleted_pieces
from nanohost.routing.route_resolver import RouteResolver
from nanohost.routing.route_writer import RouteWriter
from nanohost.routing.wiring_handler import WiringHandler
from nanohost.work.event_bus import Subscription
from nanohost.work.fair_share import FairShare
from nanohost.work.keyed_workers import KeyedWorkers

BATCH_SIZE = 16
"""Events handled together: their rows share one commit per mailbox."""
MAX_ATTEMPTS = 8
"""Attempts at an event that fails for an unknown reason: half a minute of growing pauses, then it is quarantined."""

_log = structlog.get_logger()


class EventHandler(Protocol):
    """Handles one kind of event, one at a time, after all earlier events of its chat."""

    async def can_handle(self, stored: StoredEvent) -> bool:
        """Returns whether the event may be for this handler. Must be cheap for an ordinary message."""
        ...

    async def handle(self, stored: StoredEvent) -> bool:
        """Handles the event. Returns False if it is not for this handler; then nothing was changed."""
        ...


class Router:
    """Routes accepted events to handlers, in this order: deletions, requests to the host, answers, wirings.

    `attachments` fetches the files of messages. `host_request_handler` handles requests to the host itself.
    `fair_share` holds back a chat with a long queue. `zone`: the time zone of times that people read. `writer_type`:
    the class of the route writer.
    """

    def __init__(
        self,
        *,
        store: Store,
        mailbox: MailboxWriter,
        commands: CommandExecutor,
        clock: Clock,
        attachments: AttachmentFetcher | None = None,
        host_request_handler: EventHandler | None = None,
        fair_share: FairShare | None = None,
        zone: tzinfo = UTC,
        writer_type: type[RouteWriter] = RouteWriter,
    ) -> None:
        self._store = store
        self._clock = clock
        self._fair_share = fair_share or FairShare()
        resolver, answers = RouteResolver(store, clock), AnswerProcessor(store=store, clock=clock)
        self._writer = writer_type(
            store=store,
            mailbox=mailbox,
            commands=commands,
            clock=clock,
            resolver=resolver,
            answers=answers,
            attachments=attachments,
            may_have_waiting=lambda session: self._mailbox_workers.is_active(session),
        )
        self._handlers: list[EventHandler] = [
            DeletionHandler(store=store, clock=clock, zone=zone, resolver=resolver, writer=self._writer),
            *([] if host_request_handler is None else [host_request_handler]),
            AnswerHandler(answers=answers, resolver=resolver, writer=self._writer),
        ]
        self._wiring_handler = WiringHandler(store=store, clock=clock, resolver=resolver, writer=self._writer)
        self._chat_workers = KeyedWorkers[ChatKey]("routing", self._route_chat, clock)
        self._mailbox_workers = KeyedWorkers[SessionId]("mailbox", self._writer.write_waiting, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Routes events while entered, beginning with those left from the last run."""
        subscriptions = (
            Subscription(ChatHasEvents, lambda event: self._chat_workers.notify(event.chat)),
            Subscription(MailboxHasPendingRows, lambda event: self._mailbox_workers.notify(event.session)),
            Subscription(PauseChanged, lambda _: self._writer.on_pause_changed()),
        )
        self._writer.on_pause_changed()
        with self._store.bus.subscribed(*subscriptions):
            async with self._mailbox_workers.opened():
                # Before any chat is routed, which is not behind rows that nobody has begun to write.
                for session in await routes.list_waiting_sessions(self._store):
                    self._mailbox_workers.notify(session)
                async with self._chat_workers.opened():
                    for chat in await events.list_chats_with_new(self._store):
                        self._chat_workers.notify(chat)
                    yield

    async def _route_chat(self, chat: ChatKey) -> None:
        while waiting := await events.list_new(self._store, chat, limit=BATCH_SIZE):
            began = time.monotonic()
            if await self._drop_deleted(waiting):
                continue
            batch = events_before_album(waiting)
            if not batch:
                if not await self._join_album(chat):
                    return
                continue
            try:
                is_handled = await self._process(chat, batch)
            except (NanohostError, OSError):
                raise  # the disk or a lock: no event is at fault, however long it lasts
            except Exception:
                is_handled = False
                for stored in batch:
                    await self._process_single(chat, stored)
            if len(batch) > 1:
                await self._fair_share.yield_to_others(chat, time.monotonic() - began)
            if is_handled and len(batch) == len(waiting) < BATCH_SIZE:
                return  # whatever is new since we looked has notified this worker

    async def _drop_deleted(self, waiting: Sequence[StoredEvent]) -> bool:
        """Drops events that were deleted meanwhile. Returns whether there were any: the caller then reads again."""
        gone, joined = [one for one in waiting if one.is_deleted], [one for one in waiting if one.is_joined]
        if not gone and not joined:
            return False
        changed = bool(gone)
        async with self._store.transaction() as tx:
            for one in gone:
                await events.mark_dropped(tx, one.id, DELETED_BY_AUTHOR)
            for one in joined:
                changed |= await remove_deleted_pieces(tx, one)
        return changed

    async def _join_album(self, chat: ChatKey) -> bool:
        """Waits for all pieces of the chat's first album and joins them. Returns False if the router is closing."""
        while True:
            waiting = await events.list_new(self._store, chat, limit=2 * MAX_PIECES)
            if waiting and await self._drop_deleted(waiting):
                continue
            if not waiting or waiting[0].event.album is None:
                return True
            found = album_pieces(waiting[0], waiting)
            wait_s = remaining_wait_s(found, self._clock.now())
            if wait_s <= 0:
                break
            if not await self._chat_workers.sleep(wait_s):
                return False
        pieces = with_unique_file_names([one.event for one in found])
        async with self._store.transaction() as tx:
            await album_parts.add_all(tx, [(one.id, event) for one, event in zip(found, pieces, strict=True)])
            await events.join_album(tx, [one.id for one in found], merge_pieces(pieces))
        return True

    async def _process_single(self, chat: ChatKey, stored: StoredEvent) -> None:
        """Handles one event of a batch that failed, to find the one at fault.

        Raises while it is to be retried: later events of the chat wait. Then quarantines it.
        """
        try:
            await self._process(chat, [stored])
        except (NanohostError, OSError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if stored.attempts + 1 < MAX_ATTEMPTS:
                async with self._store.transaction() as tx:
                    await events.record_failure(tx, stored.id, reason)
                raise
            async with self._store.transaction() as tx:
                await events.quarantine(tx, stored.id, reason)
            _log.error("event_quarantined", number=stored.id, chat=str(chat), tries=MAX_ATTEMPTS, reason=reason)

    async def _process(self, chat: ChatKey, batch: Sequence[StoredEvent]) -> bool:
        """Handles a batch in order: an event for a handler after all earlier ones.

        False: events may be left,
        and are read again with the next batch of the chat.
        """
        for_wirings: list[StoredEvent] = []
        for stored in batch:
            for handler in self._handlers:
                if not await handler.can_handle(stored):
                    continue
                if not await self._process_preceding(stored, for_wirings):
                    return False
                for_wirings = []
                if await handler.handle(stored):
                    break
            else:
                for_wirings.append(stored)
        is_handled = await self._wiring_handler.handle_all(chat, for_wirings)
        return is_handled and len(for_wirings) == len(batch)

    async def _process_preceding(self, stored: StoredEvent, batch: Sequence[StoredEvent]) -> bool:
        """Handles the events before `stored`. Returns False if `stored` is not the next new event of the chat then."""
        await self._wiring_handler.handle_all(stored.chat, batch)
        return await events.find_first_new(self._store, stored.chat) == stored.id
