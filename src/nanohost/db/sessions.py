"""Stores sessions: their conversation, how far their files are processed, and which container may be alive."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.rows import from_row
from nanohost.model import AgentGroupId, LeaseId, MessagingGroupId, Session, SessionId
from nanohost_protocol.ids import random_id
from nanohost_protocol.rows import ChatId
from nanohost_protocol.times import from_text, to_text

PAGE_SIZE = 500

COLUMNS = """s.*, g.folder AS group_folder,
    EXISTS (SELECT 1 FROM turn_failures f WHERE f.session_id = s.id) AS has_turn_failures"""
_SELECT = f"SELECT {COLUMNS} FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id"  # noqa: S608
AFTER = _SELECT + " WHERE s.id > ? ORDER BY s.id LIMIT ?"
LATEST = _SELECT + " ORDER BY s.last_active_at DESC, s.id LIMIT ?"
BY_ID = _SELECT + " WHERE s.id = ?"
BY_KEY = _SELECT + (
    " WHERE s.agent_group_id = ? AND ifnull(s.messaging_group_id, 0) = ifnull(?, 0)"
    " AND ifnull(s.thread_id, '') = ifnull(?, '')"
)
DUE = _SELECT + (  # noqa: S608
    " WHERE s.due_at IS NOT NULL AND s.due_at <= ? AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.session_id = s.id)"
    " AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.agent_group_id = s.agent_group_id) ORDER BY s.due_at"
)
DUE_AND_HELD = """
SELECT s.id FROM sessions s INDEXED BY sessions_due WHERE s.due_at IS NOT NULL AND s.due_at <= ? AND (
    EXISTS (SELECT 1 FROM holds h WHERE h.session_id = s.id)
    OR EXISTS (SELECT 1 FROM holds h WHERE h.agent_group_id = s.agent_group_id))
"""
DUE_LATER = _SELECT + " WHERE s.due_at > ? ORDER BY s.due_at"
NEXT_DUE = "SELECT min(due_at) AS due_at FROM sessions WHERE due_at IS NOT NULL AND due_at > ?"
LEASED = f"""
SELECT {COLUMNS} FROM sessions s INDEXED BY sessions_leased
JOIN agent_groups g ON g.id = s.agent_group_id WHERE s.lease IS NOT NULL
"""  # noqa: S608
BY_PREFIX = _SELECT + (
    " WHERE s.id >= :start AND s.id < :start || char(1114111) AND substr(s.id, 1, length(:start)) = :start"
    " ORDER BY s.id LIMIT 100"
)
SOME_OF_AGENT_GROUP = _SELECT + " WHERE s.agent_group_id = ? LIMIT ?"
# A person who can use the terminal's socket owns the files, and counts as an owner there.
LATEST_OF_OWNERS = f"""
SELECT {COLUMNS} FROM routes r
JOIN inbound_events e ON e.id = r.event_id JOIN sessions s ON s.id = r.session_id
JOIN agent_groups g ON g.id = s.agent_group_id
WHERE s.agent_group_id = ? AND r.trigger = 1 AND e.event_kind = 'message' AND (
    e.channel_type = 'terminal' OR e.channel_type || ':' || e.sender_handle IN (
        SELECT user_id FROM roles WHERE role = 'owner'
        UNION SELECT o.user_id FROM roles r JOIN users u ON u.user_id = r.user_id JOIN users o ON o.person = u.person
        WHERE r.role = 'owner'))
ORDER BY r.event_id DESC LIMIT 1
"""  # noqa: S608
BY_IDS = _SELECT + " WHERE s.id IN (SELECT value FROM json_each(:ids)) ORDER BY s.id LIMIT 1000"  # noqa: S608
# A subquery: the ids of a chat's sessions, including the session that an agent shares between all its chats.
IN_CHAT = """(
    SELECT id FROM sessions WHERE messaging_group_id = :chat UNION
    SELECT a.id FROM sessions a JOIN wirings w ON w.agent_group_id = a.agent_group_id
    WHERE a.messaging_group_id IS NULL AND w.messaging_group_id = :chat AND w.session_mode = 'agent-shared')"""
# The latest active first.
OF_CHAT = _SELECT + (
    f" WHERE s.id IN {IN_CHAT}"
    " AND (:group IS NULL OR s.agent_group_id = :group) ORDER BY s.last_active_at DESC, s.id LIMIT :limit"
)
ONE_OF_CHAT = _SELECT + " WHERE s.messaging_group_id = ? LIMIT 1"
# An agent group may have one session for each thread there ever was, so the query starts from the chat's open items.
WITH_OPEN_ITEMS_IN_CHAT = _SELECT + (  # noqa: S608
    " WHERE +s.agent_group_id = :group AND s.id IN ("
    " SELECT session_id FROM deliveries INDEXED BY deliveries_open WHERE status IN ('pending', 'sending')"
    " AND channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id"
    " UNION ALL SELECT session_id FROM questions INDEXED BY questions_open WHERE status = 'open'"
    " AND channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id"
    " UNION ALL SELECT session_id FROM tasks INDEXED BY tasks_open WHERE status IN ('active', 'paused')"
    " AND channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id)"
)
ADD = """
INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at, last_active_at)
VALUES (?, ?, ?, ?, ?, ?)
"""
MAKE_DUE = """
UPDATE sessions SET due_at = CASE WHEN :at <= :now THEN :at ELSE min(ifnull(due_at, :at), :at) END,
    last_active_at = :now
