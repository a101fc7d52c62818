"""Stores questions of agents to people, by the message that asks. A question has one answer: that of the recorded
event."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import Queries, Transaction, Value
from nanohost.db.deliveries import Delivery
from nanohost.db.events import ChatKey
from nanohost.db.rows import from_row
from nanohost.model import EventId, SessionId
from nanohost_protocol.payloads import QuestionOut, decode_out
from nanohost_protocol.rows import OutKind
from nanohost_protocol.times import to_text

MAX_OPEN = 50
"""The most open questions of a chat to which a typed answer is matched."""
MAX_SCANNED = 500
"""The most open questions of a chat that are scanned for those that can be answered by typing."""
MAX_QUESTION_CHARS = 20_000
"""Characters of a question's row. A longer question can only be answered by its buttons, because open questions are
scanned at each message. The index deliveries_questions uses the same number."""

ADD = """
INSERT INTO questions (session_id, seq, out_id, channel_type, instance, platform_id, thread_id, asked_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_id, seq) DO NOTHING
"""
FIND = "SELECT * FROM questions WHERE session_id = ? AND seq = ?"
ANSWERED_BY_EVENT = "SELECT * FROM questions WHERE event_id = ?"
# Only questions that people can have seen. The inner query orders them, newest first; with an outer ORDER BY SQLite
# would copy them all.
OPEN_IN_CHAT = f"""
SELECT q.*, d.content, d.receipt FROM (
    SELECT * FROM questions INDEXED BY questions_open
    WHERE status = 'open' AND channel_type = ? AND instance = ? AND platform_id = ?
    ORDER BY asked_at DESC LIMIT {MAX_SCANNED}) q
CROSS JOIN deliveries d INDEXED BY deliveries_questions ON d.session_id = q.session_id AND d.seq = q.seq
WHERE d.kind = 'question' AND length(d.content) <= {MAX_QUESTION_CHARS}
    AND d.attempts > 0 AND d.status NOT IN ('dead', 'dropped')
LIMIT ?
"""  # noqa: S608
CLAIM = """
UPDATE questions SET status = 'answered', answer = :answer, answered_by = :user, answered_at = :now, event_id = :event
WHERE session_id = :session AND seq = :seq AND status = 'open'
"""
CLOSE_ALL = (
    "UPDATE questions INDEXED BY questions_of_session SET status = 'closed' WHERE session_id = ? AND status = 'open'"
)
CLOSE_IN_CHAT = """
UPDATE questions INDEXED BY questions_of_session SET status = 'closed'
WHERE session_id = ? AND channel_type = ? AND instance = ? AND platform_id = ? AND status = 'open'
"""
IS_OPEN_IN_CHAT = """
SELECT 1 FROM questions INDEXED BY questions_of_session
WHERE session_id = ? AND channel_type = ? AND instance = ? AND platform_id = ? AND status = 'open' LIMIT 1
"""
CLOSE_OLD = "UPDATE questions SET status = 'closed' WHERE status = 'open' AND asked_at < ?"
DELETE_OLD = """
DELETE FROM questions WHERE (session_id, seq) IN (
    SELECT session_id, seq FROM questions INDEXED BY questions_asked WHERE status != 'open' AND asked_at < ? LIMIT ?)
"""


class QuestionStatus(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"
    CLOSED = "closed"
    """An answer is not needed any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question. `session_id`: the session that asks. `chat`: where it was asked. `answered_by`: the user who
    answered; `event_id`: the event with the answer."""

    session_id: SessionId
    seq: int
    out_id: str
    chat: ChatKey
    thread_id: str | None
    status: QuestionStatus
    answer: str | None = None
    answered_by: str | None = None
    event_id: EventId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """An open question that people can see, with its options, if any, and the platform's ids of its message."""

    question: Question
    options: tuple[str, ...]
    receipt: tuple[str, ...]


async def add(tx: Transaction, delivery: Delivery, now: datetime) -> None:
    """Add the question of an outgoing message."""
    queue = delivery.queue
    place = (queue.channel_type, queue.instance, queue.platform_id, delivery.thread_id)
    await tx.execute(ADD, (queue.session_id, delivery.seq, delivery.out_id, *place, to_text(now)))


async def find(db: Queries, session: SessionId, seq: int) -> Question | None:
    """Returns the question of this message; None if it asks none."""
    row = await db.fetch_one(FIND, (session, seq))
    return None if row is None else _from_row(row)


async def find_by_answer_event(db: Queries, event: EventId) -> Question | None:
    """Returns the question that this event answers."""
    row = await db.fetch_one(ANSWERED_BY_EVENT, (event,))
    return None if row is None else _from_row(row)


async def list_open_in_chat(db: Queries, chat: ChatKey) -> list[OpenQuestion]:
    """Returns the open questions that people can see, latest first."""
    rows = await db.fetch_all(OPEN_IN_CHAT, (chat.channel_type, chat.instance, chat.platform_id, MAX_OPEN))
    return [_open_question(row) for row in _latest_first(rows)]


def _latest_first(rows: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
    """Sort by time, latest first. If the clock was set back between two questions of a session, their order counts."""
    moments: dict[tuple[str, int], str] = {}
    after: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: int(row["seq"]), reverse=True):
        session = row["session_id"]
        after[session] = min(row["asked_at"], after.get(session, row["asked_at"]))
        moments[session, row["seq"]] = after[session]
    return sorted(rows, key=lambda row: (moments[row["session_id"], row["seq"]], int(row["seq"])), reverse=True)


async def claim(tx: Transaction, question: Question, *, answer: str, user: str, event: EventId, now: datetime) -> bool:
    """Record this event as the answer. Returns False if the question is already answered or closed."""
    values: dict[str, Value] = {
        "answer": answer,
        "user": user,
        "event": event,
        "now": to_text(now),
        "session": question.session_id,
        "seq": question.seq,
    }
    return await tx.execute(CLAIM, values) == 1


async def close_all(tx: Transaction, session: SessionId) -> int:
    """Close all open questions of a session. Returns how many."""
    return await tx.execute(CLOSE_ALL, (session,))


async def is_open_in_chat(db: Queries, session: SessionId, chat: ChatKey) -> bool:
    """Whether this session has an open question in the chat."""
    return (
        await db.fetch_one(IS_OPEN_IN_CHAT, (session, chat.channel_type, chat.instance, chat.platform_id)) is not None
    )


async def close_in_chat(tx: Transaction, session: SessionId, chat: ChatKey) -> None:
    """Close the open questions of this session in the chat."""
    await tx.execute(CLOSE_IN_CHAT, (session, chat.channel_type, chat.instance, chat.platform_id))


async def close_old(tx: Transaction, *, before: datetime) -> int:
    """Close open questions from before that time. Returns how many."""
    return await tx.execute(CLOSE_OLD, (to_text(before),))


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete closed and answered questions from before that time. Returns how many; if it is `limit`, there may
    be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


def _open_question(row: sqlite3.Row) -> OpenQuestion:
    payload = decode_out(OutKind.QUESTION, row["content"])
    assert isinstance(payload, QuestionOut), "it was checked when it was entered"
    return OpenQuestion(question=_from_row(row), options=payload.options, receipt=tuple(json.loads(row["receipt"])))


def _from_row(row: sqlite3.Row) -> Question:
    return from_row(Question, row, chat=from_row(ChatKey, row))
