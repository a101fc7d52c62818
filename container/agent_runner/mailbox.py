"""The two files as the runner uses them: look for news, write in whole steps.

All access goes through one thread, so the event loop never waits for a disk and two steps never mix. A poll that finds
the host's file unchanged costs one read of four bytes.
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
from nanohost_protocol.crash_points import reach
from nanohost_protocol.errors import Busy, NotReady
from nanohost_protocol.inbound import InboundReader, reading_inbound
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import MessageIn, MessageOut, Meta, NewMessageOut

P = ParamSpec("P")
R = TypeVar("R")

CHANGE_COUNTER = slice(24, 28)
"""Where an SQLite file counts its commits (file format, 1.3.7)."""
BUSY_TRIES = 12
"""A write waits five seconds for a reader; after a minute this runner gives up and another is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One look at the host's file: what to do next, and the facts a turn is made with."""

    batch: Batch | None
    follow_ups: tuple[MessageIn, ...]
    passed_over: tuple[MessageIn, ...]
    """Context that found no room beside the follow-ups."""
    withdrawn: tuple[MessageIn, ...]
    """What was deleted before anybody took it: to be closed unseen."""
    controls: tuple[MessageIn, ...]
    about: Mapping[str, int]
    """What edits, reactions, presses and answers among them are about: the number of that message by row id."""
    asked: Mapping[str, str]
    """The questions that answers among them are to, by row id."""
    undelivered: frozenset[str]
    """The questions among those waited for that reach nobody."""
    command_waits: bool
    """A command of the command line's is to have a turn of its own."""
    book: AddressBook
    meta: Meta
    next_due: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A turn that was claimed: which run of it this is, and what earlier runs have sent."""

    attempt: int
    said: tuple[MessageOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message that is committed: its row's id, whether just now or by an earlier run of the turn, and its number."""

    id: str
    new: bool
    number: int


