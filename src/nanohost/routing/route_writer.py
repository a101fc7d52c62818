"""Writes rows into the mailboxes of sessions, and records the routes of their events.

Promises: if a session's mailbox cannot be written, only that session's rows wait, in order. An event is marked as
routed only after its rows are on disk, and rows have derived ids: repeating it after a crash changes nothing.
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
from nanohost.routing.unknown_sender_policy import UnknownSenderPolicy
from nanohost_protocol.crash_points import crash_point

_log = structlog.get_logger()


BATCH_SIZE = 16
"""Waiting rows that are written in one commit of a mailbox."""


class RouteWriter:
    """Writes rows and records routes. `attachments` fetches the files of messages. `may_have_waiting` says of a session
    whether rows may wait for its mailbox; it must not say no before `write_waiting` has written them all.

    Emits SessionHasWork for each session with new rows for its agent, and SessionHasControlMessages for each with has
    to its runner.
    """

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
        """Writes rows into a mailbox. If that fails, they wait, and so do all later rows of the session."""
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
        """Raises MailboxError, and then none of them is written."""
        ready = await self._fetch_files(session, entries)
        if any(entry.command for entry in ready):
            return await self._commands.execute(session, ready)
        return await self._mailbox.put(session, [entry.message for entry in ready])

    async def _fetch_files(
        self, session: Session, entries: Sequence[tuple[StoredEvent, MailboxEntry]]
    ) -> list[MailboxEntry]:
        """Returns the entries after their files were fetched or have failed.

        Raises MailboxError, but only after all fetches have ended: a retry writes the same files.
        """
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
            sender_policy = UnknownSenderPolicy(tx=tx, now=self._clock.now())
            resolved = await record_routes(sender_policy, batch, resolved)
            handled = {route.event_id for route in resolved}
            await events.mark_routed(tx, sorted(handled))
            for session, result in write_results.items():
                await self._record_write_result(tx, session, result)
            await count_dropped(sender_policy, batch, resolved)
            heard = {route.event_id for route in resolved if route.outcome is not RouteOutcome.NOT_ENGAGED}
            await record_contacts(sender_policy, [batch.events[event] for event in sorted(heard)])
            woken = {route.event_id for route in resolved if route.session_id is not None and route.trigger}
            await self._notify_paused(tx, [batch.events[event] for event in sorted(woken)])
        _log_routed(batch, resolved)
        return handled

    async def record_deletion(
        self, stored: StoredEvent, resolved: Sequence[Route], write_results: Mapping[SessionId, WriteResult]
    ) -> None:
        """Records the routes of a deletion. Its sender becomes no contact, and no dropped message is counted."""
        async with self._recording() as tx:
            await routes.add_all(tx, resolved, now=self._clock.now())
            if resolved:
                await events.mark_routed(tx, [stored.id])
            else:
                await events.mark_settled(tx, stored.id, DELETED_BEFORE_DELIVERY)
            for session, result in write_results.items():
                await self._record_write_result(tx, session, result)

    async def write_waiting(self, id: SessionId) -> None:
        """Writes the waiting rows of a session. Raises MailboxError if that still fails: it is retried later."""
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
        """Returns the entry of an event that answers a question; None if it answers none."""
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
        described = await describe_deletion(self._store, stored) if is_deletion else stored
        entry = answer or await self._resolver.build_entry(
            described, waiting.wiring_id, session.agent_group_id, trigger=waiting.trigger
        )
        return (
            await self._resolver.with_message_files(stored, waiting.wiring_id) if waiting.trigger else stored
        ), entry

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[Transaction]:
        """Opens the transaction that records what was written to mailboxes."""
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
        cursor = None
        if result.is_due:
            now = self._clock.now()
            cursor = await sessions.make_due(tx, session, at=now, now=now)
        if result.has_runner_work:
            tx.emit(SessionHasControlMessages(session))
        if result.has_agent_work:
            # Acks of the rows, if any, were processed since: then the work is done, and the session is due for nothing.
            tx.emit(SessionHasWork(session, may_be_done=cursor is None or cursor != result.ack_cursor))


def _log_routed(batch: RoutingBatch, resolved: Sequence[Route]) -> None:
    """Logs one line per message and agent. A `reason` is the host's own, or the text of an error."""
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
