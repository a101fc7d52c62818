"""Reads and writes the two mailbox files for the runner: polls for changes, writes in transactions.

All access goes through one thread, so the event loop never waits for a disk and operations do not interleave. A poll
that finds the host's file unchanged costs one read of four bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import ParamSpec, TypeVar

from agent_runner import claims, references
from agent_runner.claims import Batch
from agent_runner.destinations import AddressBook
from agent_runner.log import log
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.errors import FileLocked, FileNotReady
from nanohost_protocol.inbound import InboundReader, inbound_snapshot
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import MessageIn, MessageOut, Meta, NewMessageOut

P = ParamSpec("P")
R = TypeVar("R")

CHANGE_COUNTER = slice(24, 28)
"""The position of the change counter in an SQLite file (file format, 1.3.7)."""
MAX_BUSY_ATTEMPTS = 12
"""A write waits five seconds for a reader; after a minute of attempts this runner exits and another is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundChanges:
    """The result of one poll of the host's file: what to do next, and the data for a turn."""

    batch: Batch | None
    follow_ups: tuple[MessageIn, ...]
    skipped: tuple[MessageIn, ...]
    """Context without a place among the follow-ups."""
    withdrawn: tuple[MessageIn, ...]
    """Messages that were deleted before they were claimed: to be closed unseen."""
    control_messages: tuple[MessageIn, ...]
    referenced_seqs: Mapping[str, int]
    """The numbers of the messages that edits, reactions, presses and answers refer to, by row id."""
    question_texts: Mapping[str, str]
    """The texts of the questions that answers refer to, by row id."""
    undelivered_questions: frozenset[str]
    """The awaited questions that were not delivered."""
    has_pending_command: bool
    """A command for the model's command line waits for its own turn."""
    address_book: AddressBook
    meta: Meta
    next_due: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTurn:
    """A claimed turn: the number of this attempt, and what earlier attempts have sent."""

    attempt: int
    sent_messages: tuple[MessageOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A committed message: its row's id, whether it is new or of an earlier attempt of the turn, and its number."""

    id: str
    is_new: bool
    seq: int


class Mailbox:
    """The mailbox of this session. Open it before anything else, and close it last."""

    def __init__(self, layout: SessionLayout, *, lease: str, durable: bool = True) -> None:
        """Opens the files, and rolls back unfinished writes of an earlier runner.

        Raises InvalidFileError, VersionMismatch, FileLocked.
        """
        self._layout = layout
        self._writer = OutboundWriter(layout.outbound_db, container_id=lease, durable=durable)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mailbox")
        self._change_counter: bytes | None = None
        self.next_due: datetime | None = None
        """When the next message is due, as of the last poll; None if there is none."""
        self._is_first_poll = True
        self._must_reread = False
        """The last poll failed: the next one reads the file even if it has not changed."""
        self._highest_seen_seq = 0
        self._missing_since: float | None = None
        self._pruned_cursors = (0, 0)

    def close(self) -> None:
        self._thread.shutdown()
        self._writer.close()

    def abandon_stale_claims(self, now: datetime) -> None:
        """Releases the claims of earlier containers. Raises VersionMismatch if the host's file has another version."""
        try:
            with inbound_snapshot(self._layout.inbound_db):
                pass
        except (FileNotReady, FileLocked):
            log("inbound_not_ready")
        self._writer.abandon_stale_claims(now)

    @property
    def missing_s(self) -> float:
        """Returns for how many seconds the host's file has been missing."""
        return 0.0 if self._missing_since is None else time.monotonic() - self._missing_since

    async def poll(
        self, now: datetime, *, force: bool = False, questions: Collection[str] = ()
    ) -> InboundChanges | None:
        """Returns what is new; None if nothing is, or if the file cannot be read now.

        `force`: read even if the host has written nothing, as after a turn. `questions`: ids of awaited questions.
        """
        return await self._run_in_thread(self._poll, now, force, questions)

    async def meta(self) -> Meta:
        """Returns the host's current data about the session. Raises FileNotReady, FileLocked."""
        return await self._retry_while_busy(self._read_meta)

    async def claim(self, batch: Batch, now: datetime) -> ClaimedTurn:
        """Claims a batch and so begins a turn."""
        return await self._retry_while_busy(self._claim, batch, now)

    async def claim_more(
        self, turn_id: str, messages: Sequence[MessageIn], now: datetime, *, skipped: Sequence[MessageIn] = ()
    ) -> None:
        """Adds follow-ups to the running turn, and closes the context without a place among them."""
        claim_more = partial(self._writer.claim_more, skipped=skipped)
        await self._retry_while_busy(claim_more, turn_id, messages, now)

    async def skip(self, messages: Sequence[MessageIn], now: datetime) -> None:
        """Closes messages that no turn is to claim."""
        await self._retry_while_busy(self._writer.skip, messages, now)

    async def send(self, message: NewMessageOut, now: datetime) -> SentMessage:
        """Commits one message during a turn; a message of an earlier attempt keeps its number."""
        sent = await self._retry_while_busy(self._send, message, now)
        crash_point("runner.said")
        return sent

    async def find_inbound(self, seq: int) -> MessageIn | None:
        """Returns the inbound message with this number, while the host keeps it. Raises FileNotReady, FileLocked."""
        return await self._retry_while_busy(self._read_by_seq, seq)

    async def find_claimed_answer(self, question: SentMessage) -> MessageIn | None:
        """Returns the answer to the agent's question, if this or an earlier turn claimed it; else the next poll finds
        it. Raises FileNotReady, FileLocked."""
        return await self._retry_while_busy(self._find_claimed_answer, question)

    async def finish(self, end: TurnEnd, now: datetime) -> None:
        """Ends a turn: commits its messages, acks and state."""
        await self._retry_while_busy(
            partial(self._writer.finish, highest_seen_seq=self._highest_seen_seq), end, now=now
        )

    async def release(self, turn_id: str, now: datetime) -> None:
        """Releases the claims of a turn without an answer."""
        await self._retry_while_busy(self._writer.release, turn_id, now)

    async def state(self, key: str) -> str | None:
        return await self._run_in_thread(self._writer.state, key)

    async def set_state(self, key: str, value: str | None) -> None:
        await self._retry_while_busy(self._writer.set_state, key, value)

    async def set_progress(self, values: Mapping[str, str]) -> None:
        await self._retry_while_busy(self._writer.set_progress, values)

    async def prune(self, meta: Meta, *, at_least: int = 1) -> None:
        """Deletes what the host has collected, if that is `at_least` as many acks or messages more than last time."""
        reached = (int(meta.get("out_cursor", 0)), int(meta.get("ack_cursor", 0)))
        if max(new - old for new, old in zip(reached, self._pruned_cursors, strict=True)) >= at_least:
            await self._retry_while_busy(self._writer.prune, out_cursor=reached[0], ack_cursor=reached[1])
            self._pruned_cursors = reached

    async def _run_in_thread(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(step, *args, **kwargs))

    async def _retry_while_busy(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Retries a step while a reader blocks it. A write is one transaction, so a blocked one has changed nothing."""
        for left in reversed(range(MAX_BUSY_ATTEMPTS)):
            try:
                return await self._run_in_thread(step, *args, **kwargs)
            except FileLocked:
                log("outbound_busy", tries_left=left)
                if left == 0:
                    raise
        raise AssertionError("unreachable")

    def _claim(self, batch: Batch, now: datetime) -> ClaimedTurn:
        self._writer.claim(batch.turn_id, batch.messages, now, skipped=batch.skipped)
        turn = self._writer.turn(batch.turn_id)
        attempt = turn.attempt if turn is not None else 1
        return ClaimedTurn(
            attempt=attempt, sent_messages=self._writer.sent_messages(batch.turn_id) if attempt > 1 else ()
        )

    def _send(self, message: NewMessageOut, now: datetime) -> SentMessage:
        new = self._writer.insert(message, highest_seen_seq=self._highest_seen_seq, now=now)
        place = self._writer.message_ref(message.id)
        assert place is not None, "it is in the file, and nobody else writes to it"
        return SentMessage(id=message.id, is_new=new, seq=place.seq)

    def _find_claimed_answer(self, question: SentMessage) -> MessageIn | None:
        with inbound_snapshot(self._layout.inbound_db) as inbound:
            row = inbound.find_answer(question.id, after=question.seq)
        is_open = row is not None and row.status == "pending" and not self._writer.acks([row.id])
        return None if is_open else row

    def _read_by_seq(self, number: int) -> MessageIn | None:
        with inbound_snapshot(self._layout.inbound_db) as inbound:
            return inbound.find_by_seq(number)

    def _read_meta(self) -> Meta:
        with inbound_snapshot(self._layout.inbound_db) as inbound:
            return inbound.meta()

    def _poll(self, now: datetime, force: bool, questions: Collection[str]) -> InboundChanges | None:
        counter = self._read_change_counter()
        fell_due = self.next_due is not None and now >= self.next_due
        if counter is None:
            self._mark_read_failed()
            return None
        if counter == self._change_counter and not (force or fell_due or self._must_reread):
            return None
        try:
            with inbound_snapshot(self._layout.inbound_db) as inbound:
                news = self._read_changes(inbound, now, questions)
        except (FileNotReady, FileLocked):
            self._mark_read_failed()
            return None
        # Set only now: the counter was read before the snapshot, so a commit in between is noticed at the next poll.
        self._change_counter, self.next_due, self._is_first_poll, self._must_reread = (
            counter,
            news.next_due,
            False,
            False,
        )
        return news

    def _mark_read_failed(self) -> None:
        """Records a failed read, and clears the due time: with it the loop would poll without a pause."""
        self._must_reread, self.next_due = True, None

    def _read_changes(self, inbound: InboundReader, now: datetime, questions: Collection[str]) -> InboundChanges:
        due = list(inbound.due(now))
        acks = self._writer.acks(row.id for row in due)
        rows = claims.eligible(due, acks, is_first_poll=self._is_first_poll)
        withdrawn = claims.find_withdrawn(rows, acks)
        rows = claims.remove_deleted_files([row for row in rows if row not in withdrawn] if withdrawn else rows)
        meta = inbound.meta()
        self._highest_seen_seq = max(self._highest_seen_seq, inbound.highest_seq(), int(meta.get("out_cursor", 0)))
        batch, follow_ups = claims.next_batch(rows, acks), claims.follow_ups(rows, acks)
        book = AddressBook(destinations=inbound.destinations(), default=inbound.default_destination())
        shown = [*(batch.messages if batch is not None else ()), *follow_ups]
        return InboundChanges(
            batch=batch,
            follow_ups=follow_ups,
            skipped=claims.skipped_context([row for row in rows if row.id not in acks], follow_ups),
            withdrawn=withdrawn,
            control_messages=tuple(claims.control_messages(rows)),
            referenced_seqs=references.find_referenced_seqs(shown, inbound, self._writer, book),
            question_texts=references.find_question_texts(shown, self._writer),
            undelivered_questions=inbound.undelivered(questions) if questions else frozenset(),
            has_pending_command=claims.has_pending_command(rows, acks),
            address_book=book,
            meta=meta,
            next_due=inbound.next_due(now),
        )

    def _read_change_counter(self) -> bytes | None:
        """Returns the change counter of the host's file; None if the file is missing."""
        try:
            with self._layout.inbound_db.open("rb", buffering=0) as file:
                counter = file.read(CHANGE_COUNTER.stop)[CHANGE_COUNTER]
        except FileNotFoundError:
            self._missing_since = self._missing_since or time.monotonic()
            return None
        self._missing_since = None
        return counter
