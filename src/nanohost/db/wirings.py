"""Stores wirings: which agent groups take part in which chats, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, Transaction
from nanohost.db.events import ChatKey
from nanohost.db.rows import from_row
from nanohost.model import (
    AgentGroupId,
    EngageMode,
    EventId,
    IgnoredMessagePolicy,
    MessagingGroup,
    MessagingGroupId,
    SenderScope,
    SessionMode,
    Wiring,
    WiringId,
)
from nanohost_protocol.times import from_text, to_text

ALL = "SELECT * FROM wirings ORDER BY messaging_group_id, priority, id"
OF_CHAT = "SELECT * FROM wirings WHERE messaging_group_id = ? ORDER BY priority, id"
BY_ID = "SELECT * FROM wirings WHERE id = ?"
ADD = """
INSERT INTO wirings
    (messaging_group_id, agent_group_id, engage_mode, engage_pattern, session_mode, priority, created_at,
     sender_scope, ignored, bots)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *
"""
UPDATE = """
UPDATE wirings SET engage_mode = ?, engage_pattern = ?, session_mode = ?, priority = ?, sender_scope = ?, ignored = ?,
    bots = ?
WHERE id = ?
"""
# One row a wiring. A chat that has moved is found by its old id, too.
WIRED_CHAT = """
SELECT w.*, m.channel_type, m.instance, m.platform_id, m.is_group, m.name, m.unknown_sender, m.id AS group_id,
    m.created_at AS group_created_at, (
        SELECT id FROM inbound_events
        WHERE status = 'new' AND channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id
        ORDER BY id LIMIT 1) AS first_new
FROM messaging_groups m JOIN wirings w ON w.messaging_group_id = m.id
WHERE m.channel_type = :channel_type AND m.instance = :instance AND m.platform_id = ifnull((
    SELECT moved_to FROM moved_chats
    WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id), :platform_id)
ORDER BY w.priority, w.id
"""
# Whether an agent listens in a chat to messages that do not mention the bot, or has an open question there.
LISTENERS = """
SELECT count(*) > 0 AS people, ifnull(max(w.bots), 0) AS bots, EXISTS (
    SELECT 1 FROM questions q WHERE q.status = 'open'
    AND q.channel_type = :channel_type AND q.instance = :instance AND q.platform_id = :platform_id) AS asked
FROM messaging_groups m JOIN wirings w ON w.messaging_group_id = m.id
WHERE m.channel_type = :channel_type AND m.instance = :instance AND m.platform_id = ifnull((
    SELECT moved_to FROM moved_chats
    WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id), :platform_id)
"""
DELETE_ROUTES = "DELETE FROM routes WHERE wiring_id = ?"
DELETE = "DELETE FROM wirings WHERE id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Whether an agent listens to people's messages in a chat, and to those of other bots."""

    can_hear_people: bool
    can_hear_bots: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WiredChat:
    """A chat with its wirings in the order they are evaluated, and its oldest event that is not routed, read at one
    moment."""

    group: MessagingGroup
    wirings: Sequence[Wiring]
    first_new: EventId | None


async def list_all(db: Queries) -> list[Wiring]:
    return [from_row(Wiring, row) for row in await db.fetch_all(ALL)]


async def list_for_chat(db: Queries, group: MessagingGroupId) -> list[Wiring]:
    """Returns the wirings of a chat, in the order of evaluation."""
    return [from_row(Wiring, row) for row in await db.fetch_all(OF_CHAT, (group,))]


async def find_wired_chat(db: Queries, chat: ChatKey) -> WiredChat | None:
    """The chat that an event came in. None: no agent is wired to it."""
    rows = await db.fetch_all(WIRED_CHAT, chat.columns)
    if not rows:
        return None
    first = rows[0]
    return WiredChat(
        group=from_row(MessagingGroup, first, id=first["group_id"], created_at=from_text(first["group_created_at"])),
        wirings=[from_row(Wiring, row) for row in rows],
        first_new=first["first_new"],
    )


async def find_listeners(db: Queries, chat: ChatKey) -> Listeners:
    """Returns whether agents listen to messages in this chat that do not mention the bot. One indexed look-up."""
    row = await db.fetch_one(LISTENERS, chat.columns)
    assert row is not None, "an aggregate has a row"
    return Listeners(can_hear_people=bool(row["people"]) or bool(row["asked"]), can_hear_bots=bool(row["bots"]))


async def find(db: Queries, wiring: WiringId) -> Wiring | None:
    row = await db.fetch_one(BY_ID, (wiring,))
    return None if row is None else from_row(Wiring, row)


async def add(
    tx: Transaction,
    *,
    messaging_group: MessagingGroupId,
    agent_group: AgentGroupId,
    engage_mode: EngageMode,
    engage_pattern: str,
    session_mode: SessionMode,
    priority: int,
    now: datetime,
    sender_scope: SenderScope = SenderScope.ALL,
    ignored: IgnoredMessagePolicy = IgnoredMessagePolicy.DROP,
    bots: bool = False,
) -> Wiring:
    """Add a wiring. Raises sqlite3.IntegrityError if the two are wired already."""
    axes = (engage_mode, engage_pattern, session_mode, priority, to_text(now), sender_scope, ignored, int(bots))
    values = (messaging_group, agent_group, *axes)
    row = await tx.fetch_one(ADD, values)
    assert row is not None
    return from_row(Wiring, row)


async def update(tx: Transaction, wiring: Wiring) -> None:
    """Update how an agent takes part, from the next event on."""
    engagement = (wiring.engage_mode, wiring.engage_pattern)
    rest = (wiring.session_mode, wiring.priority, wiring.sender_scope, wiring.ignored, int(wiring.bots))
    await tx.execute(UPDATE, (*engagement, *rest, wiring.id))


async def delete(tx: Transaction, wiring: WiringId) -> bool:
    """Delete a wiring and its routes. Returns False if it did not exist."""
    await tx.execute(DELETE_ROUTES, (wiring,))
    return await tx.execute(DELETE, (wiring,)) == 1
