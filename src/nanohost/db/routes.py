"""Stores routes: the outcome of each wiring for an event, and which mailbox rows still wait to be written."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import Queries, Transaction, Values
from nanohost.db.domain_events import MailboxHasPendingRows
from nanohost.db.events import MESSAGE_AND_EDITS, ChatKey
from nanohost.db.rows import from_row
from nanohost.model import ApprovalId, EventId, SessionId, WiringId
from nanohost_protocol.times import to_text

ADD = """
INSERT OR REPLACE INTO routes
    (event_id, wiring_id, outcome, reason, session_id, message_id, approval_id, trigger, decided_at, thread_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT thread_id FROM inbound_events WHERE id = ?))
"""
WAITING = """
SELECT event_id, wiring_id, trigger FROM routes INDEXED BY routes_waiting
WHERE outcome = 'waiting' AND session_id = ? ORDER BY event_id LIMIT ?
"""
HAS_REACHED = """
SELECT 1 FROM routes INDEXED BY routes_thread
WHERE session_id = ? AND wiring_id = ? AND trigger = 1 AND thread_id IS ? LIMIT 1
"""
COUNT_RECENT_BOTS = """
SELECT count(*) AS found FROM (
    SELECT e.sender_is_bot, e.received_at FROM routes r JOIN inbound_events e ON e.id = r.event_id
    WHERE r.session_id = ? AND r.wiring_id = ? AND r.trigger = 1 ORDER BY r.event_id DESC LIMIT ?)
WHERE sender_is_bot = 1 AND received_at > ?
"""
HAS_WAITING = "SELECT 1 FROM routes INDEXED BY routes_waiting WHERE outcome = 'waiting' AND session_id = ? LIMIT 1"
SESSIONS_WAITING = "SELECT DISTINCT session_id FROM routes INDEXED BY routes_waiting WHERE outcome = 'waiting'"
MARK_WRITTEN = """
UPDATE routes SET outcome = iif(trigger = 1, 'written', 'context'), reason = '', decided_at = ?
WHERE event_id = ? AND wiring_id = ?
"""
SET_WAITING_REASON = """
UPDATE routes INDEXED BY routes_waiting SET reason = :reason
WHERE outcome = 'waiting' AND session_id = :session AND reason != :reason
"""
HELD = """
SELECT event_id, wiring_id FROM routes INDEXED BY routes_held
WHERE outcome = 'held' AND approval_id = ? ORDER BY event_id, wiring_id
"""
UNSETTLED = """
SELECT event_id FROM routes INDEXED BY routes_wiring WHERE wiring_id = ? AND outcome IN ('held', 'waiting')
"""
RELEASE = """
UPDATE routes SET outcome = 'waiting', session_id = ?, reason = 'it was held until somebody approved its sender',
    decided_at = ?
WHERE event_id = ? AND wiring_id = ? AND outcome = 'held'
"""
DENY_HELD = """
UPDATE routes SET outcome = 'denied', reason = ?, decided_at = ? WHERE outcome = 'held' AND approval_id = ?
"""

# The routes of a message and its edits that reached, or may reach, an agent; by the platform's id.
ROUTED_MESSAGES = f"""
SELECT e.id, e.event_kind, e.text, r.wiring_id, r.session_id, r.outcome, r.trigger, r.approval_id
FROM {MESSAGE_AND_EDITS} e JOIN routes r ON r.event_id = e.id
WHERE r.outcome IN ('written', 'context', 'waiting', 'held')
"""  # noqa: S608
DROP_HELD = """
UPDATE routes SET outcome = 'not_engaged', reason = ?, decided_at = ?
WHERE event_id = ? AND wiring_id = ? AND outcome = 'held'
"""


class RouteOutcome(StrEnum):
    WRITTEN = "written"
    CONTEXT = "context"
    """Written as context: it triggers no turn."""
    WAITING = "waiting"
    NOT_ENGAGED = "not_engaged"
    DENIED = "denied"
    HELD = "held"
    """It waits for the approval of its sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One wiring's outcome for one event. `session_id` and `message_id` are set if it reached a mailbox or waits for
    it; a held route has its `message_id` and the approval that it waits for. `trigger`: whether it triggers a turn."""

    event_id: EventId
    wiring_id: WiringId
    outcome: RouteOutcome
    reason: str = ""
    session_id: SessionId | None = None
    message_id: str | None = None
    approval_id: ApprovalId | None = None
    trigger: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRow:
    """A row that waits to be written into a mailbox."""

    event_id: EventId
    wiring_id: WiringId
    trigger: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedMessage:
    """A message, or an edit of it, that one wiring's agent has received, or may receive after an approval."""

    event_id: EventId
    is_edit: bool
    text: str
    wiring_id: WiringId
    session_id: SessionId | None
    trigger: bool
    approval_id: ApprovalId | None
    """The approval that it waits for; None if it is not held."""


