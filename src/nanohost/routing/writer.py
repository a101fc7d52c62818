"""Writes rows into the mailboxes of sessions, and puts on record what became of the events that they are of.

Promises: what one session's mailbox refuses waits for that session alone, with all that comes behind it. An event
is marked only after its rows are on disk, and rows have derived ids: doing it again after a crash changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from nanohost.channel_api import EventKind
from nanohost.chat_commands.executor import CommandExecutor, Entry, Executed
from nanohost.clock import Clock
from nanohost.errors import MailboxError
from nanohost.mailbox.writer import MailboxWriter, Written
from nanohost.model import Session, SessionId, WiringId
from nanohost.routing.answers import Answers
from nanohost.routing.attachments import Attachments
from nanohost.routing.deciding import Deciding, Ready
from nanohost.routing.deletions import NOBODY_READ_IT, as_told
from nanohost.routing.message import message_for
from nanohost.routing.pause_notice import tell_of_pause
from nanohost.routing.run import Run, count, meet, put
from nanohost.routing.strangers import Door
from nanohost.store import events, routes, sessions
from nanohost.store.database import Store, Transaction
from nanohost.store.domain_events import SessionHasOrders, SessionHasWork
from nanohost.store.events import StoredEvent
from nanohost.store.routes import Route, RouteOutcome, Waiting
from nanohost_protocol.crash_points import reach

_log = structlog.get_logger()


BATCH = 16
"""Rows that waited which are written in one go: they share one commit a mailbox."""


class RouteWriter:
    """`attachments` fetches what comes with a message. Emits SessionHasWork for each session whose agent got something,
    SessionHasOrders for each whose runner has to do something."""

    def __init__(
        self,
        *,
        store: Store,
        mailbox: MailboxWriter,
        commands: CommandExecutor,
        clock: Clock,
        deciding: Deciding,
        answers: Answers,
        attachments: Attachments | None = None,
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._commands = commands
        self._clock = clock
        self._deciding = deciding
        self._answers = answers
        self._attachments = attachments

    async def write(self, session: Session, rows: Sequence[Ready]) -> tuple[list[Route], Written]:
        """Put rows into a mailbox; what it refuses waits, and so does all that comes behind it."""
        reason, written = "", Written()
        # Asked of the record: what an approval set free waits from its commit on, whenever we hear of it.
        if await routes.waits(self._store, session.id):
            reason = "waits behind an earlier message"
        else:
            try:
                written = await self._put(session, [(row.stored, row.entry) for row in rows])
            except MailboxError as error:
                _log.warning("mailbox_refused", session=session.id, group=session.group_folder, error=str(error))
                reason = str(error)
        made = [replace(row.route, message_id=row.entry.message.id) for row in rows]
        if reason:
            made = [replace(route, outcome=RouteOutcome.WAITING, reason=reason) for route in made]
        return made, written

    async def _put(self, session: Session, entries: Sequence[tuple[StoredEvent, Entry]]) -> Written:
        """Raises MailboxError, and then none of them is there."""
        ready = await self._with_files(session, entries)
        if any(entry.order for entry in ready):
            return await self._commands.execute(session, ready)
        return await self._mailbox.put(session, [entry.message for entry in ready])

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

    async def record(self, run: Run, made: Sequence[Route], written: Mapping[SessionId, Written]) -> None:
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

    async def record_deletion(
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

    async def write_waiting(self, id: SessionId) -> None:
        """Write what a mailbox refused before. Raises MailboxError while it still refuses: tried again later."""
        session = await sessions.get(self._store, id)
        while waiting := await routes.waiting(self._store, id, limit=BATCH):
            try:
                entries = [await self._waiting_entry(session, one) for one in waiting]
                written = await self._put(session, entries)
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

    async def answer(self, stored: StoredEvent, wiring: WiringId) -> Entry | None:
        """The entry of an event that is the answer to a question; None: it is none."""
        answered = await self._answers.answered_by(stored)
        if answered is None:
            return None
        return Entry(message=message_for(await self._deciding.in_our_words(stored), wiring, answers=answered))

    async def _waiting_entry(self, session: Session, one: Waiting) -> tuple[StoredEvent, Entry]:
        stored = await events.get(self._store, one.event_id)
        answer = await self.answer(stored, one.wiring_id)
        is_deletion = stored.event.kind is EventKind.DELETION
        said = await as_told(self._store, stored) if is_deletion else stored
        entry = answer or await self._deciding.entry(said, one.wiring_id, session.agent_group_id, trigger=one.trigger)
        return (await self._deciding.with_its_files(stored, one.wiring_id) if one.trigger else stored), entry

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[Transaction]:
        """What was written to mailboxes is put on record while entered."""
        reach("routing.written")
        async with self._store.transaction() as tx:
            yield tx
        reach("routing.recorded")

    async def _record_written(self, tx: Transaction, session: SessionId, written: Written) -> None:
        if isinstance(written, Executed):
            await self._commands.record(tx, written)
        if written.due:
            now = self._clock.now()
            await sessions.make_due(tx, session, at=now, now=now)
        if written.obey:
            tx.emit(SessionHasOrders(session))
        if written.work:
            tx.emit(SessionHasWork(session))


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
