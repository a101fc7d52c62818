"""Stores late messages, and finds late events and deliveries: messages of people, or to them, that are overdue.

Every query uses an index of open rows, so settled rows cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, Transaction, Value
from nanohost.db.rows import from_row
from nanohost.model import EventId, SessionId
from nanohost_protocol.times import from_text, to_text

MAX_ROWS = 50
"""The most rows of each kind in one query; the rest follows when these are settled."""

ALL = "SELECT * FROM late_messages"
SAVE = """
INSERT OR REPLACE INTO late_messages
    (name, session_id, channel, platform_id, cause, sentence, since, found_at, notified)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
DELETE = "DELETE FROM late_messages WHERE name = ?"
# An event that was held for an approval is late from the decision on, and not from its arrival.
EVENTS = """
SELECT * FROM (
    SELECT id, NULL AS session_id, status, reason, received_at FROM inbound_events e
    WHERE status = 'new' AND received_at <= :before
        AND NOT EXISTS (SELECT 1 FROM approvals a WHERE a.id = e.approval_id AND a.decided_at > :before)
    LIMIT :most)
UNION ALL SELECT * FROM (
    SELECT id, NULL AS session_id, status, reason, received_at FROM inbound_events
    WHERE status = 'set_aside' ORDER BY id DESC LIMIT :most)
UNION ALL SELECT * FROM (
    SELECT e.id, r.session_id, 'waiting' AS status, r.reason, e.received_at
    FROM routes r INDEXED BY routes_waiting JOIN inbound_events e ON e.id = r.event_id
    WHERE r.outcome = 'waiting' AND e.received_at <= :before AND NOT EXISTS (
        SELECT 1 FROM approvals a WHERE a.id IN (r.approval_id, e.approval_id) AND a.decided_at > :before)
    LIMIT :most)
"""
DELIVERIES = """
SELECT * FROM (
    SELECT session_id, seq, status, reason, channel_type || ':' || instance AS channel, platform_id,
        max(created_at, ifnull(not_before, created_at)) AS since
    FROM deliveries
    WHERE status IN ('pending', 'sending') AND created_at <= :before AND ifnull(not_before, created_at) <= :before
        AND (next_attempt_at IS NULL OR attempts > 0)
    LIMIT :most)
UNION ALL SELECT * FROM (
    SELECT session_id, seq, status, reason, channel_type || ':' || instance AS channel, platform_id, created_at
    FROM deliveries WHERE status = 'dead' AND changed_at > :lately ORDER BY changed_at DESC LIMIT :most)
"""
RECEIVED_AT = """
SELECT max(e.received_at, ifnull((
    SELECT max(a.decided_at) FROM approvals a WHERE a.id IN (r.approval_id, e.approval_id)), '')) AS received_at
FROM routes r JOIN inbound_events e ON e.id = r.event_id WHERE r.message_id = ?
"""
LATEST_EVENT = "SELECT max(event_id) AS id FROM routes WHERE session_id = ? AND outcome = 'written'"
HAS_NOTICE = "SELECT 1 FROM deliveries WHERE session_id = ? AND seq BETWEEN ? AND ? LIMIT 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LateMessage:
    """A late event, message or delivery. `name`: its kind and id. `notified`: whether the person was sent a notice."""

    name: str
    session_id: SessionId | None
    channel: str
    platform_id: str
    cause: str
    sentence: str
    since: datetime
    notified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LateEvent:
    """An event that did not reach its mailbox. `status`: new, set_aside, or waiting for a mailbox."""

    id: EventId
    session_id: SessionId | None
    status: str
    reason: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LateDelivery:
    """A message to people that did not reach them. `since`: when it was to be sent."""

    session_id: SessionId
    seq: int
    status: str
    reason: str
    channel: str
    platform_id: str
    since: datetime


async def list_known(db: Queries) -> dict[str, LateMessage]:
    """Returns the recorded late messages by name, oldest first."""
    found = sorted((from_row(LateMessage, row) for row in await db.fetch_all(ALL)), key=lambda late: late.since)
    return {late.name: late for late in found}


async def save(tx: Transaction, late: LateMessage, now: datetime) -> None:
    notified = int(late.notified)
    chat = (late.session_id, late.channel, late.platform_id)
    times = (to_text(late.since), to_text(now))
    await tx.execute(SAVE, (late.name, *chat, late.cause, late.sentence, *times, notified))


async def delete(tx: Transaction, names: Iterable[str]) -> None:
    await tx.execute_many(DELETE, [(name,) for name in names])


async def find_late_events(db: Queries, *, before: datetime) -> list[LateEvent]:
    """Returns events from before that time that are not routed, quarantined events, and events that wait for a damaged
    mailbox."""
    return [
        LateEvent(
            id=EventId(row["id"]),
            session_id=row["session_id"],
            status=row["status"],
            reason=row["reason"] or "",
            received_at=from_text(row["received_at"]),
        )
        for row in await db.fetch_all(EVENTS, {"before": to_text(before), "most": MAX_ROWS})
    ]


async def find_late_deliveries(db: Queries, *, before: datetime, lately: datetime) -> list[LateDelivery]:
    """Returns deliveries from before that time that are still open, and those that failed after `lately`."""
    values: dict[str, Value] = {"before": to_text(before), "lately": to_text(lately), "most": MAX_ROWS}
    return [
        LateDelivery(
            session_id=SessionId(row["session_id"]),
            seq=row["seq"],
            status=row["status"],
            reason=row["reason"] or "",
            channel=row["channel"],
            platform_id=row["platform_id"],
            since=from_text(row["since"]),
        )
        for row in await db.fetch_all(DELIVERIES, values)
    ]


async def received_at(db: Queries, message_id: str) -> datetime | None:
    """Returns when the event of a mailbox row was received, or approved; None if the row has no event."""
    row = await db.fetch_one(RECEIVED_AT, (message_id,))
    return None if row is None else from_text(row["received_at"])


async def latest_event(db: Queries, session: SessionId) -> EventId | None:
    """Returns the latest event that was written into a session's mailbox."""
    row = await db.fetch_one(LATEST_EVENT, (session,))
    return None if row is None or row["id"] is None else EventId(row["id"])


async def has_notice(db: Queries, session: SessionId, seqs: range) -> bool:
    """Whether the session has a delivery with one of these numbers."""
    return await db.fetch_one(HAS_NOTICE, (session, seqs.start, seqs.stop - 1)) is not None
