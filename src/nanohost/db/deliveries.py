"""Stores deliveries: the ledger of outgoing messages. Every state that a send can have after a crash is a
status here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.domain_events import DeliveryDecided, QueueHasWork
from nanohost.db.events import ChatKey
from nanohost.db.notice_numbers import EVENT_NOTICES_START, MESSAGE_NOTICES_START, NOTICES_PER_MESSAGE
from nanohost.db.rows import from_row
from nanohost.db.sessions import COLUMNS as SESSION_COLUMNS
from nanohost.db.sessions import session_from_row
from nanohost.model import HOST_SESSION_ID, Session, SessionId
from nanohost_protocol.ids import derive_id
from nanohost_protocol.rows import DeliveryResult
from nanohost_protocol.times import from_text, to_text

# If the chat has moved, the delivery goes to the new chat, where the message that it answers is not known.
ADD = """
INSERT INTO deliveries
    (session_id, seq, out_id, kind, channel_type, instance, platform_id, thread_id, reply_to, content,
     status, reason, next_attempt_at, not_before, card_key, turn_id, created_at, changed_at)
SELECT :session_id, :seq, :out_id, :kind, :channel_type, :instance, ifnull(moved_to, :platform_id), :thread_id,
    CASE WHEN moved_to IS NULL THEN :reply_to END, :content,
    :status, :reason, :next_attempt_at, :not_before, :card_key, :turn_id, :created_at, :changed_at
FROM (SELECT (
    SELECT moved_to FROM moved_chats
    WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id) AS moved_to)
WHERE true
ON CONFLICT (session_id, seq) DO NOTHING
"""
DETACH_FROM_THREAD = """
UPDATE deliveries INDEXED BY deliveries_open SET thread_id = NULL, reply_to = NULL, is_detached_from_thread = 1
WHERE status IN ('pending', 'sending') AND session_id = ? AND channel_type = ? AND instance = ? AND platform_id = ?
    AND thread_id = ?
"""
DELETE_UNSENT_PARTS = """
DELETE FROM delivery_parts WHERE session_id = :session_id AND seq = :seq AND NOT EXISTS (
    SELECT 1 FROM delivery_parts WHERE session_id = :session_id AND seq = :seq AND receipt IS NOT NULL)
"""
# During a pause only messages of the host are sent: its own, and its notices, whose numbers are below zero but far
# above those of task messages (see scheduler/task_messages.py).
_NOT_PAUSED = """
(NOT EXISTS (SELECT 1 FROM paused) OR session_id = 'host' OR seq BETWEEN -8000000000000000000 AND -1)
"""
# Messages about a decision; see DeliveryQueueKey.
_IS_CARD = "(session_id = 'host' AND seq % 4 = 3)"
# Uses the index of open deliveries: SQLite would choose the primary key and scan the session's whole history.
# Of a chat that has moved nothing is: what is open was moved along.
NEXT_IN_QUEUE = f"""
SELECT d.*, NOT EXISTS (
    SELECT 1 FROM deliveries o INDEXED BY deliveries_open
    WHERE o.status IN ('pending', 'sending') AND o.session_id = d.session_id AND o.channel_type = d.channel_type
        AND o.instance = d.instance AND o.platform_id = d.platform_id AND o.seq != d.seq) AS is_last_in_queue
FROM deliveries d INDEXED BY deliveries_open
WHERE status IN ('pending', 'sending') AND session_id = :session_id AND channel_type = :channel_type
    AND instance = :instance AND platform_id = :platform_id AND (not_before IS NULL OR not_before <= :now)
    AND :cards = {_IS_CARD} AND {_NOT_PAUSED} AND NOT EXISTS (
        SELECT 1 FROM moved_chats m
        WHERE m.channel_type = :channel_type AND m.instance = :instance AND m.platform_id = :platform_id)
ORDER BY seq LIMIT 1
"""  # noqa: S608
NEXT_SCHEDULED = f"""
SELECT min(not_before) AS at FROM deliveries INDEXED BY deliveries_open
WHERE status IN ('pending', 'sending') AND session_id = ? AND channel_type = ? AND instance = ? AND platform_id = ?
    AND ? = {_IS_CARD} AND {_NOT_PAUSED}
