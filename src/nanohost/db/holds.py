"""Stores holds. While a session or its agent group is held, no container is started for it, none of its requests is
carried out, and messages to it wait.

A hold is checked in the transaction that starts a container or carries out a request, so it takes effect with its
commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.db.domain_events import HoldChanged
from nanohost.db.rows import from_row
from nanohost.model import AgentGroupId, SessionId
from nanohost_protocol.rows import ChatId
from nanohost_protocol.times import to_text

HOST_ACTOR = "host"
OF_SESSION = """
SELECT rowid, * FROM holds WHERE session_id = :session
UNION ALL
SELECT h.rowid, h.* FROM sessions s JOIN holds h ON h.agent_group_id = s.agent_group_id WHERE s.id = :session
LIMIT 1
"""
ADD = """
INSERT INTO holds (session_id, agent_group_id, created_by, created_at, reason) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
RELEASE_SESSION = "DELETE FROM holds WHERE session_id = ?"
RELEASE_GROUP = "DELETE FROM holds WHERE agent_group_id = ?"
# Only sessions with a container, work or a request: an agent group may have one session for each thread there ever was.
AFFECTED_SESSIONS = """
SELECT id FROM sessions INDEXED BY sessions_leased WHERE lease IS NOT NULL AND agent_group_id = :group
UNION ALL SELECT id FROM sessions INDEXED BY sessions_due WHERE due_at IS NOT NULL AND agent_group_id = :group
UNION ALL SELECT s.id FROM (
    SELECT DISTINCT session_id FROM actions INDEXED BY actions_open
    WHERE status != 'held' AND (status = 'pending' OR notified = 0)) a
CROSS JOIN sessions s ON s.id = a.session_id WHERE s.agent_group_id = :group
"""
IS_GROUP_HELD = """
SELECT 1 FROM sessions s JOIN holds h ON h.agent_group_id = s.agent_group_id WHERE s.id = ?
"""
MARK_NOTIFIED = "UPDATE holds SET notified_chats = ? WHERE rowid = ? AND created_at = ?"
FOR_STATUS = """
SELECT coalesce(h.session_id, '') AS session, coalesce(g.folder, o.folder) AS agent_group, h.created_at AS since,
    h.created_by AS by, h.reason
FROM holds h LEFT JOIN agent_groups g ON g.id = h.agent_group_id
LEFT JOIN sessions s ON s.id = h.session_id LEFT JOIN agent_groups o ON o.id = s.agent_group_id
ORDER BY h.created_at LIMIT 20
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold. `reason`: for the operator. `is_group_hold`: whether it is of the agent group, and not of the session
    itself. `notified_chats`: chats that were notified of it. `id`: its row."""

    id: int
    created_by: str
    created_at: datetime
    reason: str
    is_group_hold: bool
    notified_chats: frozenset[ChatId]


async def find(db: Queries, session: SessionId) -> Hold | None:
    """Returns the session's own hold, or that of its agent group; None if it is not held."""
    row = await db.fetch_one(OF_SESSION, {"session": session})
    return None if row is None else _from_row(row)


async def hold_session(tx: Transaction, session: SessionId, *, by: str, at: datetime, reason: str) -> bool:
    """Hold a session. Returns False if it is held already. Emits HoldChanged."""
    tx.emit(HoldChanged(session))
    return await tx.execute(ADD, (session, None, by, to_text(at), reason)) == 1


async def hold_group(tx: Transaction, group: AgentGroupId, *, by: str, at: datetime, reason: str) -> bool:
    """Hold all sessions of an agent group, also future ones. Returns False if it is held already. Emits HoldChanged."""
    await _emit_hold_changed(tx, group)
    return await tx.execute(ADD, (None, group, by, to_text(at), reason)) == 1


async def release_session(tx: Transaction, session: SessionId) -> bool:
    """Release a session's own hold. Returns False if it had none. Emits HoldChanged."""
    tx.emit(HoldChanged(session))
    return await tx.execute(RELEASE_SESSION, (session,)) == 1


async def release_group(tx: Transaction, group: AgentGroupId) -> bool:
    """Release an agent group's hold; holds of single sessions stay. Returns False if it was not held. Emits HoldChanged
    for the affected sessions."""
    await _emit_hold_changed(tx, group)
    return await tx.execute(RELEASE_GROUP, (group,)) == 1


async def is_group_held(db: Queries, session: SessionId) -> bool:
    """Whether the session's agent group is held."""
    return await db.fetch_one(IS_GROUP_HELD, (session,)) is not None


async def list_affected_sessions(db: Queries, group: AgentGroupId) -> list[SessionId]:
    """Returns the sessions that a hold on this agent group affects now: those with a container, work or a request."""
    return list(dict.fromkeys(SessionId(row["id"]) for row in await db.fetch_all(AFFECTED_SESSIONS, {"group": group})))


async def _emit_hold_changed(tx: Transaction, group: AgentGroupId) -> None:
    tx.emit(*(HoldChanged(session) for session in await list_affected_sessions(tx, group)))


async def mark_notified(tx: Transaction, hold: Hold, chats: Collection[ChatId]) -> None:
    """Record that these chats were notified of the hold."""
    notified = sorted([chat.channel_type, chat.instance, chat.platform_id] for chat in hold.notified_chats | set(chats))
    await tx.execute(MARK_NOTIFIED, (json.dumps(notified), hold.id, to_text(hold.created_at)))


async def list_for_status(reports: ReportReader) -> list[dict[str, str | int | None]]:
    """Returns at most twenty holds for the status, oldest first. `session` is empty for an agent group's hold."""
    return [dict(row) for row in await reports.fetch_all(FOR_STATUS)]


def _from_row(row: sqlite3.Row) -> Hold:
    return from_row(
        Hold,
        row,
        id=row["rowid"],
        is_group_hold=row["agent_group_id"] is not None,
        notified_chats=frozenset(ChatId(*chat) for chat in json.loads(row["notified_chats"])),
    )
