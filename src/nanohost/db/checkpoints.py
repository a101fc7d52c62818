"""Stores checkpoints: the position of a channel instance in its platform's stream, in the channel's own format."""

from __future__ import annotations

from datetime import datetime

from nanohost.db.database import Queries, Transaction
from nanohost_protocol.times import to_text

SAVE = """
INSERT INTO channel_checkpoints (channel_type, instance, checkpoint, saved_at) VALUES (?, ?, ?, ?)
ON CONFLICT (channel_type, instance) DO UPDATE SET checkpoint = excluded.checkpoint, saved_at = excluded.saved_at
"""
FIND = "SELECT checkpoint FROM channel_checkpoints WHERE channel_type = ? AND instance = ?"


async def save(tx: Transaction, *, channel_type: str, instance: str, checkpoint: str, now: datetime) -> None:
    """Save the checkpoint in place of the last one."""
    await tx.execute(SAVE, (channel_type, instance, checkpoint, to_text(now)))


async def find(db: Queries, *, channel_type: str, instance: str) -> str | None:
    row = await db.fetch_one(FIND, (channel_type, instance))
    return None if row is None else str(row["checkpoint"])
