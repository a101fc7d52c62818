"""From an event to the mailboxes of the sessions it is for.

Promises: events of one chat are dealt with in order; each wiring decides for itself, and what one session's mailbox
refuses waits for that session alone. What fails for no reason known is tried again, then set aside, and holds up no
other chat. Doing a step again after a crash changes nothing: rows have derived ids, and an event is marked only after
its rows are on disk. A command for the host is decided on like a message and becomes a row like one; what it does is
the desk's.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, tzinfo
from typing import Protocol

import structlog

from nanohost.approvals.requests import Held
from nanohost.channel_api import EventKind
from nanohost.chat_commands.desk import Desk, Entry, Written
from nanohost.clock import Clock
from nanohost.errors import MailboxError, NanohostError
from nanohost.fair_share import FairShare
from nanohost.lanes import Lanes
from nanohost.model import MessagingGroup, Session, SessionId, WiringId
from nanohost.routing.albums import MOST_PIECES, before_album, named, open_for_s, pieces_of, together
from nanohost.routing.answers import Answers, Taken
from nanohost.routing.attachments import Attachments
from nanohost.routing.deciding import Deciding, Ready, reaching
from nanohost.routing.deletions import DELETED, NOBODY_READ_IT, as_told, take_out_deleted, withdraw
from nanohost.routing.engage import is_addressed
from nanohost.routing.message import message_for
from nanohost.routing.pause_notice import tell_of_pause
from nanohost.routing.run import Run, count, meet, put
from nanohost.routing.strangers import Door
from nanohost.store import dropped, events, messaging_groups, pieces, routes, sessions, wirings
from nanohost.store.database import Store, Transaction
from nanohost.store.domain_events import ChatHasNews, MailboxHasWaiting, SessionHasOrders, SessionHasWork
from nanohost.store.events import ChatKey, StoredEvent
from nanohost.store.routes import Route, RouteOutcome, Waiting
from nanohost_protocol.crash_points import reach

BATCH = 16
"""Events dealt with in one go: their rows share one commit a mailbox."""
MOST_TRIES = 8
"""Of an event that fails for no reason known: half a minute of growing pauses, then its chat goes on without it."""

_log = structlog.get_logger()


class Receives(Protocol):
    """Whoever deals with what is for the host itself, and no agent."""

    async def wants(self, stored: StoredEvent) -> bool: ...

    async def takes(self, stored: StoredEvent) -> bool: ...


class Router:
    """Deals with accepted events. `attachments` fetches what comes with a message. `reception` is asked first of all.
    `fair` holds back a chat with a long queue. `zone`: of the times that people read. Emits SessionHasWork for each
    session whose agent got something, SessionHasOrders for each whose runner has to do something."""

    def __init__(
        self,
        *,
        store: Store,
        desk: Desk,
        clock: Clock,
        attachments: Attachments | None = None,
        reception: Receives | None = None,
        fair: FairShare | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        self._store = store
        self._zone = zone
        self._desk = desk
        self._clock = clock
        self._attachments = attachments
        self._reception = reception
        self._fair = fair or FairShare()
        self._deciding = Deciding(store, clock)
        self._answers = Answers(store=store, clock=clock)
        self._chats = Lanes[ChatKey]("routing", self._route_chat, clock)
        self._refused = Lanes[SessionId]("mailbox", self._write_waiting, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Route while entered, beginning with what was left."""
        handlers = {
            ChatHasNews: lambda event: self._chats.poke(event.chat),
            MailboxHasWaiting: lambda event: self._refused.poke(event.session),
        }
        with self._store.bus.subscribed(handlers):
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
        """In order: what is for the host itself, or answers a question, is dealt with after all that came before it.
        What is left is found when the chat is looked at again."""
        for_agents: list[StoredEvent] = []
        for stored in batch:
            if stored.event.kind is EventKind.DELETION:
                if not await self._deal_with_all_before(stored, for_agents):
                    return
                for_agents = []
                await self._deal_with_deletion(stored)
                continue
            if self._reception is not None and not stored.event.sender.is_bot and await self._reception.wants(stored):
                if not await self._deal_with_all_before(stored, for_agents):
                    return
                for_agents = []
                if await self._reception.takes(stored):
                    _log.info("message_routed", number=stored.id, chat=str(chat), outcome="host")
                    continue
            if await self._answers.wants(stored):
                if not await self._deal_with_all_before(stored, for_agents):
                    return
                for_agents = []
                if await self._deal_with_answer(stored):
                    continue
            for_agents.append(stored)
        await self._deal_with_run(chat, for_agents)

    async def _deal_with_all_before(self, stored: StoredEvent, batch: Sequence[StoredEvent]) -> bool:
        """False: not all is, or the event itself is dealt with: the chat is to be looked at again."""
        await self._deal_with_run(stored.chat, batch)
        return await events.first_new(self._store, stored.chat) == stored.id

    async def _deal_with_run(self, chat: ChatKey, batch: Sequence[StoredEvent]) -> None:
        if not batch:
            return
        group = await messaging_groups.of_chat(self._store, chat)
        wired = await wirings.of_chat(self._store, group.id) if group else []
        if await events.first_new(self._store, chat) != batch[0].id:
            # What was held came free since the batch was read, and goes first; or all of this is dealt with, and only
            # what came with it in the batch failed. Looked at after the wirings: what ties a chat also frees.
            return
        if group is None or not wired:
            await self._turn_away(chat, batch)
            return
        now, later = await self._before_a_change(batch)
        await self._learn(group, now)
        run = Run(
            events={stored.id: stored for stored in now},
            group=group,
            wired={wiring.id: wiring for wiring in wired},
        )
        await self._route(run)
        await self._deal_with_run(chat, later)

    async def _before_a_change(
        self, batch: Sequence[StoredEvent]
    ) -> tuple[Sequence[StoredEvent], Sequence[StoredEvent]]:
        """What can be decided on in one go, and what only after that is on record: what becomes of an edit depends on
        what became of its message and of earlier edits."""
        said = set[str]()
        for at, stored in enumerate(batch):
            message = stored.event.platform_message_id
            if stored.event.kind is EventKind.EDIT and stored.event.refers_to is not None:
                message = await pieces.whole_of(self._store, stored.chat, stored.event.refers_to)
                if message in said:
                    return batch[:at], batch[at:]
            said.add(message)
        return batch, ()

    async def _deal_with_answer(self, stored: StoredEvent) -> bool:
        """False: it answers no question, and nothing was done about it."""
        taken = await self._answers.take(stored)
        if isinstance(taken, Taken):
            session, wiring = taken.session, taken.wiring
            route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=RouteOutcome.WRITTEN)
            entry = await self._answer(stored, wiring.id) or await self._deciding.entry(
                stored, wiring.id, session.agent_group_id, trigger=True
            )
            row = Ready(route=reaching(route, session), stored=stored, entry=entry)
            made, written = await self._write(session, [row])
            run = Run(events={stored.id: stored}, group=taken.group, wired={wiring.id: wiring})
            await self._record(run, made, {session.id: written})
        return taken is not None

    async def _deal_with_deletion(self, stored: StoredEvent) -> None:
        """What waits of the message is withdrawn; agents that it has reached are told, without being woken."""
        async with self._store.transaction() as tx:
            now = self._clock.now()
            told = await withdraw(tx, stored, now=now, zone=self._zone)
        made, written = list[Route](), dict[SessionId, Written]()
        for wiring, session_id in dict.fromkeys((one.wiring_id, one.session_id) for one in told.reached):
            session = None if session_id is None else await sessions.find(self._store, session_id)
            if session is None:
                continue
            route = Route(event_id=stored.id, wiring_id=wiring, outcome=RouteOutcome.CONTEXT)
            entry = await self._deciding.entry(told.deletion, wiring, session.agent_group_id, trigger=False)
            row = Ready(route=reaching(route, session, trigger=False), stored=stored, entry=entry)
            routed, written[session.id] = await self._write(session, [row])
            made += routed
        await self._record_deletion(stored, made, written)

    async def _turn_away(self, chat: ChatKey, batch: Sequence[StoredEvent]) -> None:
        """No agent listens here: whoever speaks to us waits until somebody decided, and the rest is dropped."""
        async with self._store.transaction() as tx:
            group = await messaging_groups.of_chat(tx, chat)
            if group is not None and await wirings.of_chat(tx, group.id):
                return  # it was wired just now, and the events are new yet
            door = Door(tx=tx, now=self._clock.now())
            for stored in batch:
                answer = await door.knock(stored, group)
                if isinstance(answer, Held):
                    await events.hold(tx, stored.id, answer.id)
                    _log.info("message_held", number=stored.id, chat=str(chat), approval=answer.id)
                    continue
                _log.info("event_dropped", chat=str(chat), user=stored.user, reason=answer.reason)
                await events.mark_dropped(tx, stored.id, answer.reason)
                await dropped.count(tx, chat, stored.user, answer.reason, now=door.now)
            await meet(door, [stored for stored in batch if is_addressed(stored.event)])

    async def _route(self, run: Run) -> None:
        declined: list[Route] = []
        ready: dict[SessionId, list[Ready]] = defaultdict(list)
        known: dict[SessionId, Session] = {}
        for stored in run.events.values():
            for wiring in run.wired.values():
                route, session = await self._deciding.decide(stored, run, wiring, ready)
                if session is None:
                    declined.append(route)
                    continue
                known[session.id] = session
                entry = await self._deciding.entry(stored, wiring.id, wiring.agent_group_id, trigger=route.trigger)
                whole = await self._deciding.with_its_files(stored, wiring.id) if route.trigger else stored
                ready[session.id].append(Ready(route=route, stored=whole, entry=entry))
        made, written = declined, dict[SessionId, Written]()
        for id, rows in ready.items():
            routed, written[id] = await self._write(known[id], rows)
            made += routed
        await self._record(run, made, written)

    async def _answer(self, stored: StoredEvent, wiring: WiringId) -> Entry | None:
        """The entry of an event that is the answer to a question; None: it is none."""
        answered = await self._answers.answered_by(stored)
        if answered is None:
            return None
        return Entry(message=message_for(await self._deciding.in_our_words(stored), wiring, answers=answered))

    async def _write(self, session: Session, rows: Sequence[Ready]) -> tuple[list[Route], Written]:
        """Put rows into a mailbox; what it refuses waits, and so does all that comes behind it."""
        reason, written = "", Written()
        # Asked of the record: what an approval set free waits from its commit on, whenever we hear of it.
        if await routes.waits(self._store, session.id):
            reason = "waits behind an earlier message"
        else:
            try:
                entries = [(row.stored, row.entry) for row in rows]
                written = await self._desk.write(session, await self._with_files(session, entries))
            except MailboxError as error:
                _log.warning("mailbox_refused", session=session.id, group=session.group_folder, error=str(error))
                reason = str(error)
        made = [replace(row.route, message_id=row.entry.message.id) for row in rows]
        if reason:
            made = [replace(route, outcome=RouteOutcome.WAITING, reason=reason) for route in made]
        return made, written

    async def _with_files(self, session: Session, entries: Sequence[tuple[StoredEvent, Entry]]) -> list[Entry]:
        """The entries once their files are here, or said not to be. Raises MailboxError, and then nobody fetches any
        more: what is tried again would write the same files."""
        attachments = self._attachments
        if attachments is None or not any(stored.event.attachments for stored, _ in entries):
            return [entry for _, entry in entries]
        fetching = [
            asyncio.ensure_future(attachments.fetched(session, stored, entry.message)) for stored, entry in entries
        ]
        await asyncio.gather(*fetching, return_exceptions=True)
        return [replace(entry, message=done.result()) for (_, entry), done in zip(entries, fetching, strict=True)]

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[Transaction]:
        """What was written to mailboxes is put on record while entered."""
        reach("routing.written")
        async with self._store.transaction() as tx:
            yield tx
        reach("routing.recorded")

    async def _record_deletion(
        self, stored: StoredEvent, made: Sequence[Route], written: Mapping[SessionId, Written]
    ) -> None:
        """Who deletes is nobody's acquaintance, and no message of theirs reached nobody."""
        async with self._recording() as tx:
            await routes.add_all(tx, made, now=self._clock.now())
            if made:
                await events.mark_routed(tx, [stored.id])
            else:
                await events.mark_settled(tx, stored.id, NOBODY_READ_IT)
            for session, what in written.items():
                await self._record_written(tx, session, what)

    async def _record(self, run: Run, made: Sequence[Route], written: Mapping[SessionId, Written]) -> None:
        async with self._recording() as tx:
            door = Door(tx=tx, now=self._clock.now())
            made = await put(door, run, made)
            await events.mark_routed(tx, sorted({route.event_id for route in made}))
            for session, what in written.items():
                await self._record_written(tx, session, what)
            await count(door, run, made)
            heard = {route.event_id for route in made if route.outcome is not RouteOutcome.NOT_ENGAGED}
            await meet(door, [run.events[event] for event in sorted(heard)])
            woken = {route.event_id for route in made if route.session_id is not None and route.trigger}
            await tell_of_pause(tx, [run.events[event] for event in sorted(woken)], door.now)
        _say_routed(run, made)

    async def _record_written(self, tx: Transaction, session: SessionId, written: Written) -> None:
        await self._desk.record(tx, written)
        if written.due:
            now = self._clock.now()
            await sessions.make_due(tx, session, at=now, now=now)
        if written.obey:
            tx.emit(SessionHasOrders(session))
        if written.work:
            tx.emit(SessionHasWork(session))

    async def _learn(self, group: MessagingGroup, batch: Sequence[StoredEvent]) -> None:
        """Keep what the platform says of a chat that was wired by its bare id."""
        latest = next((stored for stored in reversed(batch) if stored.event.kind is EventKind.MESSAGE), None)
        if latest is None:
            return
        name = latest.event.chat_name or group.name
        if (group.is_group, group.name) == (latest.event.is_group, name):
            return
        async with self._store.transaction() as tx:
            await messaging_groups.learn(tx, group.id, is_group=latest.event.is_group, name=name)

    async def _write_waiting(self, id: SessionId) -> None:
        """Write what a mailbox refused before. Raises MailboxError while it still refuses: tried again later."""
        session = await sessions.get(self._store, id)
        while waiting := await routes.waiting(self._store, id, limit=BATCH):
            try:
                entries = [await self._waiting_entry(session, one) for one in waiting]
                written = await self._desk.write(session, await self._with_files(session, entries))
            except MailboxError as error:
                async with self._store.transaction() as tx:
                    await routes.explain_waiting(tx, id, str(error))
                raise
            woken = {one.event_id for one in waiting if one.trigger}
            async with self._store.transaction() as tx:
                for one in waiting:
                    await routes.mark_written(tx, one.event_id, one.wiring_id, now=self._clock.now())
                await self._record_written(tx, id, written)
                heard = [stored for stored, _ in entries if stored.id in woken]
                await tell_of_pause(tx, heard, self._clock.now())
            for one in waiting:
                _log.info("message_routed", number=one.event_id, session=id, outcome="written", after="it waited")

    async def _waiting_entry(self, session: Session, one: Waiting) -> tuple[StoredEvent, Entry]:
        stored = await events.get(self._store, one.event_id)
        answer = await self._answer(stored, one.wiring_id)
        is_deletion = stored.event.kind is EventKind.DELETION
        said = await as_told(self._store, stored) if is_deletion else stored
        entry = answer or await self._deciding.entry(said, one.wiring_id, session.agent_group_id, trigger=one.trigger)
        return (await self._deciding.with_its_files(stored, one.wiring_id) if one.trigger else stored), entry


def _say_routed(run: Run, made: Sequence[Route]) -> None:
    """One line a message and agent. A reason that the host did not make itself is an error's, which is logged."""
    for route in made:
        _log.info(
            "message_routed",
            number=route.event_id,
            channel=run.group.channel_type,
            chat=run.group.platform_id,
            message=run.events[route.event_id].event.platform_message_id,
            wiring=route.wiring_id,
            outcome=route.outcome,
            session=route.session_id,
            reason=route.reason,
        )
