"""Deliveries: the ledger of what goes out. Every state a send can be in after a crash is a state here."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.model import SessionId
from nanohost.store.database import Queries, Transaction, Value
from nanohost_protocol.times import from_text, to_text

ADD = """
INSERT INTO deliveries
    (session_id, seq, out_id, kind, channel_type, instance, platform_id, thread_id, reply_to, content,
     status, reason, next_try_at, created_at, changed_at)
VALUES
    (:session_id, :seq, :out_id, :kind, :channel_type, :instance, :platform_id, :thread_id, :reply_to, :content,
     :status, :reason, :next_try_at, :created_at, :changed_at)
ON CONFLICT (session_id, seq) DO NOTHING
"""
NEXT_IN_LANE = """
SELECT * FROM deliveries
WHERE status IN ('pending', 'sending') AND session_id = ? AND channel_type = ? AND instance = ?
ORDER BY seq LIMIT 1
"""
OPEN_LANES = """
SELECT DISTINCT session_id, channel_type, instance FROM deliveries WHERE status IN ('pending', 'sending')
"""
SETTLED = """
SELECT * FROM deliveries WHERE session_id = ? AND seq > 0 AND status NOT IN ('pending', 'sending')
ORDER BY seq DESC LIMIT ?
"""
TRIES = """
SELECT count(*) AS tries FROM delivery_attempts a JOIN deliveries d USING (session_id, seq)
WHERE session_id = ? AND seq = ? AND a.number > d.tries_from
    AND ifnull(a.outcome, '') NOT IN ('down', 'rate_limited', 'auth')
"""
BEGIN = """
UPDATE deliveries SET status = 'sending', attempts = attempts + 1, changed_at = :now
WHERE session_id = :session_id AND seq = :seq AND status = 'pending'
"""
BEGIN_ATTEMPT = """
INSERT INTO delivery_attempts (session_id, seq, number, started_at)
SELECT session_id, seq, attempts, :now FROM deliveries WHERE session_id = :session_id AND seq = :seq
"""
END = """
UPDATE deliveries SET status = :status, reason = :reason, next_try_at = :next_try_at, receipt = :receipt,
    changed_at = :now
WHERE session_id = :session_id AND seq = :seq
"""
END_ATTEMPT = """
UPDATE delivery_attempts SET ended_at = :now, outcome = :outcome, error = :error
WHERE session_id = :session_id AND seq = :seq AND ended_at IS NULL
"""


BY_KEY = "SELECT * FROM deliveries WHERE session_id = ? AND seq = ?"
LATEST = """
SELECT * FROM deliveries WHERE (:status IS NULL OR status = :status) AND (:session IS NULL OR session_id = :session)
ORDER BY changed_at DESC, seq DESC LIMIT :limit
"""
ATTEMPTS = "SELECT * FROM delivery_attempts WHERE session_id = ? AND seq = ? ORDER BY number"
RESEND = """
UPDATE deliveries SET status = 'pending', decision = 'resend', tries_from = attempts, next_try_at = NULL,
    reason = NULL, changed_at = :now
WHERE session_id = :session_id AND seq = :seq
    AND (status IN ('dead', 'unknown') OR (status = 'dropped' AND decision = 'drop'))
"""
DROP = """
UPDATE deliveries SET status = 'dropped', decision = 'drop', next_try_at = NULL, reason = :reason, changed_at = :now
WHERE session_id = :session_id AND seq = :seq AND status IN ('pending', 'dead', 'unknown')
"""


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    """Waits: for its turn, for `next_try_at`, for its channel."""
    SENDING = "sending"
    """Handed to the channel; found so at a start it is ambiguous: it may have been sent."""
    SENT = "sent"
    DEAD = "dead"
    """Given up, with the reason; can be sent again by command."""
    DROPPED = "dropped"
    """Never to be sent: malformed, not allowed, or an operator said so (and may take it back)."""
    UNKNOWN = "unknown"
    """May have been sent, and waits for an operator's word; what comes after it goes on."""