"""  # noqa: S608
OPEN_QUEUES = """
SELECT DISTINCT session_id, channel_type, instance, platform_id FROM deliveries WHERE status IN ('pending', 'sending')
"""
WAITING = f"""
SELECT * FROM deliveries INDEXED BY deliveries_open
WHERE session_id = ? AND channel_type = ? AND instance = ? AND platform_id = ?
    AND status IN ('pending', 'sending') AND ? = {_IS_CARD}
ORDER BY seq
"""  # noqa: S608
COUNT_WAITING = """
SELECT count(*) AS messages, count(CASE WHEN not_before > ?2 THEN 1 END) AS later, (
    SELECT count(*) FROM (
        SELECT 1 FROM actions INDEXED BY actions_open
        WHERE session_id = ?1 AND status != 'held' AND (status = 'pending' OR notified = 0) LIMIT ?3)) AS requests
FROM (
    SELECT not_before FROM deliveries INDEXED BY deliveries_open
    WHERE session_id = ?1 AND status IN ('pending', 'sending') LIMIT ?3)
"""
# Of a session without any it is one row, with NULL for the message.
RESULTS = f"""
SELECT {SESSION_COLUMNS}, d.out_id, d.status, d.receipt
FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
LEFT JOIN (
    SELECT out_id, status, receipt FROM deliveries
    WHERE session_id = :session AND seq > 0 AND status NOT IN ('pending', 'sending')
    ORDER BY seq DESC LIMIT :limit) d
WHERE s.id = :session
"""  # noqa: S608
COUNT_ATTEMPTS = """
SELECT count(*) AS tries FROM delivery_attempts a JOIN deliveries d USING (session_id, seq)
WHERE session_id = ? AND seq = ? AND a.number > d.attempts_before_resend
    AND ifnull(a.outcome, '') NOT IN ('down', 'failing', 'rate_limited', 'auth')
    AND a.number > (
        SELECT ifnull(max(number), 0) FROM delivery_attempts
        WHERE session_id = d.session_id AND seq = d.seq AND outcome = 'part')
"""
MARK_SENDING = f"""
UPDATE deliveries SET status = 'sending', attempts = attempts + 1, changed_at = :now
WHERE session_id = :session_id AND seq = :seq AND status = 'pending' AND platform_id = :platform_id
    AND thread_id IS :thread_id AND attempts_before_resend = :attempts_before_resend AND {_NOT_PAUSED}
"""  # noqa: S608
BEGIN_ATTEMPT = """
INSERT INTO delivery_attempts (session_id, seq, number, started_at)
SELECT session_id, seq, attempts, :now FROM deliveries WHERE session_id = :session_id AND seq = :seq
"""
# A delivery that must not be retried (see FORBID_RETRY) keeps its reason.
RECORD_OUTCOME = """
UPDATE deliveries SET status = CASE WHEN :again AND decision = 'drop' THEN 'dropped' ELSE :status END,
    reason = CASE WHEN :again AND decision = 'drop' THEN reason ELSE :reason END,
    next_attempt_at = CASE WHEN :again AND decision = 'drop' THEN NULL ELSE :next_attempt_at END,
    receipt = :receipt, changed_at = :now