async def add(tx: Transaction, route: Route, *, now: datetime) -> None:
    await add_all(tx, [route], now=now)


async def add_all(tx: Transaction, routes: Sequence[Route], *, now: datetime) -> None:
    """Add routes. Emits MailboxHasPendingRows for each that waits."""
    await tx.execute_many(ADD, [_values(route, now) for route in routes])
    waiting = [route.session_id for route in routes if route.outcome is RouteOutcome.WAITING]
    tx.emit(*(MailboxHasPendingRows(session) for session in waiting if session is not None))


def _values(route: Route, now: datetime) -> Values:
    reached = (route.session_id, route.message_id, route.approval_id, int(route.trigger), to_text(now), route.event_id)
    return (route.event_id, route.wiring_id, route.outcome, route.reason, *reached)


async def list_waiting(db: Queries, session: SessionId, *, limit: int) -> list[WaitingRow]:
    """Returns the rows that wait for the session's mailbox, oldest first."""
    return [
        WaitingRow(
            event_id=EventId(row["event_id"]), wiring_id=WiringId(row["wiring_id"]), trigger=bool(row["trigger"])
        )
        for row in await db.fetch_all(WAITING, (session, limit))
    ]


async def has_waiting(db: Queries, session: SessionId) -> bool:
    """Whether rows wait for the session's mailbox."""
    return await db.fetch_one(HAS_WAITING, (session,)) is not None


async def has_reached_thread(db: Queries, session: SessionId, wiring: WiringId, thread_id: str | None) -> bool:
    """Whether the wiring has routed an event of this thread to the session that triggered a turn."""
    return await db.fetch_one(HAS_REACHED, (session, wiring, thread_id)) is not None


async def count_recent_bots(db: Queries, session: SessionId, wiring: WiringId, *, window: int, since: datetime) -> int:
    """Returns how many of the last `window` messages with which the wiring triggered turns of the session are by other
    bots and came after `since`."""
    row = await db.fetch_one(COUNT_RECENT_BOTS, (session, wiring, window, to_text(since)))
    return 0 if row is None else int(row["found"])


async def list_waiting_sessions(db: Queries) -> list[SessionId]:
    return [SessionId(row["session_id"]) for row in await db.fetch_all(SESSIONS_WAITING)]


async def mark_written(tx: Transaction, event: EventId, wiring: WiringId, *, now: datetime) -> None:
    await tx.execute(MARK_WRITTEN, (to_text(now), event, wiring))


async def set_waiting_reason(tx: Transaction, session: SessionId, reason: str) -> None:
    """Record why a session's rows still wait, for the status."""
    await tx.execute(SET_WAITING_REASON, {"reason": reason, "session": session})


async def list_held(db: Queries, approval: ApprovalId) -> list[tuple[EventId, WiringId]]:
    """Returns the routes that wait for this approval, oldest first."""
    rows = await db.fetch_all(HELD, (approval,))
    return [(EventId(row["event_id"]), WiringId(row["wiring_id"])) for row in rows]


async def list_unsettled(db: Queries, wiring: WiringId) -> list[EventId]:
    """Returns the events of this wiring that are held or wait for a mailbox, oldest first."""
    return sorted(EventId(row["event_id"]) for row in await db.fetch_all(UNSETTLED, (wiring,)))


async def release_held(tx: Transaction, event: EventId, wiring: WiringId, session: SessionId, *, now: datetime) -> None:
    """Have a held row written into this session's mailbox. Emits MailboxHasPendingRows."""
    await tx.execute(RELEASE, (session, to_text(now), event, wiring))
    tx.emit(MailboxHasPendingRows(session))


async def list_routed(db: Queries, chat: ChatKey, message: str) -> list[RoutedMessage]:
    """Returns the routes of the message with this platform id, and of its edits, to agents; oldest first."""
    rows = await db.fetch_all(ROUTED_MESSAGES, {**chat.columns, "message": message})
    return sorted(map(_routed_message, rows), key=lambda one: (one.event_id, one.wiring_id))


def _routed_message(row: sqlite3.Row) -> RoutedMessage:
    return from_row(
        RoutedMessage,
        row,
        event_id=EventId(row["id"]),
        is_edit=row["event_kind"] == "edit",
        approval_id=ApprovalId(row["approval_id"]) if row["outcome"] == RouteOutcome.HELD else None,
    )


async def drop_held(tx: Transaction, event: EventId, wiring: WiringId, reason: str, *, now: datetime) -> None:
    """Drop a held row: it reaches no agent."""
    await tx.execute(DROP_HELD, (reason, to_text(now), event, wiring))


async def deny_held(tx: Transaction, approval: ApprovalId, reason: str, *, now: datetime) -> int:
    """Deny the rows that waited for this approval: they reach no agent. Returns how many."""
    return await tx.execute(DENY_HELD, (reason, to_text(now), approval))
