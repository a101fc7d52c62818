"""Stores roles: what a user (`<channel>:<handle>`) may do, everywhere or in one agent group."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, Transaction
from nanohost.db.rows import from_row
from nanohost.model import AgentGroupId, Role
from nanohost_protocol.times import to_text

ALL = "SELECT * FROM roles ORDER BY user_id, role"
DECIDERS = "SELECT * FROM roles WHERE role IN ('owner', 'admin') ORDER BY user_id, role"
# A role of one identity counts for all identities of the person.
OF_USER = """
SELECT * FROM roles WHERE user_id = :user OR user_id IN (
    SELECT user_id FROM users WHERE person = (SELECT person FROM users WHERE user_id = :user))
"""
ADD = """
INSERT INTO roles (user_id, role, agent_group_id, granted_at) VALUES (?, ?, ?, ?)
ON CONFLICT (user_id, role, ifnull(agent_group_id, 0)) DO NOTHING
"""
REMOVE_ALL = "DELETE FROM roles WHERE user_id = ?"
REMOVE = "DELETE FROM roles WHERE user_id = ? AND role = ? AND agent_group_id IS ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleGrant:
    """One role of one user; `agent_group_id` None means everywhere."""

    user_id: str
    role: Role
    agent_group_id: AgentGroupId | None
    granted_at: datetime


async def list_all(db: Queries) -> list[RoleGrant]:
    return [from_row(RoleGrant, row) for row in await db.fetch_all(ALL)]


async def list_deciders(db: Queries) -> list[RoleGrant]:
    """Returns the roles of owners and admins, without those of members, of whom there may be thousands."""
    return [from_row(RoleGrant, row) for row in await db.fetch_all(DECIDERS)]


async def list_for_user(db: Queries, user_id: str) -> list[RoleGrant]:
    """Returns all roles of the user, including those of linked identities."""
    return [from_row(RoleGrant, row) for row in await db.fetch_all(OF_USER, {"user": user_id})]


async def grant(tx: Transaction, *, user_id: str, role: Role, agent_group: AgentGroupId | None, now: datetime) -> bool:
    """Grant a role. Returns False if the user has it already. Raises sqlite3.IntegrityError for an owner of one agent
    group only."""
    return await tx.execute(ADD, (user_id, role, agent_group, to_text(now))) == 1


async def revoke(tx: Transaction, *, user_id: str, role: Role, agent_group: AgentGroupId | None) -> bool:
    """Revoke a role. Returns False if the user did not have it."""
    return await tx.execute(REMOVE, (user_id, role, agent_group)) == 1


async def revoke_all(tx: Transaction, user_id: str) -> int:
    """Revoke all roles of this identity. Returns how many."""
    return await tx.execute(REMOVE_ALL, (user_id,))