class Decision(StrEnum):
    """What an operator said of a message."""

    RESEND = "resend"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class LaneKey:
    """What order is kept within: one session's messages on one platform."""

    session_id: SessionId
    channel_type: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message on its way."""

    lane: LaneKey
    seq: int
    out_id: str
    kind: str
    platform_id: str
    thread_id: str | None
    reply_to: str | None
    content: str
    status: DeliveryStatus
    created_at: datetime
    attempts: int = 0
    tries_from: int = 0
    """Attempts up to this number are of before an operator had it sent again."""
    next_try_at: datetime | None = None
    reason: str | None = None
    decision: Decision | None = None
    receipt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try. `outcome`: sent, or the class of the error; None while it is under way."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error: str | None


async def add(tx: Transaction, delivery: Delivery) -> bool:
    """Enter a message into the ledger. False if it is there already."""
    values: dict[str, Value] = {
        "session_id": delivery.lane.session_id,
        "seq": delivery.seq,
        "out_id": delivery.out_id,
        "kind": delivery.kind,
        "channel_type": delivery.lane.channel_type,
        "instance": delivery.lane.instance,
        "platform_id": delivery.platform_id,
        "thread_id": delivery.thread_id,
        "reply_to": delivery.reply_to,
        "content": delivery.content,
        "status": delivery.status,
        "reason": delivery.reason,
        "next_try_at": None if delivery.next_try_at is None else to_text(delivery.next_try_at),
        "created_at": to_text(delivery.created_at),
        "changed_at": to_text(delivery.created_at),
    }
    return await tx.run(ADD, values) == 1


async def next_in_lane(db: Queries, lane: LaneKey) -> Delivery | None:
    """The first message that is not settled: nothing behind it may overtake it."""
    row = await db.one(NEXT_IN_LANE, (lane.session_id, lane.channel_type, lane.instance))
    return None if row is None else _from_row(row)


async def open_lanes(db: Queries) -> list[LaneKey]:
    rows = await db.all(OPEN_LANES)
    return [LaneKey(SessionId(row["session_id"]), row["channel_type"], row["instance"]) for row in rows]


async def settled(db: Queries, session: SessionId, *, limit: int) -> list[Delivery]:
    """What became of the session's latest messages that are not on their way any more, newest first."""
    return [_from_row(row) for row in await db.all(SETTLED, (session, limit))]


async def tries(db: Queries, delivery: Delivery) -> int:
    """Attempts that count, one that is under way included: not those that only found out that it has to wait."""
    row = await db.one(TRIES, (delivery.lane.session_id, delivery.seq))
    return 0 if row is None else int(row["tries"])


async def begin(tx: Transaction, delivery: Delivery, now: datetime) -> bool:
    """The intent: committed before the channel is asked. False: it is not pending any more, an operator was faster."""
    values = _key(delivery, now)
    if await tx.run(BEGIN, values) == 0:
        return False
    await tx.run(BEGIN_ATTEMPT, values)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended, and what becomes of the message."""

    status: DeliveryStatus
    outcome: str
    reason: str | None = None
    error: str | None = None
    next_try_at: datetime | None = None
    receipt: tuple[str, ...] = ()


async def end(tx: Transaction, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
    """The outcome: committed after the channel answered, or when a start finds an attempt without one."""
    values = _key(delivery, now) | {
        "status": outcome.status,
        "reason": outcome.reason,
        "next_try_at": None if outcome.next_try_at is None else to_text(outcome.next_try_at),
        "receipt": json.dumps(outcome.receipt),
    }
    await tx.run(END, values)
    await tx.run(END_ATTEMPT, _key(delivery, now) | {"outcome": outcome.outcome, "error": outcome.error})


async def find(db: Queries, session: SessionId, seq: int) -> Delivery | None:
    row = await db.one(BY_KEY, (session, seq))
    return None if row is None else _from_row(row)


async def latest(
    db: Queries, *, status: DeliveryStatus | None, session: SessionId | None, limit: int
) -> list[Delivery]:
    """The deliveries that changed last, newest first; of one status or session, where given."""
    return [_from_row(row) for row in await db.all(LATEST, {"status": status, "session": session, "limit": limit})]


async def attempts(db: Queries, delivery: Delivery) -> list[Attempt]:
    """Every try of a message, in order."""
    rows = await db.all(ATTEMPTS, (delivery.lane.session_id, delivery.seq))
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
    """An operator's word: pending again, with all its tries. False: it was not given up, held or dropped by one."""
    return await tx.run(RESEND, _key(delivery, now)) == 1


async def drop(tx: Transaction, delivery: Delivery, reason: str, now: datetime) -> bool:
    """An operator's word: never to be sent. False: it is being sent, was sent, or was dropped before."""
    return await tx.run(DROP, _key(delivery, now) | {"reason": reason}) == 1


def _key(delivery: Delivery, now: datetime) -> dict[str, Value]:
    return {"session_id": delivery.lane.session_id, "seq": delivery.seq, "now": to_text(now)}


def _from_row(row: sqlite3.Row) -> Delivery:
    return Delivery(
        lane=LaneKey(SessionId(row["session_id"]), row["channel_type"], row["instance"]),
        seq=row["seq"],
        out_id=row["out_id"],
        kind=row["kind"],
        platform_id=row["platform_id"],
        thread_id=row["thread_id"],
        reply_to=row["reply_to"],
        content=row["content"],
        status=DeliveryStatus(row["status"]),
        created_at=from_text(row["created_at"]),
        attempts=row["attempts"],
        tries_from=row["tries_from"],
        next_try_at=from_text(row["next_try_at"]) if row["next_try_at"] else None,
        reason=row["reason"],
        decision=Decision(row["decision"]) if row["decision"] else None,
        receipt=tuple(json.loads(row["receipt"])),
    )
