"""Stores turn failures: the failures in a row of a session's latest turns. A completed turn ends the row."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.db.database import Queries, Transaction
from nanohost.db.rows import from_row
from nanohost.model import SessionId
from nanohost_protocol.rows import ChatId, ErrorClass
from nanohost_protocol.times import from_text, to_text

OF_SESSION = "SELECT * FROM turn_failures WHERE session_id = ?"
HELD_SESSIONS = """
SELECT session_id, held_until FROM turn_failures INDEXED BY turn_failures_held
WHERE held_until IS NOT NULL AND held_until > ?
"""
SAVE = """
INSERT OR REPLACE INTO turn_failures
    (session_id, error_class, sentence, since, latest_at, failures, held_until, notified_chats)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
BRING_FORWARD = "UPDATE turn_failures SET since = ?, latest_at = ?, held_until = ? WHERE session_id = ?"
DELETE = "DELETE FROM turn_failures WHERE session_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFailures:
    """Failures in a row. `held_until`: the end of the model's backoff; None if there is none. `notified_chats`: chats
    that were notified of this backoff."""

    error_class: ErrorClass
    sentence: str
    since: datetime
    latest_at: datetime
    count: int
    held_until: datetime | None = None
    notified_chats: frozenset[ChatId] = frozenset()

    def is_holding(self, now: datetime) -> bool:
        """Whether the model is in backoff, so that no container is started."""
        return self.held_until is not None and now < self.held_until


async def find(db: Queries, session: SessionId) -> TurnFailures | None:
    row = await db.fetch_one(OF_SESSION, (session,))
    return None if row is None else _from_row(row)


async def list_held(db: Queries, now: datetime) -> dict[SessionId, datetime]:
    """Returns the sessions whose model is in backoff, and until when."""
    return {
        SessionId(row["session_id"]): from_text(row["held_until"])
        for row in await db.fetch_all(HELD_SESSIONS, (to_text(now),))
    }


async def bring_forward(tx: Transaction, *, by: timedelta, now: datetime) -> dict[SessionId, datetime]:
    """Move the backoffs forward by `by`, since the clock was set back. Returns their new ends."""
    ends = {}
    for session in await list_held(tx, now):
        failures = await find(tx, session)
        assert failures is not None, "it is held"
        assert failures.held_until is not None, "it is held"
        ends[session] = max(now, failures.held_until - by)
        moments = (failures.since - by, failures.latest_at - by, ends[session])
        await tx.execute(BRING_FORWARD, (*map(to_text, moments), session))
    return ends


async def save(tx: Transaction, session: SessionId, failures: TurnFailures | None) -> None:
    """Save the session's failures; None deletes them, since its latest turn was completed."""
    if failures is None:
        await tx.execute(DELETE, (session,))
        return
    notified = sorted([chat.channel_type, chat.instance, chat.platform_id] for chat in failures.notified_chats)
    await tx.execute(
        SAVE,
        (
            session,
            failures.error_class,
            failures.sentence,
            to_text(failures.since),
            to_text(failures.latest_at),
            failures.count,
            None if failures.held_until is None else to_text(failures.held_until),
            json.dumps(notified),
        ),
    )


def _from_row(row: sqlite3.Row) -> TurnFailures:
    return from_row(
        TurnFailures,
        row,
        count=row["failures"],
        notified_chats=frozenset(ChatId(*chat) for chat in json.loads(row["notified_chats"])),
    )
