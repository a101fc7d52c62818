"""Stores attempts that do not count: those that ended because the host stopped the container. No message fails because
of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from nanohost.db.database import Queries, Transaction
from nanohost.model import SessionId

ADD = "INSERT INTO uncounted_attempts (session_id, message_id, attempt) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
OF_SESSION = "SELECT message_id, attempt FROM uncounted_attempts WHERE session_id = ?"
DELETE = "DELETE FROM uncounted_attempts WHERE session_id = ? AND message_id = ?"


async def add(tx: Transaction, session: SessionId, attempts: Iterable[tuple[str, int]]) -> None:
    """Record attempts (message, its tries when it was claimed) that do not count. Can be repeated."""
    await tx.execute_many(ADD, [(session, message, count) for message, count in attempts])


async def list_for_session(db: Queries, session: SessionId) -> Mapping[str, Sequence[int]]:
    """Returns by message the tries at which the attempts that do not count were claimed."""
    found: dict[str, list[int]] = defaultdict(list)
    for row in await db.fetch_all(OF_SESSION, (session,)):
        found[row["message_id"]].append(row["attempt"])
    return found


async def delete(tx: Transaction, session: SessionId, messages: Iterable[str]) -> None:
    """Delete the attempts of closed messages."""
    await tx.execute_many(DELETE, [(session, message) for message in messages])
