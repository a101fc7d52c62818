"""Stores the id of the install, which distinguishes its containers from those of other installs on the same engine."""

from __future__ import annotations

from datetime import datetime

from nanohost.db.database import Queries, Transaction
from nanohost_protocol.ids import random_id
from nanohost_protocol.times import to_text

FIND = "SELECT id FROM install"
ADD = "INSERT INTO install (singleton, id, created_at) VALUES (1, ?, ?)"


async def find(db: Queries) -> str | None:
    """Returns the install's id; None if no host was ever started."""
    row = await db.fetch_one(FIND)
    return None if row is None else str(row["id"])


async def get_or_create(tx: Transaction, now: datetime) -> str:
    """Returns the install's id; creates it at the first start."""
    if row := await tx.fetch_one(FIND):
        return str(row["id"])
    install = random_id("i")
    await tx.execute(ADD, (install, to_text(now)))
    return install
