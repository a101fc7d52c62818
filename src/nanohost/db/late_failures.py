"""Stores failed messages, of which an agent is notified: late failures, by the platform's message id, and messages that
the platform never accepted; with the reason, and whether the notification was made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, Transaction, Value
from nanohost.db.deliveries import Delivery, DeliveryStatus, find
from nanohost.model import SessionId
from nanohost_protocol.times import to_text

RECORD_IDEMPOTENCY_KEY = "INSERT INTO idempotency_keys (session_id, seq, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
BY_KEY = "SELECT session_id, seq FROM idempotency_keys WHERE key = ?"
ADD = """
INSERT INTO late_failures (session_id, seq, platform_message_id, reason, failed_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
MARK_DEAD = """
UPDATE deliveries SET status = 'dead', reason = :reason, changed_at = :now
WHERE session_id = :session_id AND seq = :seq AND status = 'sent'
"""
FIND_FAILURE = """
SELECT reason FROM late_failures
WHERE session_id = ? AND seq = ? AND platform_message_id IN (SELECT value FROM json_each(?)) LIMIT 1
"""
UNNOTIFIED = """
SELECT f.session_id, f.seq, f.platform_message_id, f.reason
FROM late_failures f INDEXED BY late_failures_unnotified JOIN deliveries d USING (session_id, seq)
WHERE f.notified = 0 AND d.status = 'dead'
    AND (f.session_id, f.seq, f.platform_message_id) > (:session_id, :seq, :platform_message_id)
ORDER BY f.session_id, f.seq, f.platform_message_id LIMIT :limit
"""
MARK_NOTIFIED = "UPDATE late_failures SET notified = 1 WHERE session_id = ? AND seq = ? AND platform_message_id = ?"

BATCH_SIZE = 100
NOT_ACCEPTED_PREFIX = "attempt "
"""Replaces the platform's id of a message that was not accepted; followed by the attempt's number, since an operator
may have it sent again, and it may fail again."""
FAILED_LATER = "failed_later"
"""The prefix of the reason of a late failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFailure:
    """A failure of which nobody is notified yet."""

    delivery: Delivery
    platform_message_id: str
    reason: str

    @property
    def key(self) -> tuple[str, int, str]:
        return self.delivery.queue.session_id, self.delivery.seq, self.platform_message_id

    @property
    def was_accepted(self) -> bool:
        """Whether the platform accepted the message first; otherwise it was refused, or all attempts failed."""
        return not self.platform_message_id.startswith(NOT_ACCEPTED_PREFIX)


async def record_idempotency_key(tx: Transaction, delivery: Delivery, key: str) -> None:
    """Record that the message is sent with this idempotency key."""
    await tx.execute(RECORD_IDEMPOTENCY_KEY, (delivery.queue.session_id, delivery.seq, key))


async def add(
    tx: Transaction, channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str, now: datetime
) -> bool:
    """Record a late failure. A message that is sent with this platform id becomes dead at once; one that is being sent
    becomes dead when the send ends. Returns False if the channel sent no message with this key, or if the failure is
    recorded already."""
    row = await tx.fetch_one(BY_KEY, (key,))
    delivery = None if row is None else await find(tx, SessionId(row["session_id"]), row["seq"])
    if delivery is None or (delivery.queue.channel_type, delivery.queue.instance) != channel:
        return False
    key_columns = (delivery.queue.session_id, delivery.seq)
    if await tx.execute(ADD, (*key_columns, platform_message_id, reason, to_text(now))) == 0:
        return False
    if delivery.status is DeliveryStatus.SENT and platform_message_id in delivery.receipt:
        await _mark_dead(tx, delivery, reason, now)
    return True


async def add_not_accepted(tx: Transaction, delivery: Delivery, reason: str, now: datetime) -> None:
    """Record that the message failed for good with the attempt that now runs."""
    place = (delivery.queue.session_id, delivery.seq)
    await tx.execute(ADD, (*place, f"{NOT_ACCEPTED_PREFIX}{delivery.attempts + 1}", reason, to_text(now)))


async def settle_sent(tx: Transaction, session: SessionId, seq: int, now: datetime) -> bool:
    """Check a message that was just sent. Returns True if its late failure is recorded already; then it becomes
    dead."""
    delivery = await find(tx, session, seq)
    if delivery is None or delivery.status is not DeliveryStatus.SENT:
        return False
    row = await tx.fetch_one(FIND_FAILURE, (session, seq, json.dumps(delivery.receipt)))
    if row is not None:
        await _mark_dead(tx, delivery, row["reason"], now)
    return row is not None


async def _mark_dead(tx: Transaction, delivery: Delivery, reason: str, now: datetime) -> None:
    values: dict[str, Value] = {"session_id": delivery.queue.session_id, "seq": delivery.seq, "now": to_text(now)}
    await tx.execute(MARK_DEAD, {**values, "reason": f"{FAILED_LATER}: {reason}"})


async def list_unnotified(db: Queries, *, after: tuple[str, int, str] = ("", 0, "")) -> list[LateFailure]:
    """Returns the next failures after that key of which nobody is notified; none if there are no more."""
    found = []
    session_id, seq, message = after
    values: dict[str, Value] = {
        "session_id": session_id,
        "seq": seq,
        "platform_message_id": message,
        "limit": BATCH_SIZE,
    }
    for row in await db.fetch_all(UNNOTIFIED, values):
        delivery = await find(db, SessionId(row["session_id"]), row["seq"])
        assert delivery is not None, "it was just read"
        found.append(
            LateFailure(delivery=delivery, platform_message_id=row["platform_message_id"], reason=row["reason"])
        )
    return found


async def mark_notified(tx: Transaction, failure: LateFailure) -> None:
    await tx.execute(MARK_NOTIFIED, failure.key)
