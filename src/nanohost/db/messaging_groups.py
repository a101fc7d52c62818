"""Stores messaging groups: one chat, room or DM on one platform each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, Transaction, Value
from nanohost.db.events import ChatKey
from nanohost.db.rows import from_row
from nanohost.model import AgentGroupId, MessagingGroup, MessagingGroupId, UnknownSender
from nanohost_protocol.times import to_text

ALL = "SELECT * FROM messaging_groups ORDER BY channel_type, instance, platform_id"
BY_ID = "SELECT * FROM messaging_groups WHERE id = ?"
# A moved chat is also found by its old id.
BY_CHAT = """
SELECT * FROM messaging_groups
WHERE channel_type = :channel_type AND instance = :instance AND platform_id = ifnull((
    SELECT moved_to FROM moved_chats
    WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id), :platform_id)
"""
# The session's own chat, or the one that it has moved into where somebody had set up that already; or the chats whose
# wirings put them into the agent's one shared session; and those that the agent has names for.
OF_SESSION = """
SELECT c.*, EXISTS (
    SELECT 1 FROM moved_chats o
    WHERE o.channel_type = c.channel_type AND o.instance = c.instance AND o.platform_id = c.platform_id) AS has_moved
FROM (
    SELECT NULL AS given_name, m.* FROM messaging_groups g
    LEFT JOIN moved_chats o
        ON o.channel_type = g.channel_type AND o.instance = g.instance AND o.platform_id = g.platform_id
    LEFT JOIN messaging_groups n
        ON n.channel_type = g.channel_type AND n.instance = g.instance AND n.platform_id = o.moved_to
    JOIN messaging_groups m ON m.id = ifnull(n.id, g.id)
    WHERE g.id = :chat
    UNION ALL
    SELECT NULL, m.* FROM wirings w JOIN messaging_groups m ON m.id = w.messaging_group_id
    WHERE :chat IS NULL AND w.agent_group_id = :group AND w.session_mode = 'agent-shared'
    UNION ALL
    SELECT d.name, m.* FROM destinations d JOIN messaging_groups m ON m.id = d.messaging_group_id
    WHERE d.agent_group_id = :group) c
"""
ADD = """
INSERT INTO messaging_groups (channel_type, instance, platform_id, is_group, name, unknown_sender, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *
"""
SET_UNKNOWN_SENDER = "UPDATE messaging_groups SET unknown_sender = ? WHERE id = ?"
UPDATE_FROM_PLATFORM = "UPDATE messaging_groups SET is_group = ?, name = ? WHERE id = ?"
DELETE = "DELETE FROM messaging_groups WHERE id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChat:
    """A chat that a session may send to. `given_name`: what its agent calls it; None: the session talks in it.
    `has_moved`: it has another id by now."""

    group: MessagingGroup
    given_name: str | None
    has_moved: bool


async def list_all(db: Queries) -> list[MessagingGroup]:
    return [from_row(MessagingGroup, row) for row in await db.fetch_all(ALL)]


async def get(db: Queries, group: MessagingGroupId) -> MessagingGroup:
    row = await db.fetch_one(BY_ID, (group,))
    assert row is not None, f"messaging group {group} is referred to and not there"
    return from_row(MessagingGroup, row)


async def find_by_id(db: Queries, group: MessagingGroupId) -> MessagingGroup | None:
    """Returns the messaging group with a number that somebody typed; None if there is none."""
    row = await db.fetch_one(BY_ID, (group,))
    return None if row is None else from_row(MessagingGroup, row)


async def find(db: Queries, *, channel_type: str, instance: str, platform_id: str) -> MessagingGroup | None:
    place: dict[str, Value] = {"channel_type": channel_type, "instance": instance, "platform_id": platform_id}
    row = await db.fetch_one(BY_CHAT, place)
    return None if row is None else from_row(MessagingGroup, row)


async def find_by_chat(db: Queries, chat: ChatKey) -> MessagingGroup | None:
    """Returns the messaging group of an event's chat."""
    return await find(db, channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id)


async def list_for_session(
    db: Queries, *, agent_group: AgentGroupId, messaging_group: MessagingGroupId | None
) -> list[SessionChat]:
    """Returns the chats where the session of this agent and chat may send; without a chat, the session that all chats
    of the agent share. Sorted by name, then by id."""
    rows = await db.fetch_all(OF_SESSION, {"chat": messaging_group, "group": agent_group})
    found = [from_row(SessionChat, row, group=from_row(MessagingGroup, row)) for row in rows]
    return sorted(found, key=lambda one: (one.given_name or "", one.group.id))


async def add(
    tx: Transaction,
    *,
    channel_type: str,
    instance: str,
    platform_id: str,
    is_group: bool,
    name: str,
    unknown_sender: UnknownSender,
    now: datetime,
) -> MessagingGroup:
    """Add a chat. Raises sqlite3.IntegrityError if it exists."""
    values = (channel_type, instance, platform_id, int(is_group), name, unknown_sender, to_text(now))
    row = await tx.fetch_one(ADD, values)
    assert row is not None
    return from_row(MessagingGroup, row)


async def set_unknown_sender(tx: Transaction, group: MessagingGroupId, policy: UnknownSender) -> None:
    await tx.execute(SET_UNKNOWN_SENDER, (policy, group))


async def update_from_platform(tx: Transaction, group: MessagingGroupId, *, is_group: bool, name: str) -> None:
    """Store what the platform reports of a chat that an operator wired by its id only."""
    await tx.execute(UPDATE_FROM_PLATFORM, (int(is_group), name, group))


async def delete(tx: Transaction, group: MessagingGroupId) -> bool:
    """Delete a chat. Returns False if it did not exist. Raises sqlite3.IntegrityError while a row refers to it."""
    return await tx.execute(DELETE, (group,)) == 1
