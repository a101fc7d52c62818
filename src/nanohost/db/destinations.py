"""Stores destinations: the chats to which an agent group may send beside those of its sessions, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, Transaction
from nanohost.db.rows import from_row
from nanohost.model import AgentGroupId, MessagingGroupId
from nanohost_protocol.times import to_text

ALL = "SELECT * FROM destinations ORDER BY agent_group_id, name"
OF_GROUP = "SELECT * FROM destinations WHERE agent_group_id = ? ORDER BY name"
OF_CHAT = "SELECT * FROM destinations WHERE messaging_group_id = ? ORDER BY id"
FIND = "SELECT * FROM destinations WHERE agent_group_id = ? AND name = ?"
ADD = """
INSERT INTO destinations (agent_group_id, name, messaging_group_id, created_by, created_at)
VALUES (?, ?, ?, ?, ?) RETURNING *
"""
DELETE = "DELETE FROM destinations WHERE id = ?"

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""The allowed names of a destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedChat:
    """A chat, with the name that an agent group uses for it."""

    id: int
    agent_group_id: AgentGroupId
    name: str
    messaging_group_id: MessagingGroupId
    created_by: str
    created_at: datetime


async def list_all(db: Queries) -> list[NamedChat]:
    return [from_row(NamedChat, row) for row in await db.fetch_all(ALL)]


async def list_for_group(db: Queries, group: AgentGroupId) -> list[NamedChat]:
    """Returns the destinations of an agent group, by name."""
    return [from_row(NamedChat, row) for row in await db.fetch_all(OF_GROUP, (group,))]


async def list_for_chat(db: Queries, chat: MessagingGroupId) -> list[NamedChat]:
    """Returns the destinations of all agent groups that may send to this chat."""
    return [from_row(NamedChat, row) for row in await db.fetch_all(OF_CHAT, (chat,))]


async def find(db: Queries, group: AgentGroupId, name: str) -> NamedChat | None:
    row = await db.fetch_one(FIND, (group, name))
    return None if row is None else from_row(NamedChat, row)


async def add(
    tx: Transaction,
    *,
    agent_group: AgentGroupId,
    name: str,
    messaging_group: MessagingGroupId,
    created_by: str,
    now: datetime,
) -> NamedChat:
    """Add a destination. Raises sqlite3.IntegrityError if the agent group already uses the name."""
    row = await tx.fetch_one(ADD, (agent_group, name, messaging_group, created_by, to_text(now)))
    assert row is not None
    return from_row(NamedChat, row)


async def delete(tx: Transaction, destination: int) -> bool:
    """Delete a destination. Returns False if it did not exist."""
    return await tx.execute(DELETE, (destination,)) == 1
