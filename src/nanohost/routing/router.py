"""Gives each accepted event to the handler that it is for.

Promises: events of one chat are dealt with in order. What fails for no reason known is tried again, then set aside, and
holds up no other chat. An album is joined before anybody deals with it. A command for a session is decided on like a
message and becomes a row like one; what it does is chat_commands/'s.
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
from nanohost.errors import NanohostError
from nanohost.event_bus import Subscription
from nanohost.fair_share import FairShare
from nanohost.lanes import Lanes
from nanohost.mailbox.writer import MailboxWriter
from nanohost.model import SessionId
from nanohost.routing.albums import MOST_PIECES, before_album, named, open_for_s, pieces_of, together
from nanohost.routing.answer_handler import AnswerHandler
from nanohost.routing.answers import Answers
from nanohost.routing.attachments import Attachments
from nanohost.routing.deciding import Deciding
from nanohost.routing.deletion_handler import DeletionHandler
from nanohost.routing.deletions import DELETED, take_out_deleted
from nanohost.routing.wiring_handler import WiringHandler
from nanohost.routing.writer import RouteWriter
from nanohost.store import events, pieces, routes
from nanohost.store.database import Store
from nanohost.store.domain_events import ChatHasNews, MailboxHasWaiting
from nanohost.store.events import ChatKey, StoredEvent

BATCH = 16
"""Events dealt with in one go: their rows share one commit a mailbox."""
MOST_TRIES = 8
"""Of an event that fails for no reason known: half a minute of growing pauses, then its chat goes on without it."""

_log = structlog.get_logger()


class EventHandler(Protocol):
    """One kind of event, which is dealt with alone and after all that came before it in its chat."""

    async def wants(self, stored: StoredEvent) -> bool:
        """Whether the event may be for this handler. Costs next to nothing for an ordinary message."""
        ...

    async def handle(self, stored: StoredEvent) -> bool:
        """Deal with it. False: it is not for this handler after all, and nothing was done about it."""
        ...


class Router:
    """Deals with accepted events. The first handler that takes an event has it: deletions, `requests` to the host
    itself, answers to questions, and all else the wirings of its chat. `attachments` fetches what comes with a message.
    `fair` holds back a chat with a long queue. `zone`: of the times that people read. `writer`: the type of what
    writes."""

    def __init__(
        self,
        *,
        store: Store,
        mailbox: MailboxWriter,
        commands: CommandExecutor,
        clock: Clock,
        attachments: Attachments | None = None,
        requests: EventHandler | None = None,
        fair: FairShare | None = None,
        zone: tzinfo = UTC,
        writer: type[RouteWriter] = RouteWriter,
    ) -> None:
        self._store = store
        self._clock = clock
        self._fair = fair or FairShare()
        deciding, answers = Deciding(store, clock), Answers(store=store, clock=clock)
        self._writer = writer(
            store=store,
            mailbox=mailbox,
            commands=commands,
            clock=clock,
            deciding=deciding,
            answers=answers,
            attachments=attachments,
        )
        self._handlers: list[EventHandler] = [
            DeletionHandler(store=store, clock=clock, zone=zone, deciding=deciding, writer=self._writer),
            *([] if requests is None else [requests]),
            AnswerHandler(answers=answers, deciding=deciding, writer=self._writer),
        ]
        self._wirings = WiringHandler(store=store, clock=clock, deciding=deciding, writer=self._writer)
        self._chats = Lanes[ChatKey]("routing", self._route_chat, clock)
        self._refused = Lanes[SessionId]("mailbox", self._writer.write_waiting, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Route while entered, beginning with what was left."""
        subscriptions = (
            Subscription(ChatHasNews, lambda event: self._chats.poke(event.chat)),
            Subscription(MailboxHasWaiting, lambda event: self._refused.poke(event.session)),
        )
        with self._store.bus.subscribed(*subscriptions):
            async with self._refused.opened(), self._chats.opened():
                for session in await routes.sessions_waiting(self._store):
                    self._refused.poke(session)
                for chat in await events.chats_with_new(self._store):
                    self._chats.poke(chat)
                yield

    async def _route_chat(self, chat: ChatKey) -> None:
        while waiting := await events.new_in_chat(self._store, chat, limit=BATCH):
            began = time.monotonic()
            if await self._drops_deleted(waiting):
                continue
            batch = before_album(waiting)
            if not batch:
                if not await self._join_album(chat):
                    return
                continue
            try:
                await self._deal_with(chat, batch)
            except (NanohostError, OSError):
                raise  # the disk, a lock: no event is to blame, however long it lasts
            except Exception:
                for stored in batch:
                    await self._deal_with_alone(chat, stored)
            if len(batch) > 1:
                await self._fair.give_way(chat, time.monotonic() - began)

    async def _drops_deleted(self, waiting: Sequence[StoredEvent]) -> bool:
        """Whether some of these were deleted meanwhile; they are dropped by that, and it is to be looked again."""
        gone, several = [one for one in waiting if one.is_deleted], [one for one in waiting if one.is_joined]
        if not gone and not several:
            return False
        changed = bool(gone)
        async with self._store.transaction() as tx:
            for one in gone:
                await events.mark_dropped(tx, one.id, DELETED)
            for one in several:
                changed |= await take_out_deleted(tx, one)
        return changed

    async def _join_album(self, chat: ChatKey) -> bool:
        """Make the pieces of the album that comes first in this chat one message, once they are all there. False: we
        are closing."""
        while True:
            waiting = await events.new_in_chat(self._store, chat, limit=2 * MOST_PIECES)
            if waiting and await self._drops_deleted(waiting):
                continue
            if not waiting or waiting[0].event.album is None:
                return True
            found = pieces_of(waiting[0], waiting)
            wait_s = open_for_s(found, self._clock.now())
            if wait_s <= 0:
                break
            if not await self._chats.nap(wait_s):
                return False
        said = named([one.event for one in found])
        async with self._store.transaction() as tx:
            await pieces.add_all(tx, [(one.id, event) for one, event in zip(found, said, strict=True)])
            await events.join(tx, [one.id for one in found], together(said))
        return True

    async def _deal_with_alone(self, chat: ChatKey, stored: StoredEvent) -> None:
        """One event of a batch that failed, so that it is known which one it is. Raises while it is to be tried again:
        what comes after it waits."""
        try:
            await self._deal_with(chat, [stored])
        except (NanohostError, OSError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if stored.tries + 1 < MOST_TRIES:
                async with self._store.transaction() as tx:
                    await events.count_failure(tx, stored.id, reason)
                raise
            async with self._store.transaction() as tx:
                await events.set_aside(tx, stored.id, reason)
            _log.error("event_set_aside", number=stored.id, chat=str(chat), tries=MOST_TRIES, reason=reason)

    async def _deal_with(self, chat: ChatKey, batch: Sequence[StoredEvent]) -> None:
        """In order: what a handler wants alone is dealt with after all that came before it. What is left is found when
        the chat is looked at again."""
        for_wirings: list[StoredEvent] = []
        for stored in batch:
            for handler in self._handlers:
                if not await handler.wants(stored):
                    continue
                if not await self._deal_with_all_before(stored, for_wirings):
                    return
                for_wirings = []
                if await handler.handle(stored):
                    break
            else:
                for_wirings.append(stored)
        await self._wirings.handle_all(chat, for_wirings)

    async def _deal_with_all_before(self, stored: StoredEvent, batch: Sequence[StoredEvent]) -> bool:
        """False: not all is, or the event itself is dealt with: the chat is to be looked at again."""
        await self._wirings.handle_all(stored.chat, batch)
        return await events.first_new(self._store, stored.chat) == stored.id
