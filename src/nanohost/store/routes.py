"""Routes: what each wiring made of an event, and which mailbox rows still wait to be written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nanohost.model import EventId, SessionId, WiringId
from nanohost.store.database import Queries, Transaction

ADD = """
INSERT OR REPLACE INTO routes (event_id, wiring_id, outcome, reason, session_id, message_id)
VALUES (?, ?, ?, ?, ?, ?)
"""
WAITING = """
SELECT event_id, wiring_id FROM routes WHERE outcome = 'waiting' AND session_id = ? ORDER BY event_id LIMIT ?
"""
REACHED = "SELECT 1 FROM routes WHERE session_id = ? AND wiring_id = ? LIMIT 1"
SESSIONS_WAITING = "SELECT DISTINCT session_id FROM routes WHERE outcome = 'waiting'"
WRITTEN = "UPDATE routes SET outcome = 'written', reason = '' WHERE event_id = ? AND wiring_id = ?"
EXPLAIN = "UPDATE routes SET reason = ? WHERE outcome = 'waiting' AND session_id = ?"


class RouteOutcome(StrEnum):
    WRITTEN = "written"
    CONTEXT = "context"
    """Written, and it wakes nobody."""
    WAITING = "waiting"
    NOT_ENGAGED = "not_engaged"
    DENIED = "denied"
    HELD = "held"
    """Until somebody decided whether its sender may talk here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One wiring's outcome for one event. `session_id` and `message_id` are set when it reached a mailbox or waits."""

    event_id: EventId
    wiring_id: WiringId
    outcome: RouteOutcome
    reason: str = ""
    session_id: SessionId | None = None
    message_id: str | None = None


async def add(tx: Transaction, route: Route) -> None:
    await tx.run(
        ADD, (route.event_id, route.wiring_id, route.outcome, route.reason, route.session_id, route.message_id)
    )


async def waiting(db: Queries, session: SessionId, *, limit: int) -> list[tuple[EventId, WiringId]]:
    """Rows a mailbox refused, oldest first."""
    rows = await db.all(WAITING, (session, limit))
    return [(EventId(row["event_id"]), WiringId(row["wiring_id"])) for row in rows]


async def reached(db: Queries, session: SessionId, wiring: WiringId) -> bool:
    """Whether the wiring brought anything into the session yet."""
    return await db.one(REACHED, (session, wiring)) is not None


async def sessions_waiting(db: Queries) -> list[SessionId]:
    return [SessionId(row["session_id"]) for row in await db.all(SESSIONS_WAITING)]


async def mark_written(tx: Transaction, event: EventId, wiring: WiringId) -> None:
    await tx.run(WRITTEN, (event, wiring))


async def explain_waiting(tx: Transaction, session: SessionId, reason: str) -> None:
    """Say why a session's rows still wait, for the status screen."""
    await tx.run(EXPLAIN, (reason, session))
