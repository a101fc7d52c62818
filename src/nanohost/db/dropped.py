"""Counts dropped messages by user, chat and reason, so that a flood is one row."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import ReportReader, Transaction, Value
from nanohost.db.events import ChatKey
from nanohost.db.rows import from_row
from nanohost_protocol.times import to_text

RECORD = """
INSERT INTO dropped_messages
    (channel_type, instance, platform_id, user_id, reason, agent_group, count, first_at, last_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (channel_type, instance, platform_id, user_id, reason, agent_group) DO UPDATE SET
    count = count + excluded.count, last_at = excluded.last_at
"""
LATEST = """
SELECT * FROM dropped_messages
WHERE (:user IS NULL OR user_id = :user) AND (:channel IS NULL OR channel_type = :channel)
ORDER BY last_at DESC LIMIT :limit
"""
DELETE_ALL = "DELETE FROM dropped_messages"
DELETE_OF_USER = "DELETE FROM dropped_messages WHERE user_id = ?"
DELETE_OLD = """
DELETE FROM dropped_messages WHERE (channel_type, instance, platform_id, user_id, reason, agent_group) IN (
    SELECT channel_type, instance, platform_id, user_id, reason, agent_group FROM dropped_messages
    WHERE last_at < ? LIMIT ?)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedMessages:
    """The dropped messages of one user in one chat, and the reason. `agent_group`: its folder, if one was concerned."""

    chat: ChatKey
    user_id: str
    reason: str
    agent_group: str
    count: int
    first_at: datetime
    last_at: datetime


async def record(
    tx: Transaction, chat: ChatKey, user_id: str, reason: str, *, now: datetime, agent_group: str = "", times: int = 1
) -> None:
    """Add `times` to a count."""
    columns = (chat.channel_type, chat.instance, chat.platform_id)
    await tx.execute(RECORD, (*columns, user_id, reason, agent_group, times, to_text(now), to_text(now)))


async def latest(
    db: ReportReader, *, limit: int, user: str | None = None, channel_type: str | None = None
) -> list[DroppedMessages]:
    """Returns the latest counts, newest first; of one user or channel, if given."""
    values: dict[str, Value] = {"user": user, "channel": channel_type, "limit": limit}
    return [_from_row(row) for row in await db.fetch_all(LATEST, values)]


async def delete(tx: Transaction, *, user: str | None = None) -> int:
    """Delete all counts, or those of one user. Returns how many rows."""
    return await tx.execute(DELETE_ALL) if user is None else await tx.execute(DELETE_OF_USER, (user,))


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete counts that did not grow since that time. Returns how many; if it is `limit`, there may be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


def _from_row(row: sqlite3.Row) -> DroppedMessages:
    return from_row(DroppedMessages, row, chat=from_row(ChatKey, row))
