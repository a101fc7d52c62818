"""Stores agent groups. An agent group is identified by its folder.

A deleted agent group stays as a row, because its conversations, costs and the audit log refer to it. It is not found by
its folder, and is restored when an agent group with the same folder is created.
"""

from __future__ import annotations

from datetime import datetime

from nanohost.db.database import Queries, Transaction
from nanohost.db.rows import from_row
from nanohost.model import AgentGroup, AgentGroupId, SessionId, TaskId, WiringId
from nanohost_protocol.times import to_text

ALL = "SELECT * FROM agent_groups WHERE deleted_at IS NULL ORDER BY folder"
ALL_FOLDERS = "SELECT id, folder FROM agent_groups ORDER BY folder"
BY_ID = "SELECT * FROM agent_groups WHERE id = ?"
BY_FOLDER = "SELECT * FROM agent_groups WHERE folder = ? AND deleted_at IS NULL"
UNDELETE = """
UPDATE agent_groups SET name = ?, provider = ?, model = ?, deleted_at = NULL
WHERE folder = ? AND deleted_at IS NOT NULL RETURNING *
"""
ADD = "INSERT INTO agent_groups (folder, name, provider, model, created_at) VALUES (?, ?, ?, ?, ?) RETURNING *"
SET_MODEL = "UPDATE agent_groups SET model = ? WHERE id = ?"
UPDATE = "UPDATE agent_groups SET name = ?, provider = ?, model = ? WHERE id = ?"
DELETE = "UPDATE agent_groups SET deleted_at = ? WHERE id = ?"
ACTIVE_SESSIONS = """
SELECT id FROM sessions INDEXED BY sessions_leased WHERE lease IS NOT NULL AND agent_group_id = :group
UNION ALL SELECT id FROM sessions INDEXED BY sessions_due WHERE due_at IS NOT NULL AND agent_group_id = :group
"""
WIRINGS = "SELECT id FROM wirings WHERE agent_group_id = ?"
OPEN_TASKS = """
SELECT t.id FROM tasks t INDEXED BY tasks_open JOIN sessions s ON s.id = t.session_id
WHERE t.status IN ('active', 'paused') AND +s.agent_group_id = ?
"""
CLOSE_QUESTIONS = """
UPDATE questions INDEXED BY questions_open SET status = 'closed'
WHERE status = 'open' AND session_id IN (
    SELECT s.id FROM sessions s WHERE s.id = questions.session_id AND +s.agent_group_id = ?)
"""
DELETE_ROLES = "DELETE FROM roles WHERE agent_group_id = ?"
DELETE_RULES = "DELETE FROM rules WHERE agent_group_id = ?"
DELETE_HOLD = "DELETE FROM holds WHERE agent_group_id = ?"
DELETE_DESTINATIONS = "DELETE FROM destinations WHERE agent_group_id = ?"


async def list_all(db: Queries) -> list[AgentGroup]:
    return [from_row(AgentGroup, row) for row in await db.fetch_all(ALL)]


async def list_folders(db: Queries) -> dict[AgentGroupId, str]:
    """Returns the folder of each agent group, also of deleted ones."""
    return {AgentGroupId(row["id"]): row["folder"] for row in await db.fetch_all(ALL_FOLDERS)}


async def get(db: Queries, group: AgentGroupId) -> AgentGroup:
    row = await db.fetch_one(BY_ID, (group,))
    assert row is not None, f"agent group {group} is referred to and not there"
    return from_row(AgentGroup, row)


async def find(db: Queries, folder: str) -> AgentGroup | None:
    row = await db.fetch_one(BY_FOLDER, (folder,))
    return None if row is None else from_row(AgentGroup, row)


async def add(
    tx: Transaction, *, folder: str, name: str, provider: str | None, model: str | None, now: datetime
) -> AgentGroup:
    """Add an agent group, or restore a deleted one with its conversations. Raises sqlite3.IntegrityError if the folder
    is taken."""
    row = await tx.fetch_one(UNDELETE, (name, provider, model, folder))
    if row is None:
        row = await tx.fetch_one(ADD, (folder, name, provider, model, to_text(now)))
    assert row is not None
    return from_row(AgentGroup, row)


async def set_model(tx: Transaction, group: AgentGroupId, model: str | None) -> None:
    """Set the model that its agents use from their next start on. None: the host's default."""
    await tx.execute(SET_MODEL, (model, group))


async def update(tx: Transaction, group: AgentGroup) -> None:
    """Update its name, provider and model."""
    await tx.execute(UPDATE, (group.name, group.provider, group.model, group.id))


async def list_active_sessions(db: Queries, group: AgentGroupId) -> list[SessionId]:
    """Returns its sessions that have a container or work."""
    return [SessionId(row["id"]) for row in await db.fetch_all(ACTIVE_SESSIONS, {"group": group})]


async def list_wiring_ids(db: Queries, group: AgentGroupId) -> list[WiringId]:
    """Returns the ids of its wirings."""
    return [WiringId(row["id"]) for row in await db.fetch_all(WIRINGS, (group,))]


async def list_open_task_ids(db: Queries, group: AgentGroupId) -> list[TaskId]:
    """Returns the tasks that would wake one of its sessions."""
    return [TaskId(row["id"]) for row in await db.fetch_all(OPEN_TASKS, (group,))]


async def delete(tx: Transaction, group: AgentGroupId, now: datetime) -> None:
    """Mark it as deleted, delete its roles, rules, destinations and hold, and close its questions. The caller deletes
    its wirings, and ends its tasks and waiting items."""
    for statement in (CLOSE_QUESTIONS, DELETE_ROLES, DELETE_RULES, DELETE_HOLD, DELETE_DESTINATIONS):
        await tx.execute(statement, (group,))
    await tx.execute(DELETE, (to_text(now), group))