WHERE session_id = :session_id AND seq = :seq
"""
END_ATTEMPT = """
UPDATE delivery_attempts SET ended_at = :now, outcome = :outcome, error = :error
WHERE session_id = :session_id AND seq = :seq AND ended_at IS NULL
"""
ADD_PART = "INSERT INTO delivery_parts (session_id, seq, number, text, plain) VALUES (?, ?, ?, ?, ?)"
NEXT_PART = """
SELECT number, text, plain, (SELECT count(*) FROM delivery_parts WHERE session_id = p.session_id AND seq = p.seq) AS of
FROM delivery_parts p WHERE session_id = ? AND seq = ? AND receipt IS NULL ORDER BY number LIMIT 1
"""
PART_SENT = "UPDATE delivery_parts SET receipt = ? WHERE session_id = ? AND seq = ? AND number = ?"
RECEIPTS = "SELECT receipt FROM delivery_parts WHERE session_id = ? AND seq = ? AND receipt IS NOT NULL ORDER BY number"
PARTS = "SELECT count(*) AS of, count(receipt) AS sent FROM delivery_parts WHERE session_id = ? AND seq = ?"
MAY_HAVE_BEEN_SENT = """
SELECT 1 FROM delivery_attempts
WHERE session_id = :session_id AND seq = :seq AND outcome IN ('ambiguous', 'failing') AND number > (
    SELECT ifnull(max(number), 0) FROM delivery_attempts
    WHERE session_id = :session_id AND seq = :seq AND outcome = 'part')
LIMIT 1
"""
LATER_EDIT = """
SELECT 1 FROM deliveries INDEXED BY deliveries_open
WHERE status IN ('pending', 'sending') AND status = 'pending'
    AND session_id = :session_id AND channel_type = :channel_type AND instance = :instance
    AND platform_id = :platform_id AND kind = 'edit' AND seq > :seq
    AND json_extract(content, '$.message') = :message
LIMIT 1
"""
LATER_MESSAGE = """
SELECT 1 FROM deliveries INDEXED BY deliveries_messages
WHERE session_id = :session_id AND seq > :seq AND channel_type = :channel_type AND instance = :instance
    AND platform_id = :platform_id AND kind IN ('chat', 'card', 'question', 'file') AND status != 'dropped'
LIMIT 1
"""
SKIP = """
UPDATE deliveries SET status = 'dropped', reason = :reason, next_attempt_at = NULL, changed_at = :now
WHERE session_id = :session_id AND seq = :seq AND status = 'pending'
"""
POSTPONE = "UPDATE deliveries SET not_before = :until WHERE session_id = :session_id AND seq = :seq"
BY_CARD_KEY = "SELECT * FROM deliveries WHERE card_key = ?"
DELETE_PARTS = "DELETE FROM delivery_parts WHERE session_id = ? AND seq = ?"
PENDING_RETRIES = """
SELECT * FROM deliveries WHERE status IN ('pending', 'sending') AND status = 'pending' AND next_attempt_at > ?
"""
SET_RETRY_AT = "UPDATE deliveries SET next_attempt_at = ? WHERE session_id = ? AND seq = ?"

BY_KEY = "SELECT * FROM deliveries WHERE session_id = ? AND seq = ?"
STATUS_OF = """
SELECT status FROM deliveries INDEXED BY deliveries_by_out_id WHERE session_id = ? AND out_id = ? AND seq > 0
"""
LATEST = """
SELECT * FROM deliveries WHERE (:status IS NULL OR status = :status) AND (:session IS NULL OR session_id = :session)
    AND (:platform_id IS NULL OR (
        channel_type = :channel_type AND instance = :instance AND platform_id IN (
            SELECT :platform_id UNION ALL SELECT platform_id FROM moved_chats
            WHERE channel_type = :channel_type AND instance = :instance AND moved_to = :platform_id)))
ORDER BY changed_at DESC, seq DESC LIMIT :limit
"""
ATTEMPTS = "SELECT * FROM delivery_attempts WHERE session_id = ? AND seq = ? ORDER BY number"
RESEND = """
UPDATE deliveries SET status = 'pending', decision = 'resend', attempts_before_resend = attempts,
    next_attempt_at = NULL, reason = NULL, changed_at = :now
WHERE session_id = :session_id AND seq = :seq
    AND (status IN ('dead', 'unknown') OR (status = 'dropped' AND decision = 'drop'))
