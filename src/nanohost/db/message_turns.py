"""Message turns: which turn a session's agent had over a message of its mailbox, from when to when, and how it ended.

The last turn over each message is kept, whatever is sent in it. What the turn took is in turn_costs and model_calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import Transaction
from nanohost.model import SessionId
from nanohost_protocol.times import to_text

MAX_ERROR_CHARS = 500
"""Characters: a container wrote it."""

BEGIN = """
INSERT INTO message_turns (session_id, message_id, turn_id, began_at, changed_at)
VALUES (:session, :message_id, :turn_id, :at, :now)
ON CONFLICT (session_id, message_id) DO UPDATE SET turn_id = excluded.turn_id, began_at = excluded.began_at,
    ended_at = NULL, outcome = NULL, error = NULL, changed_at = excluded.changed_at
"""
END = """
INSERT INTO message_turns (session_id, message_id, turn_id, ended_at, outcome, error, changed_at)
VALUES (:session, :message_id, :turn_id, :at, :outcome, :error, :now)
ON CONFLICT (session_id, message_id) DO UPDATE SET
    began_at = iif(turn_id = excluded.turn_id, began_at, NULL), turn_id = excluded.turn_id,
    ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error, changed_at = excluded.changed_at
"""
DELETE_OLD = """
DELETE FROM message_turns WHERE (session_id, message_id) IN (
    SELECT session_id, message_id FROM message_turns WHERE changed_at < ? LIMIT ?)
"""


class TurnOutcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    """The message is closed, and its sender was notified."""
    INTERRUPTED = "interrupted"
    """The message is retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStart:
    """A turn began with this message. `at`: by its container's clock."""

    message_id: str
    turn_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """A turn over this message ended. `at`: by its container's clock; None if the time is not known."""

    message_id: str
    turn_id: str
    outcome: TurnOutcome
    error: str | None
    at: datetime | None


async def record_starts(tx: Transaction, session: SessionId, starts: Iterable[TurnStart], now: datetime) -> None:
    """Record which turns began. A time in the future, which a container may report, is replaced by `now`."""
    for one in starts:
        turn = {"session": session, "message_id": one.message_id, "turn_id": one.turn_id}
        await tx.execute(BEGIN, turn | {"at": to_text(min(one.at, now)), "now": to_text(now)})


async def record_ends(tx: Transaction, session: SessionId, ends: Iterable[TurnEnd], now: datetime) -> None:
    """Record which turns ended. A missing time, or one in the future, is replaced by `now`. Can be repeated."""
    for one in ends:
        turn = {"session": session, "message_id": one.message_id, "turn_id": one.turn_id}
        result = {"outcome": one.outcome, "error": None if one.error is None else one.error[:MAX_ERROR_CHARS]}
        at = now if one.at is None else min(one.at, now)
        await tx.execute(END, turn | result | {"at": to_text(at), "now": to_text(now)})


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete turns that did not change since that time. Returns how many; if it is `limit`, there may be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))