WHERE id = :id RETURNING ack_cursor
"""
REPLACE_DUE = "UPDATE sessions SET due_at = :due WHERE id = :id AND due_at IS :seen"
ADVANCE_OUT_CURSOR = """
UPDATE sessions SET out_cursor = max(out_cursor, ?), last_active_at = ? WHERE id = ? AND out_cursor = ?
"""
ADVANCE_ACK_CURSOR = """
UPDATE sessions SET ack_cursor = max(ack_cursor, :ack_cursor), due_at = iif(due_at IS :seen_due, :due, due_at)
WHERE id = :id AND ack_cursor = :seen
    AND (:has_failures OR NOT EXISTS (SELECT 1 FROM turn_failures WHERE session_id = :id))
"""
SET_LEASE = "UPDATE sessions SET lease = ?, runtime = ?, runtime_state = '{}' WHERE id = ?"
SET_RUNTIME_STATE = "UPDATE sessions SET runtime_state = ? WHERE id = ? AND lease = ?"
RELEASE_LEASE = "UPDATE sessions SET lease = NULL, runtime = NULL, runtime_state = '{}' WHERE id = ? AND lease = ?"


async def iter_all(db: ReportReader) -> AsyncIterator[Session]:
    """Yields all sessions by id. Reads one page at a time, since they may be many; a session that is created meanwhile
    may be missed."""
    last = ""
    while rows := await db.fetch_all(AFTER, (last, PAGE_SIZE)):
        for row in rows:
            yield session_from_row(row)
        last = rows[-1]["id"]


async def latest(db: ReportReader, *, limit: int) -> list[Session]:
    """Returns the most recently active sessions, latest first."""
    return [session_from_row(row) for row in await db.fetch_all(LATEST, (limit,))]


async def find(db: Queries, session: SessionId) -> Session | None:
    row = await db.fetch_one(BY_ID, (session,))
    return None if row is None else session_from_row(row)


async def get(db: Queries, session: SessionId) -> Session:
    found = await find(db, session)
    assert found is not None, f"session {session} is referred to and not there"
    return found


async def find_by_key(
    db: Queries, *, agent_group: AgentGroupId, messaging_group: MessagingGroupId | None, thread_id: str | None
) -> Session | None:
    row = await db.fetch_one(BY_KEY, (agent_group, messaging_group, thread_id))
    return None if row is None else session_from_row(row)


async def list_due(db: Queries, now: datetime) -> list[Session]:
    """Returns the sessions with due work that are not held, longest waiting first."""
    return [session_from_row(row) for row in await db.fetch_all(DUE, (to_text(now),))]


async def list_due_and_held(db: Queries, now: datetime) -> list[SessionId]:
    """Returns the sessions with due work that are held, or whose agent groups are."""
    return [SessionId(row["id"]) for row in await db.fetch_all(DUE_AND_HELD, (to_text(now),))]


async def list_due_later(db: Queries, now: datetime) -> list[Session]:
    """Returns the sessions whose work is due later."""
    return [session_from_row(row) for row in await db.fetch_all(DUE_LATER, (to_text(now),))]


async def next_due(db: Queries, now: datetime) -> datetime | None:
    """Returns when the next session becomes due that is not due by `now`; None if there is none."""
    row = await db.fetch_one(NEXT_DUE, (to_text(now),))
    return from_text(row["due_at"]) if row and row["due_at"] else None


async def list_leased(db: Queries) -> list[Session]:
    """Returns the sessions whose container may be alive."""
    return sorted((session_from_row(row) for row in await db.fetch_all(LEASED)), key=lambda session: session.id)


async def find_by_prefix(db: Queries, prefix: str) -> list[Session]:
    """Returns the first hundred sessions whose ids start with `prefix`."""
    return [session_from_row(row) for row in await db.fetch_all(BY_PREFIX, {"start": prefix})]


async def list_for_agent_group(db: Queries, agent_group: AgentGroupId, *, limit: int) -> list[Session]:
    """Returns at most `limit` sessions of one agent group, in all its chats."""
    return [session_from_row(row) for row in await db.fetch_all(SOME_OF_AGENT_GROUP, (agent_group, limit))]


async def find_by_ids(db: ReportReader, ids: Sequence[str]) -> dict[str, Session]:
    """Returns the existing sessions of these ids, by id; at most a thousand."""
    return {row["id"]: session_from_row(row) for row in await db.fetch_all(BY_IDS, {"ids": json.dumps(list(ids))})}


async def list_for_chat(
    db: ReportReader, chat: MessagingGroupId, *, agent_group: AgentGroupId | None = None, limit: int
) -> list[Session]:
    """Returns the sessions of a chat, of all its agents or of one, latest active first. A session that an agent shares
    between its chats belongs to each of them."""
    values: dict[str, Value] = {"chat": chat, "group": agent_group, "limit": limit}
    return [session_from_row(row) for row in await db.fetch_all(OF_CHAT, values)]


async def find_latest_of_owners(db: ReportReader, agent_group: AgentGroupId) -> Session | None:
    """Returns the agent group's session in which an owner wrote last; None if none is recorded."""
    row = await db.fetch_one(LATEST_OF_OWNERS, (agent_group,))
    return None if row is None else session_from_row(row)