"""
DROP = """
UPDATE deliveries SET status = 'dropped', decision = 'drop', next_attempt_at = NULL, reason = :reason, changed_at = :now
WHERE session_id = :session_id AND seq = :seq AND status IN ('pending', 'dead', 'unknown')
"""
FORBID_RETRY = """
UPDATE deliveries SET decision = 'drop', reason = :reason
WHERE session_id = :session_id AND seq = :seq AND status = 'sending'
"""

# Notices by their number in the block of each message, see notice_numbers.
WITHDRAW_NOTICES = """
UPDATE deliveries INDEXED BY deliveries_open
SET status = 'dropped', reason = :reason, next_attempt_at = NULL, changed_at = :now
WHERE status IN ('pending', 'sending') AND status = 'pending' AND session_id = :session_id
    AND seq >= :first AND seq < :end AND (seq - :first) % :of = :number
"""
WITHDRAW_BY_CONTENT = """
UPDATE deliveries INDEXED BY deliveries_open
SET status = 'dropped', reason = :reason, next_attempt_at = NULL, changed_at = :now
WHERE status IN ('pending', 'sending') AND status = 'pending' AND session_id = :session_id AND content = :content
"""

FAILING = "failing"
"""The outcome of an attempt while the platform was down with errors of its own: the message may have been sent, and the
attempt does not count."""
CHAT_CLOSED = "chat_closed"
"""The prefix of the reason if the platform refuses every message in that chat."""
CARD_KINDS = ("card", "question")
"""The kinds that may have buttons."""


def is_card_number(seq: int) -> bool:
    """Whether a message of the host with this number is in the queue of cards: 3, 7, 11, …"""
    return seq % 4 == 3


def card_key(session: SessionId, out_id: str) -> str:
    """Returns the key in the button values of this message: short, and not guessable from outside."""
    return derive_id("q", session, out_id)[1:21]


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    """It waits: for its turn, for `next_attempt_at`, or for its channel."""
    SENDING = "sending"
    """It was passed to the channel. At a start of the host this is ambiguous: it may have been sent."""
    SENT = "sent"
    DEAD = "dead"
    """It failed for good, with a reason; a command can send it again."""
    DROPPED = "dropped"
    """It is never sent: malformed, not allowed, or dropped by an operator (who can undo that)."""
    UNKNOWN = "unknown"
    """It may have been sent, and waits for an operator's decision; later messages do not wait."""


