"""Agent groups: an agent's workspace, known by its folder."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from nanohost.model import AgentGroup, AgentGroupId
from nanohost.store.database import Queries, Transaction
from nanohost_protocol.times import from_text, to_text

ALL = "SELECT * FROM agent_groups ORDER BY folder"
BY_ID = "SELECT * FROM agent_groups WHERE id = ?"
BY_FOLDER = "SELECT * FROM agent_groups WHERE folder = ?"
ADD = "INSERT INTO agent_groups (folder, name, provider, model, created_at) VALUES (?, ?, ?, ?, ?) RETURNING *"
SET_MODEL = "UPDATE agent_groups SET model = ? WHERE id = ?"


async def every(db: Queries) -> list[AgentGroup]:
    return [_from_row(row) for row in await db.all(ALL)]


async def folders(db: Queries) -> dict[AgentGroupId, str]:
    """What people call each."""
    return {group.id: group.folder for group in await every(db)}


async def get(db: Queries, group: AgentGroupId) -> AgentGroup:
    row = await db.one(BY_ID, (group,))
    assert row is not None, f"agent group {group} is referred to and not there"
    return _from_row(row)


async def find(db: Queries, folder: str) -> AgentGroup | None:
    row = await db.one(BY_FOLDER, (folder,))
    return None if row is None else _from_row(row)


async def add(
    tx: Transaction, *, folder: str, name: str, provider: str | None, model: str | None, now: datetime
) -> AgentGroup:
    """Raises sqlite3.IntegrityError if the folder is taken."""
    row = await tx.one(ADD, (folder, name, provider, model, to_text(now)))
    assert row is not None
    return _from_row(row)


async def set_model(tx: Transaction, group: AgentGroupId, model: str | None) -> None:
    """What its agents think with, from the next start of each on. None: the host's default."""
    await tx.run(SET_MODEL, (model, group))


def _from_row(row: sqlite3.Row) -> AgentGroup:
    return AgentGroup(
        id=AgentGroupId(row["id"]),
        folder=row["folder"],
        name=row["name"],
        provider=row["provider"],
        model=row["model"],
        created_at=from_text(row["created_at"]),
    )
