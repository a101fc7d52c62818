"""Writes rows into the mailboxes of sessions, and records the routes of their events.

Promises: what one session's mailbox refuses waits for that session alone, with all that comes behind it. An event
is marked only after its rows are on disk, and rows have derived ids: doing it again after a crash changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from nanohost.channel_api import EventKind
from nanohost.chat_commands.executor import CommandExecutor, CommandResult, MailboxEntry
from nanohost.clock import Clock
from nanohost.db import events, routes, sessions
from nanohost.db.database import Store, Transaction
from nanohost.db.domain_events import SessionHasControlMessages, SessionHasWork
from nanohost.db.events import StoredEvent
from nanohost.db.routes import Route, RouteOutcome, WaitingRow
from nanohost.errors import MailboxError
from nanohost.mailbox.writer import MailboxWriter, WriteResult
from nanohost.model import EventId, Session, SessionId, WiringId
from nanohost.routing.answers import AnswerProcessor
from nanohost.routing.attachments import AttachmentFetcher
from nanohost.routing.deletions import DELETED_BEFORE_DELIVERY, describe_deletion
from nanohost.routing.inbound_message import build_message
from nanohost.routing.pause_notice import notify_paused
from nanohost.routing.route_resolver import RoutedEntry, RouteResolver
from nanohost.routing.routing_batch import RoutingBatch, count_dropped, record_contacts, record_routes
from nanohost.routing.unknown_senders import UnknownSenderPolicy
from nanohost_protocol.crash_points import crash_point

_log = structlog.get_logger()


BATCH_SIZE = 16
"""Rows that waited which are written in one go: they share one commit a mailbox."""


class RouteWriter:
    """`attachments` fetches what comes with a message. `may_have_waiting` says of a session whether rows may wait for
    its mailbox; it must not say no before `write_waiting` has written them all.

    Emits SessionHasWork for each session whose agent got something, SessionHasControlMessages for each whose runner has
    to do something."""

    def __init__(
        self,
        *,
        store: Store,
        mailbox: MailboxWriter,
        commands: CommandExecutor,
        clock: Clock,
        resolver: RouteResolver,
        answers: AnswerProcessor,
        attachments: AttachmentFetcher | None = None,
        may_have_waiting: Callable[[SessionId], bool],
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._commands = commands
        self._clock = clock
        self._resolver = resolver
        self._answers = answers
        self._attachments = attachments
        self._may_have_waiting = may_have_waiting
        self._may_be_paused = True

    def on_pause_changed(self) -> None:
        """A pause has begun or is over, or it is not known whether one has."""
        self._may_be_paused = True

    async def write(self, session: Session, rows: Sequence[RoutedEntry]) -> tuple[list[Route], WriteResult]:
        """Put rows into a mailbox; what it refuses waits, and so does all that comes behind it."""
        reason, written = "", WriteResult()
        if self._may_have_waiting(session.id) and await routes.has_waiting(self._store, session.id):
            reason = "waits behind an earlier message"
        else:
            try:
                written = await self._put(session, [(row.stored, row.entry) for row in rows])
            except MailboxError as error:
                _log.warning("mailbox_write_failed", session=session.id, group=session.group_folder, error=str(error))
                reason = str(error)
        made = [replace(row.route, message_id=row.entry.message.id) for row in rows]
        if reason:
            made = [replace(route, outcome=RouteOutcome.WAITING, reason=reason) for route in made]
        return made, written

    async def _put(self, session: Session, entries: Sequence[tuple[StoredEvent, MailboxEntry]]) -> WriteResult:
        """Raises MailboxError, and then none of them is there."""
        ready = await self._fetch_files(session, entries)
        if any(entry.command for entry in ready):
            return await self._commands.execute(session, ready)
        return await self._mailbox.put(session, [entry.message for entry in ready])

    async def _fetch_files(
        self, session: Session, entries: Sequence[tuple[StoredEvent, MailboxEntry]]
    ) -> list[MailboxEntry]:
        """The entries once their files are here, or said not to be. Raises MailboxError, and then nobody fetches any
        more: what is tried again would write the same files."""
        attachments = self._attachments
        if attachments is None or not any(stored.event.attachments for stored, _ in entries):
            return [entry for _, entry in entries]
        fetching = [
            asyncio.ensure_future(attachments.add_files(session, stored, entry.message)) for stored, entry in entries
        ]
        await asyncio.gather(*fetching, return_exceptions=True)
        return [replace(entry, message=done.result()) for (_, entry), done in zip(entries, fetching, strict=True)]

    async def record(
        self, batch: RoutingBatch, resolved: Sequence[Route], write_results: Mapping[SessionId, WriteResult]
    ) -> set[EventId]:
        """Put on record what became of the events. Returns those that are handled by that."""
        async with self._recording() as tx:
            door = UnknownSenderPolicy(tx=tx, now=self._clock.now())
            resolved = await record_routes(door, batch, resolved)
            handled = {route.event_id for route in resolved}
            await events.mark_routed(tx, sorted(handled))
            for session, what in write_results.items():
                await self._record_write_result(tx, session, what)
            await count_dropped(door, batch, resolved)
            heard = {route.event_id for route in resolved if route.outcome is not RouteOutcome.NOT_ENGAGED}
            await record_contacts(door, [batch.events[event] for event in sorted(heard)])
            woken = {route.event_id for route in resolved if route.session_id is not None and route.trigger}
            await self._notify_paused(tx, [batch.events[event] for event in sorted(woken)])
        _log_routed(batch, resolved)
        return handled

    async def record_deletion(
        self, stored: StoredEvent, resolved: Sequence[Route], write_results: Mapping[SessionId, WriteResult]
    ) -> None:
        """Who deletes is nobody's acquaintance, and no message of theirs reached nobody."""
        async with self._recording() as tx:
            await routes.add_all(tx, resolved, now=self._clock.now())
            if resolved:
                await events.mark_routed(tx, [stored.id])
            else:
                await events.mark_settled(tx, stored.id, DELETED_BEFORE_DELIVERY)
            for session, what in write_results.items():
                await self._record_write_result(tx, session, what)

    async def write_waiting(self, id: SessionId) -> None:
        """Write what a mailbox refused before. Raises MailboxError while it still refuses: tried again later."""
        session = await sessions.get(self._store, id)
        while waiting := await routes.list_waiting(self._store, id, limit=BATCH_SIZE):
            try:
                entries = [await self._build_waiting_entry(session, one) for one in waiting]
                written = await self._put(session, entries)
            except MailboxError as error:
                async with self._store.transaction() as tx:
                    await routes.set_waiting_reason(tx, id, str(error))
                raise
            woken = {one.event_id for one in waiting if one.trigger}
            async with self._store.transaction() as tx:
                for one in waiting:
                    await routes.mark_written(tx, one.event_id, one.wiring_id, now=self._clock.now())
                await self._record_write_result(tx, id, written)
                heard = [stored for stored, _ in entries if stored.id in woken]
                await self._notify_paused(tx, heard)
            for one in waiting:
                _log.info("message_routed", number=one.event_id, session=id, outcome="written", after="it waited")

    async def build_answer_entry(self, stored: StoredEvent, wiring: WiringId) -> MailboxEntry | None:
        """The entry of an event that is the answer to a question; None: it is none."""
        answered = await self._answers.find_answered_question(stored)
        if answered is None:
            return None
        return MailboxEntry(
            message=build_message(await self._resolver.normalize(stored), wiring, answered_question=answered)
        )

    async def _build_waiting_entry(self, session: Session, waiting: WaitingRow) -> tuple[StoredEvent, MailboxEntry]:
        stored = await events.get(self._store, waiting.event_id)
        answer = await self.build_answer_entry(stored, waiting.wiring_id)
        is_deletion = stored.event.kind is EventKind.DELETION
        said = await describe_deletion(self._store, stored) if is_deletion else stored
        entry = answer or await self._resolver.build_entry(
            said, waiting.wiring_id, session.agent_group_id, trigger=waiting.trigger
        )
        return (
            await self._resolver.with_message_files(stored, waiting.wiring_id) if waiting.trigger else stored
        ), entry

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[Transaction]:
        """What was written to mailboxes is put on record while entered."""
        crash_point("routing.written")
        async with self._store.transaction() as tx:
            yield tx
        crash_point("routing.recorded")

    async def _notify_paused(self, tx: Transaction, stored_events: Sequence[StoredEvent]) -> None:
        """Nothing is asked once no pause was found: one that begins is told of at its commit, and so before any later
        transaction begins."""
        if self._may_be_paused:
            self._may_be_paused = await notify_paused(tx, stored_events, self._clock.now())

    async def _record_write_result(self, tx: Transaction, session: SessionId, result: WriteResult) -> None:
        if isinstance(result, CommandResult):
            await self._commands.record(tx, result)
        if result.is_due:
            now = self._clock.now()
            await sessions.make_due(tx, session, at=now, now=now)
        if result.has_runner_work:
            tx.emit(SessionHasControlMessages(session))
        if result.has_agent_work:
            tx.emit(SessionHasWork(session))


def _log_routed(batch: RoutingBatch, resolved: Sequence[Route]) -> None:
    """One line a message and agent. A reason that the host did not make itself is an error's, which is logged."""
    for route in resolved:
        _log.info(
            "message_routed",
            number=route.event_id,
            channel=batch.group.channel_type,
            chat=batch.group.platform_id,
            message=batch.events[route.event_id].event.platform_message_id,
            wiring=route.wiring_id,
            outcome=route.outcome,
            session=route.session_id,
            reason=route.reason,
        )