async def find_one_for_chat(db: Queries, chat: MessagingGroupId) -> Session | None:
    """Returns one session of a chat; None if it has none."""
    row = await db.fetch_one(ONE_OF_CHAT, (chat,))
    return None if row is None else session_from_row(row)


async def list_with_open_items(db: Queries, agent_group: AgentGroupId, chat: ChatId) -> list[Session]:
    """Returns the agent group's sessions with an open delivery, question or task in this chat."""
    values: dict[str, Value] = {
        "group": agent_group,
        "channel_type": chat.channel_type,
        "instance": chat.instance,
        "platform_id": chat.platform_id,
    }
    return [session_from_row(row) for row in await db.fetch_all(WITH_OPEN_ITEMS_IN_CHAT, values)]


async def add(
    tx: Transaction,
    *,
    agent_group: AgentGroupId,
    messaging_group: MessagingGroupId | None,
    thread_id: str | None,
    now: datetime,
) -> SessionId:
    session = SessionId(random_id("s"))
    await tx.execute(ADD, (session, agent_group, messaging_group, thread_id, to_text(now), to_text(now)))
    return session


async def make_due(tx: Transaction, session: SessionId, *, at: datetime, now: datetime) -> int | None:
    """Record that there is work from `at` on. Work that is due now always changes due_at, so that `replace_due` fails.
    Returns the session's ack cursor; None if there is no such session."""
    row = await tx.fetch_one(MAKE_DUE, {"at": to_text(at), "now": to_text(now), "id": session})
    return None if row is None else row["ack_cursor"]


async def replace_due(tx: Transaction, session: SessionId, *, expected: datetime | None, due: datetime | None) -> bool:
    """Set when the session next has work, if due_at is still `expected`. Returns False if it is not."""
    values = {
        "id": session,
        "seen": None if expected is None else to_text(expected),
        "due": None if due is None else to_text(due),
    }
    return await tx.execute(REPLACE_DUE, values) == 1


async def advance_out_cursor(tx: Transaction, session: SessionId, *, expected: int, cursor: int, now: datetime) -> bool:
    """Record that outbound rows up to `cursor` are in the ledger. Never decreases. Returns False and changes nothing if
    the cursor is not `expected` any more, because somebody else has collected rows since."""
    return await tx.execute(ADVANCE_OUT_CURSOR, (cursor, to_text(now), session, expected)) == 1


async def advance_ack_cursor(
    tx: Transaction, expected: Session, *, cursor: int, due: datetime | None, has_failures: bool
) -> bool:
    """Record that acks up to `cursor` are processed, and set due_at to `due` if it has not changed since `expected` was
    read. Never decreases. Returns False and changes nothing if the cursor has changed since then, or if turn failures
    are recorded and `has_failures` is False."""
    values: dict[str, Value] = {
        "id": expected.id,
        "seen": expected.ack_cursor,
        "ack_cursor": cursor,
        "seen_due": None if expected.due_at is None else to_text(expected.due_at),
        "due": None if due is None else to_text(due),
        "has_failures": has_failures,
    }
    return await tx.execute(ADVANCE_ACK_CURSOR, values) == 1


async def set_lease(tx: Transaction, session: SessionId, lease: LeaseId, runtime: str) -> None:
    """Record that this container may be alive from now on. Committed before the container starts."""
    await tx.execute(SET_LEASE, (lease, runtime, session))


async def set_runtime_state(tx: Transaction, session: SessionId, lease: LeaseId, state: Mapping[str, str]) -> None:
    await tx.execute(SET_RUNTIME_STATE, (json.dumps(dict(state)), session, lease))


async def release_lease(tx: Transaction, session: SessionId, lease: LeaseId) -> bool:
    """Record that the container is gone. Returns False if the session has another one by now."""
    return await tx.execute(RELEASE_LEASE, (session, lease)) == 1


def session_from_row(row: sqlite3.Row) -> Session:
    """Of a row with COLUMNS."""
    return from_row(Session, row, runtime_state=json.loads(row["runtime_state"]))