class DeliveryDecision(StrEnum):
    """An operator's decision about a delivery."""

    RESEND = "resend"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class DeliveryQueueKey:
    """The key of a queue, within which order is kept: one session's messages in one chat. `is_card_queue`: the host's
    messages about decisions have a queue of their own, so that its other messages do not wait behind them. The queues
    of one chat take turns."""

    session_id: SessionId
    channel_type: str
    instance: str
    platform_id: str
    is_card_queue: bool = False

    def __str__(self) -> str:
        """As logs show it."""
        cards = " (cards)" if self.is_card_queue else ""
        return f"{self.session_id} {self.channel_type}:{self.instance}:{self.platform_id}{cards}"

    @property
    def chat(self) -> ChatKey:
        return ChatKey(self.channel_type, self.instance, self.platform_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One outgoing message."""

    queue: DeliveryQueueKey
    seq: int
    out_id: str
    kind: str
    thread_id: str | None
    reply_to: str | None
    content: str
    status: DeliveryStatus
    created_at: datetime
    attempts: int = 0
    attempts_before_resend: int = 0
    """Attempts up to this number were before an operator had it sent again."""
    next_attempt_at: datetime | None = None
    reason: str | None = None
    decision: DeliveryDecision | None = None
    receipt: tuple[str, ...] = ()
    not_before: datetime | None = None
    """It is not sent before this time; later messages do not wait."""
    is_detached_from_thread: bool = False
    """Whether it was for a thread that takes no messages any more."""
    turn_id: str | None = None
    """The turn in which it was sent, as its container reports."""
    is_last_in_queue: bool = field(default=False, compare=False)
    """As it was read from its queue: nothing else there is open, not even for later."""

    @property
    def platform_id(self) -> str:
        """The chat."""
        return self.queue.platform_id

    @property
    def is_from_agent(self) -> bool:
        """Whether it is a message of an agent. The numbers of the host's notices are below zero; far below are task
        messages, and at odd numbers there the host's messages about tasks (see scheduler/task_messages.py)."""
        of_task = self.seq < -8_000_000_000_000_000_000 and self.seq % 2 == 0
        return self.queue.session_id != HOST_SESSION_ID and (self.seq > 0 or of_task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt. `outcome`: sent, part (of a long message), failing, or the class of the error; None while it
    runs."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error: str | None


async def add(tx: Transaction, delivery: Delivery) -> bool:
    """Add a message to the ledger. Returns False if it exists already. Emits QueueHasWork."""
    is_new = await tx.execute(ADD, _values(delivery)) == 1
    tx.emit(QueueHasWork(delivery.queue))
    return is_new


async def add_all(tx: Transaction, entries: Iterable[Delivery]) -> None:
    """Add messages to the ledger, except existing ones. Emits QueueHasWork for each pending message."""
    entries = list(entries)
    await tx.execute_many(ADD, [_values(entry) for entry in entries])
    tx.emit(*(QueueHasWork(entry.queue) for entry in entries if entry.status is DeliveryStatus.PENDING))


def _values(delivery: Delivery) -> dict[str, Value]:
    return {
        "session_id": delivery.queue.session_id,
        "seq": delivery.seq,
        "out_id": delivery.out_id,
        "kind": delivery.kind,
        **delivery.queue.chat.columns,
        "thread_id": delivery.thread_id,
        "reply_to": delivery.reply_to,
        "content": delivery.content,
        "status": delivery.status,
        "reason": delivery.reason,
        "next_attempt_at": None if delivery.next_attempt_at is None else to_text(delivery.next_attempt_at),
        "not_before": None if delivery.not_before is None else to_text(delivery.not_before),
        "card_key": card_key(delivery.queue.session_id, delivery.out_id) if delivery.kind in CARD_KINDS else None,
        "turn_id": delivery.turn_id,
        "created_at": to_text(delivery.created_at),
        "changed_at": to_text(delivery.created_at),
    }


async def next_in_queue(db: Queries, queue: DeliveryQueueKey, now: datetime) -> Delivery | None:
    """Returns the first open message of a queue that is not scheduled for later. No other message may overtake it."""
    values: dict[str, Value] = {
        "session_id": queue.session_id,
        **queue.chat.columns,
        "cards": queue.is_card_queue,
        "now": to_text(now),
    }
    row = await db.fetch_one(NEXT_IN_QUEUE, values)
    return None if row is None else replace(_from_row(row), is_last_in_queue=bool(row["is_last_in_queue"]))


async def next_scheduled_at(db: Queries, queue: DeliveryQueueKey) -> datetime | None:
    """Returns when the first scheduled message of a queue is due; None if there is none."""
    row = await db.fetch_one(NEXT_SCHEDULED, _queue_columns(queue))
    return None if row is None or row["at"] is None else from_text(row["at"])


async def list_open_queues(db: Queries) -> list[DeliveryQueueKey]:
    """Returns the queues with open messages; for a chat with open messages of the host, both of its queues."""
    queues = [_queue_key(row, is_card_queue=False) for row in await db.fetch_all(OPEN_QUEUES)]
    return [*queues, *(replace(queue, is_card_queue=True) for queue in queues if queue.session_id == HOST_SESSION_ID)]


async def list_waiting(db: Queries, queue: DeliveryQueueKey) -> list[Delivery]:
    """Returns the open messages of a queue, including one that is being sent."""
    return [_from_row(row) for row in await db.fetch_all(WAITING, _queue_columns(queue))]


async def bring_forward(tx: Transaction, *, by: timedelta, now: datetime) -> None:
    """Move pending retries forward by `by`, since the clock was set back. Emits QueueHasWork."""
    retries = [_from_row(row) for row in await tx.fetch_all(PENDING_RETRIES, (to_text(now),))]
    for delivery in retries:
        assert delivery.next_attempt_at is not None, "a retry has a time"
        sooner = max(now, delivery.next_attempt_at - by)
        await tx.execute(SET_RETRY_AT, (to_text(sooner), delivery.queue.session_id, delivery.seq))
        tx.emit(QueueHasWork(delivery.queue))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The open items of a session: messages, how many of these are scheduled for later, and requests to the host."""

    messages: int
    later: int
    requests: int


async def count_waiting(db: Queries, session: SessionId, *, now: datetime, limit: int) -> Waiting:
    """Count the open items of a session, at most `limit` of each kind."""
    row = await db.fetch_one(COUNT_WAITING, (session, to_text(now), limit))
    assert row is not None, "an aggregate has a row"
    return Waiting(messages=row["messages"], later=row["later"], requests=row["requests"])


async def get_results(
    db: Queries, session: SessionId, *, now: datetime, limit: int
) -> tuple[Session, list[DeliveryResult]]:
    """Returns the session and its latest messages that are not open any more, newest first, as of
    `now`."""
    rows = await db.fetch_all(RESULTS, {"session": session, "limit": limit})
    assert rows, f"session {session} is referred to and not there"
    results = [
        DeliveryResult(
            out_id=row["out_id"],
            status=row["status"],
            platform_message_ids=tuple(json.loads(row["receipt"])),
            changed_at=now,
        )
        for row in rows
        if row["out_id"] is not None
    ]
    return session_from_row(rows[0]), results


async def count_attempts(db: Queries, delivery: Delivery) -> int:
    """Returns the number of attempts that count, including a running one. Attempts that only found the channel down or
    rate limited do not count."""
    row = await db.fetch_one(COUNT_ATTEMPTS, (delivery.queue.session_id, delivery.seq))
    return 0 if row is None else int(row["tries"])


async def begin_attempt(tx: Transaction, delivery: Delivery, now: datetime) -> bool:
    """Record the intent to send, which is committed before the channel is called. Returns False if the message is not
    pending any more, an operator acted first,
    its address has changed, or everything is paused."""
    values = _delivery_values(delivery, now)
    as_read: dict[str, Value] = {
        "platform_id": delivery.platform_id,
        "thread_id": delivery.thread_id,
        "attempts_before_resend": delivery.attempts_before_resend,
    }
    if await tx.execute(MARK_SENDING, values | as_read) == 0:
        return False
    await tx.execute(BEGIN_ATTEMPT, values)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """How one attempt ended, and what happens to the message."""

    status: DeliveryStatus
    code: str
    reason: str | None = None
    error: str | None = None
    next_attempt_at: datetime | None = None
    receipt: tuple[str, ...] = ()
    moved_to: str | None = None
    """The chat's new id, to which the message is sent."""
    is_thread_gone: bool = False
    """Whether the chat's thread takes no messages any more."""
    is_refused_by_platform: bool = False
    """Whether the platform itself will never accept the message."""


async def end_attempt(tx: Transaction, delivery: Delivery, outcome: AttemptOutcome, now: datetime) -> None:
    """Record the outcome of an attempt, after the channel answered, or at a start for an attempt without an outcome."""
    values = _delivery_values(delivery, now) | {
        "status": outcome.status,
        "again": outcome.status is DeliveryStatus.PENDING,
        "reason": outcome.reason,
        "next_attempt_at": None if outcome.next_attempt_at is None else to_text(outcome.next_attempt_at),
        "receipt": json.dumps(outcome.receipt),
    }
    await tx.execute(RECORD_OUTCOME, values)
    await tx.execute(END_ATTEMPT, _delivery_values(delivery, now) | {"outcome": outcome.code, "error": outcome.error})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPart:
    """A part of a long message: number `number`, from 0, of `of` parts."""

    number: int
    of: int
    text: str
    plain: str

    @property
    def is_last(self) -> bool:
        return self.number == self.of - 1


async def add_parts(tx: Transaction, delivery: Delivery, parts: Sequence[DeliveryPart]) -> None:
    """Store the parts of a message that is too long for its platform. They do not change later."""
    key = (delivery.queue.session_id, delivery.seq)
    await tx.execute_many(ADD_PART, [(*key, part.number, part.text, part.plain) for part in parts])


async def next_part(db: Queries, delivery: Delivery) -> DeliveryPart | None:
    """Returns the first part that is not sent; None if the message has not been split."""
    row = await db.fetch_one(NEXT_PART, (delivery.queue.session_id, delivery.seq))
    return None if row is None else DeliveryPart(**dict(row))


async def end_part(
    tx: Transaction, delivery: Delivery, part: DeliveryPart, receipt: Sequence[str], now: datetime
) -> None:
    """Record that a part was sent. After the last part the message is sent and its parts are deleted."""
    key = (delivery.queue.session_id, delivery.seq)
    await tx.execute(PART_SENT, (json.dumps(receipt), *key, part.number))
    if not part.is_last:
        reason = f"part {part.number + 1} of {part.of} is sent"
        await end_attempt(tx, delivery, AttemptOutcome(status=DeliveryStatus.PENDING, code="part", reason=reason), now)
        return
    ids = tuple(id for row in await tx.fetch_all(RECEIPTS, key) for id in json.loads(row["receipt"]))
    await tx.execute(DELETE_PARTS, key)
    await end_attempt(tx, delivery, AttemptOutcome(status=DeliveryStatus.SENT, code="sent", receipt=ids), now)


async def part_progress(db: Queries, delivery: Delivery) -> tuple[int, int]:
    """Returns how many parts of a message are sent, and how many it has; (0, 0) if it has no parts."""
    row = await db.fetch_one(PARTS, (delivery.queue.session_id, delivery.seq))
    return (0, 0) if row is None else (row["sent"], row["of"])


async def may_have_been_sent(db: Queries, delivery: Delivery) -> bool:
    """Whether an earlier attempt to send the message, or its next part, may have succeeded."""
    return await db.fetch_one(MAY_HAVE_BEEN_SENT, _queue_values(delivery)) is not None


async def has_later_edit(db: Queries, delivery: Delivery, message: int) -> bool:
    """Whether another edit of the same message waits behind this one."""
    return await db.fetch_one(LATER_EDIT, {**_queue_values(delivery), "message": message}) is not None


async def has_later_message(db: Queries, delivery: Delivery) -> bool:
    """Whether the session has a later message in this chat."""
    return await db.fetch_one(LATER_MESSAGE, _queue_values(delivery)) is not None


async def skip(tx: Transaction, delivery: Delivery, reason: str, now: datetime) -> None:
    """Drop a pending message that is not needed any more."""
    await tx.execute(SKIP, _delivery_values(delivery, now) | {"reason": reason})


async def postpone(tx: Transaction, delivery: Delivery, until: datetime) -> None:
    """Schedule a message for later; messages after it do not wait."""
    await tx.execute(POSTPONE, {"session_id": delivery.queue.session_id, "seq": delivery.seq, "until": to_text(until)})


async def detach_from_thread(tx: Transaction, delivery: Delivery) -> None:
    """Send this message, and others of its queue for the same thread, to the chat itself and not as a reply. The
    message is split again if no part was sent."""
    queue = delivery.queue
    chat = (queue.session_id, queue.channel_type, queue.instance, queue.platform_id)
    await tx.execute(DETACH_FROM_THREAD, (*chat, delivery.thread_id))
    await tx.execute(DELETE_UNSENT_PARTS, {"session_id": queue.session_id, "seq": delivery.seq})


async def find_by_card(db: Queries, card_key: str) -> Delivery | None:
    """Returns the message whose buttons have this key."""
    row = await db.fetch_one(BY_CARD_KEY, (card_key,))
    return None if row is None else _from_row(row)


async def find(db: Queries, session: SessionId, seq: int) -> Delivery | None:
    row = await db.fetch_one(BY_KEY, (session, seq))
    return None if row is None else _from_row(row)


async def status_of(db: Queries, session: SessionId, out_id: str) -> DeliveryStatus | None:
    """Returns the status of the session's message with this id; None if there is none."""
    row = await db.fetch_one(STATUS_OF, (session, out_id))
    return None if row is None else DeliveryStatus(row["status"])


async def latest(
    db: ReportReader,
    *,
    status: DeliveryStatus | None,
    session: SessionId | None,
    limit: int,
    chat: ChatKey | None = None,
) -> list[Delivery]:
    """Returns the deliveries that changed last, newest first; of one status, session or chat, if given."""
    values: dict[str, Value] = {"status": status, "session": session, "limit": limit}
    for name in ("channel_type", "instance", "platform_id"):
        values[name] = None if chat is None else getattr(chat, name)
    return [_from_row(row) for row in await db.fetch_all(LATEST, values)]


async def list_attempts(db: Queries, delivery: Delivery) -> list[Attempt]:
    """Returns all attempts of a message, in order."""
    rows = await db.fetch_all(ATTEMPTS, (delivery.queue.session_id, delivery.seq))
    return [
        Attempt(
            number=row["number"],
            started_at=from_text(row["started_at"]),
            ended_at=from_text(row["ended_at"]) if row["ended_at"] else None,
            outcome=row["outcome"],
            error=row["error"],
        )
        for row in rows
    ]


async def resend(tx: Transaction, delivery: Delivery, now: datetime) -> bool:
    """Apply an operator's decision to send a message again, with all its attempts. Returns False if it did not fail, is
    not unknown, and was not dropped by an operator. Emits DeliveryDecided."""
    is_pending = await tx.execute(RESEND, _delivery_values(delivery, now)) == 1
    if is_pending:
        tx.emit(DeliveryDecided(delivery.queue))
    return is_pending


async def drop(tx: Transaction, delivery: Delivery, reason: str, now: datetime) -> bool:
    """Apply an operator's decision never to send a message. Returns False if it is being sent, was sent or was
    dropped."""
    return await tx.execute(DROP, _delivery_values(delivery, now) | {"reason": reason}) == 1


async def withdraw_notices(tx: Transaction, session: SessionId, number: int, reason: str, now: datetime) -> None:
    """Drop the session's pending notices with this number of notice_numbers, since they are out of date."""
    block = {"first": MESSAGE_NOTICES_START, "end": EVENT_NOTICES_START, "of": NOTICES_PER_MESSAGE, "number": number}
    await tx.execute(WITHDRAW_NOTICES, {"session_id": session, "reason": reason, "now": to_text(now), **block})


async def withdraw_by_content(tx: Transaction, session: SessionId, content: str, reason: str, now: datetime) -> None:
    """Drop the session's pending messages with exactly this content, since they are out of date."""
    values: dict[str, Value] = {"session_id": session, "content": content, "reason": reason, "now": to_text(now)}
    await tx.execute(WITHDRAW_BY_CONTENT, values)


async def forbid_retry(tx: Transaction, delivery: Delivery, reason: str) -> None:
    """Drop a message that is being sent, in place of a retry, if this attempt fails or sends only a part."""
    await tx.execute(FORBID_RETRY, {"session_id": delivery.queue.session_id, "seq": delivery.seq, "reason": reason})


def _delivery_values(delivery: Delivery, now: datetime) -> dict[str, Value]:
    return {"session_id": delivery.queue.session_id, "seq": delivery.seq, "now": to_text(now)}


def _queue_values(delivery: Delivery) -> dict[str, Value]:
    queue = delivery.queue
    return {
        "session_id": queue.session_id,
        **queue.chat.columns,
        "seq": delivery.seq,
    }


def _from_row(row: sqlite3.Row) -> Delivery:
    return from_row(
        Delivery,
        row,
        queue=_queue_key(row, is_card_queue=row["session_id"] == HOST_SESSION_ID and is_card_number(row["seq"])),
        receipt=tuple(json.loads(row["receipt"])),
        is_last_in_queue=False,
    )


def _queue_key(row: sqlite3.Row, *, is_card_queue: bool) -> DeliveryQueueKey:
    session = SessionId(row["session_id"])
    return DeliveryQueueKey(session, row["channel_type"], row["instance"], row["platform_id"], is_card_queue)


def _queue_columns(queue: DeliveryQueueKey) -> tuple[Value, ...]:
    return queue.session_id, queue.channel_type, queue.instance, queue.platform_id, queue.is_card_queue