class Mailbox:
    """Opened before the event loop has anything else to do; closed last."""

    def __init__(self, layout: SessionLayout, *, lease: str, durable: bool = True) -> None:
        """Roll back what a predecessor left half written. Raises NotOurs, VersionMismatch, Busy."""
        self._layout = layout
        self._writer = OutboundWriter(layout.outbound_db, container_id=lease, durable=durable)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mailbox")
        self._counter: bytes | None = None
        self.next_due: datetime | None = None
        """When the next message falls due, as of the last look; None: nobody knows of one."""
        self._first_poll = True
        self._unread = False
        """The last look was in vain: the next one is made whether the file has changed or not."""
        self._floor = 0
        self._missing_since: float | None = None
        self._pruned = (0, 0)

    def close(self) -> None:
        self._thread.shutdown()
        self._writer.close()

    def begin_life(self, now: datetime) -> None:
        """Give up the claims of earlier containers. Raises VersionMismatch if the host's file is of another time."""
        try:
            with reading_inbound(self._layout.inbound_db):
                pass
        except (NotReady, Busy):
            log("inbound_not_ready")
        self._writer.begin_life(now)

    @property
    def gone_s(self) -> float:
        """For how long the host's file has been missing."""
        return 0.0 if self._missing_since is None else time.monotonic() - self._missing_since

    async def poll(self, now: datetime, *, force: bool = False, questions: Collection[str] = ()) -> News | None:
        """What is new; None if nothing is, or if it cannot be read just now.

        `force` looks even if the host has written nothing: after a turn of our own. `questions`: ids of those that are
        waited for.
        """
        return await self._do(self._poll, now, force, questions)

    async def meta(self) -> Meta:
        """What the host says of the session, as of now. Raises NotReady, Busy."""
        return await self._patiently(self._read_meta)

    async def claim(self, batch: Batch, now: datetime) -> Begun:
        """Begin a turn."""
        return await self._patiently(self._claim, batch, now)

    async def claim_more(
        self, turn_id: str, messages: Sequence[MessageIn], now: datetime, *, passed_over: Sequence[MessageIn] = ()
    ) -> None:
        """Add follow-ups to the turn that runs, and close the context that found no room beside them."""
        claim_more = partial(self._writer.claim_more, passed_over=passed_over)
        await self._patiently(claim_more, turn_id, messages, now)

    async def close_unseen(self, messages: Sequence[MessageIn], now: datetime) -> None:
        """Close what no turn is to take."""
        await self._patiently(self._writer.close_unseen, messages, now)

    async def say(self, message: NewMessageOut, now: datetime) -> Said:
        """One message during a turn; one that the turn said before has the number that it had."""
        said = await self._patiently(self._say, message, now)
        reach("runner.said")
        return said

    async def heard(self, number: int) -> MessageIn | None:
        """The message of others with this number, while the host keeps it. Raises NotReady, Busy."""
        return await self._patiently(self._read_numbered, number)

    async def taken_answer(self, question: Said) -> MessageIn | None:
        """The answer to a question of ours, if this or an earlier turn took it; else the next look finds it. Raises
        NotReady, Busy."""
        return await self._patiently(self._taken_answer, question)

    async def finish(self, end: TurnEnd, now: datetime) -> None:
        """End a turn."""
        await self._patiently(partial(self._writer.finish, floor=self._floor), end, now=now)

    async def release(self, turn_id: str, now: datetime) -> None:
        """Give a turn back unanswered."""
        await self._patiently(self._writer.release, turn_id, now)

    async def state(self, key: str) -> str | None:
        return await self._do(self._writer.state, key)

    async def set_state(self, key: str, value: str | None) -> None:
        await self._patiently(self._writer.set_state, key, value)

    async def set_progress(self, values: Mapping[str, str]) -> None:
        await self._patiently(self._writer.set_progress, values)

    async def prune(self, meta: Meta, *, at_least: int = 1) -> None:
        """Delete what the host has taken over, if that is `at_least` so many acks or messages more than last time."""
        reached = (int(meta.get("out_cursor", 0)), int(meta.get("ack_cursor", 0)))
        if max(new - old for new, old in zip(reached, self._pruned, strict=True)) >= at_least:
            await self._patiently(self._writer.prune, out_cursor=reached[0], ack_cursor=reached[1])
            self._pruned = reached

    async def _do(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(step, *args, **kwargs))

    async def _patiently(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """A write is one transaction: when a reader is in the way it has not happened, and can be done again."""
        for left in reversed(range(BUSY_TRIES)):
            try:
                return await self._do(step, *args, **kwargs)
            except Busy:
                log("outbound_busy", tries_left=left)
                if left == 0:
                    raise
        raise AssertionError("unreachable")

    def _claim(self, batch: Batch, now: datetime) -> Begun:
        self._writer.claim(batch.turn_id, batch.messages, now, passed_over=batch.passed_over)
        turn = self._writer.turn(batch.turn_id)
        attempt = turn.attempt if turn is not None else 1
        return Begun(attempt=attempt, said=self._writer.said(batch.turn_id) if attempt > 1 else ())

    def _say(self, message: NewMessageOut, now: datetime) -> Said:
        new = self._writer.say(message, floor=self._floor, now=now)
        place = self._writer.place(message.id)
        assert place is not None, "it is in the file, and nobody else writes to it"
        return Said(id=message.id, new=new, number=place.seq)

    def _taken_answer(self, question: Said) -> MessageIn | None:
        with reading_inbound(self._layout.inbound_db) as inbound:
            row = inbound.answer_to(question.id, after=question.number)
        is_open = row is not None and row.status == "pending" and not self._writer.acks([row.id])
        return None if is_open else row

    def _read_numbered(self, number: int) -> MessageIn | None:
        with reading_inbound(self._layout.inbound_db) as inbound:
            return inbound.numbered(number)

    def _read_meta(self) -> Meta:
        with reading_inbound(self._layout.inbound_db) as inbound:
            return inbound.meta()

    def _poll(self, now: datetime, force: bool, questions: Collection[str]) -> News | None:
        counter = self._read_counter()
        fell_due = self.next_due is not None and now >= self.next_due
        if counter is None:
            self._looked_in_vain()
            return None
        if counter == self._counter and not (force or fell_due or self._unread):
            return None
        try:
            with reading_inbound(self._layout.inbound_db) as inbound:
                news = self._look(inbound, now, questions)
        except (NotReady, Busy):
            self._looked_in_vain()
            return None
        # Only now: the counter was read before the snapshot, so a commit in between shows as a change next time.
        self._counter, self.next_due, self._first_poll, self._unread = counter, news.next_due, False, False
        return news

    def _looked_in_vain(self) -> None:
        """What is due stays so: whoever waits for its time would look without a pause, until the host is back."""
        self._unread, self.next_due = True, None

    def _look(self, inbound: InboundReader, now: datetime, questions: Collection[str]) -> News:
        due = list(inbound.due(now))
        acks = self._writer.acks(row.id for row in due)
        rows = claims.eligible(due, acks, first_poll=self._first_poll)
        withdrawn = claims.withdrawn(rows, acks)
        rows = claims.without_deleted_files([row for row in rows if row not in withdrawn] if withdrawn else rows)
        meta = inbound.meta()
        self._floor = max(self._floor, inbound.highest_seq(), int(meta.get("out_cursor", 0)))
        batch, follow_ups = claims.next_batch(rows, acks), claims.follow_ups(rows, acks)
        book = AddressBook(destinations=inbound.destinations(), default=inbound.default_destination())
        shown = [*(batch.messages if batch is not None else ()), *follow_ups]
        return News(
            batch=batch,
            follow_ups=follow_ups,
            passed_over=claims.passed_over([row for row in rows if row.id not in acks], follow_ups),
            withdrawn=withdrawn,
            controls=tuple(claims.controls(rows)),
            about=references.numbers(shown, inbound, self._writer, book),
            asked=references.questions(shown, self._writer),
            undelivered=inbound.undelivered(questions) if questions else frozenset(),
            command_waits=claims.command_waits(rows, acks),
            book=book,
            meta=meta,
            next_due=inbound.next_due(now),
        )

    def _read_counter(self) -> bytes | None:
        """How often the host has committed; None if its file is not there."""
        try:
            with self._layout.inbound_db.open("rb", buffering=0) as file:
                counter = file.read(CHANGE_COUNTER.stop)[CHANGE_COUNTER]
        except FileNotFoundError:
            self._missing_since = self._missing_since or time.monotonic()
            return None
        self._missing_since = None
        return counter
