"""What agents have asked people, by the message that asks. A question has one answer: that of the event on record."""

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
"""Of those in one chat that an answer is looked for among."""
MAX_SCANNED = 500
"""Of the open ones in one chat: behind so many that cannot be answered by typing nobody looks for one that can."""
MAX_QUESTION_CHARS = 20_000
"""Characters of a question's row. A longer one is answered by its buttons alone: nobody asks people such a thing, and
the open ones are gone through at each message. The index deliveries_questions says the same number."""

ADD = """
INSERT INTO questions (session_id, seq, out_id, channel_type, instance, platform_id, thread_id, asked_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_id, seq) DO NOTHING
"""
FIND = "SELECT * FROM questions WHERE session_id = ? AND seq = ?"
ANSWERED_BY_EVENT = "SELECT * FROM questions WHERE event_id = ?"
# What nobody can have seen is answered by nobody. They come in the order of the inner look, newest first: asked for
# that again, SQLite would copy them all.
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
    """Nobody wants to know any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`session_id` is who asks, `chat` where it was asked; `answered_by` is a user, `event_id` what they did."""

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
    """An open question that people can see: its choices, if it has any, and the platform's ids of its message."""

    question: Question
    options: tuple[str, ...]
    receipt: tuple[str, ...]


async def add(tx: Transaction, delivery: Delivery, now: datetime) -> None:
    """A message that asks is on its way."""
    queue = delivery.queue
    place = (queue.channel_type, queue.instance, queue.platform_id, delivery.thread_id)
    await tx.execute(ADD, (queue.session_id, delivery.seq, delivery.out_id, *place, to_text(now)))


async def find(db: Queries, session: SessionId, seq: int) -> Question | None:
    """The question that this message asks."""
    row = await db.fetch_one(FIND, (session, seq))
    return None if row is None else _from_row(row)


async def find_by_answer_event(db: Queries, event: EventId) -> Question | None:
    """The question that this event is the answer to."""
    row = await db.fetch_one(ANSWERED_BY_EVENT, (event,))
    return None if row is None else _from_row(row)


async def list_open_in_chat(db: Queries, chat: ChatKey) -> list[OpenQuestion]:
    """Those that people can see and nobody has answered, the latest first."""
    rows = await db.fetch_all(OPEN_IN_CHAT, (chat.channel_type, chat.instance, chat.platform_id, MAX_OPEN))
    return [_open_question(row) for row in _latest_first(rows)]


def _latest_first(rows: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
    """The clock may have been set back between two questions: none is later than what its session asked after it."""
    moments: dict[tuple[str, int], str] = {}
    after: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: int(row["seq"]), reverse=True):
        session = row["session_id"]
        after[session] = min(row["asked_at"], after.get(session, row["asked_at"]))
        moments[session, row["seq"]] = after[session]
    return sorted(rows, key=lambda row: (moments[row["session_id"], row["seq"]], int(row["seq"])), reverse=True)


async def claim(tx: Transaction, question: Question, *, answer: str, user: str, event: EventId, now: datetime) -> bool:
    """This event is the answer. False: something else is, or the question is closed."""
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
    """Close what this session has asked. How many that were."""
    return await tx.execute(CLOSE_ALL, (session,))


async def is_open_in_chat(db: Queries, session: SessionId, chat: ChatKey) -> bool:
    """Whether this session has asked something there that is not answered."""
    return (
        await db.fetch_one(IS_OPEN_IN_CHAT, (session, chat.channel_type, chat.instance, chat.platform_id)) is not None
    )


async def close_in_chat(tx: Transaction, session: SessionId, chat: ChatKey) -> None:
    """Close what this session has asked there."""
    await tx.execute(CLOSE_IN_CHAT, (session, chat.channel_type, chat.instance, chat.platform_id))


async def close_old(tx: Transaction, *, before: datetime) -> int:
    """Close what was asked before this. How many that were."""
    return await tx.execute(CLOSE_OLD, (to_text(before),))


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """What was asked before this and is not open. Returns how many; there may be more while it is `limit`."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


def _open_question(row: sqlite3.Row) -> OpenQuestion:
    payload = decode_out(OutKind.QUESTION, row["content"])
    assert isinstance(payload, QuestionOut), "it was checked when it was entered"
    return OpenQuestion(question=_from_row(row), options=payload.options, receipt=tuple(json.loads(row["receipt"])))


def _from_row(row: sqlite3.Row) -> Question:
    return from_row(Question, row, chat=from_row(ChatKey, row))
