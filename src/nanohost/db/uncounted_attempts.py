"""Uncounted attempts: those that ended because the host stopped the container in order. No message fails for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from nanohost.db.database import Queries, Transaction
from nanohost.model import SessionId

ADD = "INSERT INTO uncounted_attempts (session_id, message_id, attempt) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
OF_SESSION = "SELECT message_id, attempt FROM uncounted_attempts WHERE session_id = ?"
DELETE = "DELETE FROM uncounted_attempts WHERE session_id = ? AND message_id = ?"


async def add(tx: Transaction, session: SessionId, attempts: Iterable[tuple[str, int]]) -> None:
    """These (message, its count when it was claimed) do not count. Saying it again changes nothing."""
    await tx.execute_many(ADD, [(session, message, count) for message, count in attempts])


async def list_for_session(db: Queries, session: SessionId) -> Mapping[str, Sequence[int]]:
    """By message, the counts at which it was claimed in vain."""
    found: dict[str, list[int]] = defaultdict(list)
    for row in await db.fetch_all(OF_SESSION, (session,)):
        found[row["message_id"]].append(row["attempt"])
    return found


async def delete(tx: Transaction, session: SessionId, messages: Iterable[str]) -> None:
    """These messages are closed."""
    await tx.execute_many(DELETE, [(session, message) for message in messages])
