"""Stores messaging groups: one chat, room or DM on one platform each."""

from __future__ import annotations

from datetime import datetime

from nanohost.db.database import Queries, Transaction, Value
from nanohost.db.events import ChatKey
from nanohost.db.rows import from_row
from nanohost.model import MessagingGroup, MessagingGroupId, UnknownSender
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
AS_IT_IS_NOW = """
SELECT m.* FROM messaging_groups g
LEFT JOIN moved_chats o ON o.channel_type = g.channel_type AND o.instance = g.instance AND o.platform_id = g.platform_id
LEFT JOIN messaging_groups n ON n.channel_type = g.channel_type AND n.instance = g.instance
    AND n.platform_id = o.moved_to
JOIN messaging_groups m ON m.id = ifnull(n.id, g.id)
WHERE g.id = ?
"""
ADD = """
INSERT INTO messaging_groups (channel_type, instance, platform_id, is_group, name, unknown_sender, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *
"""
SET_UNKNOWN_SENDER = "UPDATE messaging_groups SET unknown_sender = ? WHERE id = ?"
UPDATE_FROM_PLATFORM = "UPDATE messaging_groups SET is_group = ?, name = ? WHERE id = ?"
DELETE = "DELETE FROM messaging_groups WHERE id = ?"
SHARED_SESSION_CHATS = """
SELECT m.* FROM messaging_groups m JOIN wirings w ON w.messaging_group_id = m.id
WHERE w.agent_group_id = ? AND w.session_mode = 'agent-shared' ORDER BY m.id
"""


async def list_all(db: Queries) -> list[MessagingGroup]:
    return [from_row(MessagingGroup, row) for row in await db.fetch_all(ALL)]


async def get(db: Queries, group: MessagingGroupId) -> MessagingGroup:
    row = await db.fetch_one(BY_ID, (group,))
    assert row is not None, f"messaging group {group} is referred to and not there"
    return from_row(MessagingGroup, row)


async def as_it_is_now(db: Queries, group: MessagingGroupId) -> MessagingGroup:
    """Returns the chat, or the chat to which it has moved if that was set up separately."""
    row = await db.fetch_one(AS_IT_IS_NOW, (group,))
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


async def list_sharing_session(db: Queries, agent_group: int) -> list[MessagingGroup]:
    """Returns the chats that share the agent's one session by their wirings."""
    return [from_row(MessagingGroup, row) for row in await db.fetch_all(SHARED_SESSION_CHATS, (agent_group,))]


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
