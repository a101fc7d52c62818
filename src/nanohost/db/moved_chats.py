"""Stores which chats have a new id, and moves everything that belongs to such a chat."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from nanohost.db.audit import chat_target
from nanohost.db.database import Queries, Transaction, Value
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.db.domain_events import QueueHasWork
from nanohost.db.events import ChatKey
from nanohost.model import HOST_SESSION_ID, AgentGroupId, SessionId
from nanohost_protocol.actions import ActionName
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text

MOVED_TO = "SELECT moved_to FROM moved_chats WHERE channel_type = ? AND instance = ? AND platform_id = ?"
# The join goes from the list to the index: one look-up for each chat.
ALL_MOVED_TO = """
SELECT m.* FROM json_each(?) c CROSS JOIN moved_chats m ON m.channel_type = json_extract(c.value, '$[0]')
    AND m.instance = json_extract(c.value, '$[1]') AND m.platform_id = json_extract(c.value, '$[2]')
"""
ADD = """
INSERT INTO moved_chats (channel_type, instance, platform_id, moved_to, moved_at)
VALUES (:channel_type, :instance, :old, :new, :now)
ON CONFLICT (channel_type, instance, platform_id) DO UPDATE SET moved_to = excluded.moved_to
    WHERE moved_to != excluded.moved_to
"""
# A chat that had moved to the old chat has also moved to the new one.
UPDATE_CHAIN = """
UPDATE moved_chats SET moved_to = :new
WHERE channel_type = :channel_type AND instance = :instance AND moved_to = :old
"""
OF_CHAT = "SELECT id FROM messaging_groups WHERE channel_type = ? AND instance = ? AND platform_id = ?"
IS_USED = """
SELECT EXISTS (SELECT 1 FROM wirings WHERE messaging_group_id = :id)
    OR EXISTS (SELECT 1 FROM sessions WHERE messaging_group_id = :id) AS used
"""
RENAME = "UPDATE messaging_groups SET platform_id = ? WHERE id = ?"
DELETE = "DELETE FROM messaging_groups WHERE id = ?"
# If both chats have a wiring of an agent, or a session of an agent and thread, the new chat keeps its own.
WIRINGS = "UPDATE OR IGNORE wirings SET messaging_group_id = ? WHERE messaging_group_id = ?"
SESSIONS = "UPDATE OR IGNORE sessions SET messaging_group_id = ? WHERE messaging_group_id = ?"
DESTINATIONS = "UPDATE destinations SET messaging_group_id = ? WHERE messaging_group_id = ?"
AGENTS_WIRED = "SELECT agent_group_id AS agent FROM wirings WHERE messaging_group_id = ?"
# A container that starts later is given the new id then.
AGENTS_TALKING = """
SELECT agent_group_id AS agent FROM sessions INDEXED BY sessions_leased
WHERE lease IS NOT NULL AND messaging_group_id = ?
"""
AGENTS_SENDING = "SELECT agent_group_id AS agent FROM destinations WHERE messaging_group_id = ?"
# The message that a delivery answers is not known in the new chat, and its id may belong to another message there.
DELIVERIES = """
UPDATE deliveries INDEXED BY deliveries_open SET platform_id = :new, reply_to = NULL, next_attempt_at = NULL
WHERE status IN ('pending', 'sending') AND channel_type = :channel_type AND instance = :instance AND platform_id = :old
"""
QUEUES = """
SELECT DISTINCT session_id FROM deliveries INDEXED BY deliveries_open
WHERE status IN ('pending', 'sending') AND channel_type = ? AND instance = ? AND platform_id = ?
"""
TASKS = """
UPDATE tasks SET platform_id = :new
WHERE status IN ('active', 'paused') AND channel_type = :channel_type AND instance = :instance AND platform_id = :old
"""
# The second condition is that of the index.
REQUESTS = """
UPDATE actions INDEXED BY actions_open SET platform_id = :new
WHERE status = 'pending' AND status != 'held' AND (status = 'pending' OR notified = 0)
    AND channel_type = :channel_type AND instance = :instance AND platform_id = :old
"""
HELD_REQUESTS = """
UPDATE actions SET platform_id = :new
WHERE approval_id IN (SELECT id FROM approvals WHERE status = 'pending') AND status = 'held'
    AND channel_type = :channel_type AND instance = :instance AND platform_id = :old
"""
QUESTIONS = """
UPDATE questions SET platform_id = :new
WHERE status = 'open' AND channel_type = :channel_type AND instance = :instance AND platform_id = :old
"""
APPROVALS = """
UPDATE approvals SET platform_id = :new
WHERE status = 'pending' AND channel_type = :channel_type AND instance = :instance AND platform_id = :old
"""
# If both chats have an open approval, both stay: the decision of one also settles the other.
APPROVALS_ABOUT = "UPDATE OR IGNORE approvals SET subject = :new_name WHERE status = 'pending' AND subject = :old_name"
# The kinds of rules whose subject is a chat.
RULES = """
UPDATE rules SET subject = :new_name
WHERE ended_at IS NULL AND kind IN ('chat', :a_destination) AND subject = :old_name
"""
PAUSED = """
UPDATE paused SET platform_id = :new WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :old
"""
AGENT_QUERIES = (AGENTS_WIRED, AGENTS_TALKING, AGENTS_SENDING)
MOVED_TABLES = {
    "deliveries": DELIVERIES,
    "tasks": TASKS,
    "requests": REQUESTS,
    "held requests": HELD_REQUESTS,
    "questions": QUESTIONS,
    "approvals": APPROVALS,
    "pauses": PAUSED,
}
"""The statements that move open items, by their name in the audit log."""


async def current_chat(db: Queries, chat: ChatKey) -> ChatKey:
    """Returns the current key of a chat. One look-up."""
    row = await db.fetch_one(MOVED_TO, (chat.channel_type, chat.instance, chat.platform_id))
    return chat if row is None else ChatKey(chat.channel_type, chat.instance, row["moved_to"])


async def current_of(db: Queries, chats: Iterable[ChatKey]) -> dict[ChatKey, ChatKey]:
    """Returns the current key of each of these chats. One query for all of them."""
    current = {chat: chat for chat in chats}
    if current:
        keys = json.dumps([[chat.channel_type, chat.instance, chat.platform_id] for chat in current])
        for row in await db.fetch_all(ALL_MOVED_TO, (keys,)):
            old = ChatKey(row["channel_type"], row["instance"], row["platform_id"])
            current[old] = replace(old, platform_id=row["moved_to"])
    return current


async def current_origin(db: Queries, origin: Origin) -> Origin:
    """Returns an origin with the current id of its chat. If the chat has moved, the origin names no message."""
    return moved_origin(
        origin, await current_chat(db, ChatKey(origin.channel_type, origin.instance, origin.platform_id))
    )


def moved_origin(place: Origin, now: ChatKey) -> Origin:
    """The place, for its chat that is called so now. The message that it names is not known there, if it has moved."""
    if now.platform_id == place.platform_id:
        return place
    return replace(place, platform_id=now.platform_id, platform_message_id=None)


async def record_move(tx: Transaction, old: ChatKey, new: ChatKey, now: datetime) -> bool:
    """Record the chat's new id. Returns False if it is recorded already."""
    values: dict[str, Value] = _values(old, new) | {"now": to_text(now)}
    await tx.execute(UPDATE_CHAIN, values)
    return await tx.execute(ADD, values) == 1


async def move_group(tx: Transaction, old: ChatKey, new: ChatKey) -> list[AgentGroupId] | None:
    """Move the messaging group, its wirings, sessions and destinations. Returns the agents that may send there now;
    None if the old chat is not known.

    If the new chat is set up already, it keeps what it has, and the rest is added to it.
    """
    before, after = await _find_group(tx, old), await _find_group(tx, new)
    if before is None:
        return None
    if after is not None and await _is_used(tx, after):
        for statement in (WIRINGS, SESSIONS, DESTINATIONS):
            await tx.execute(statement, (after, before))
        if not await _is_used(tx, before):
            await tx.execute(DELETE, (before,))
        return await _list_agent_groups(tx, after)
    if after is not None:
        await tx.execute(DESTINATIONS, (before, after))
        await tx.execute(DELETE, (after,))
    await tx.execute(RENAME, (new.platform_id, before))
    return await _list_agent_groups(tx, before)


async def _list_agent_groups(db: Queries, group: int) -> list[AgentGroupId]:
    agents = [row["agent"] for query in AGENT_QUERIES for row in await db.fetch_all(query, (group,))]
    return [AgentGroupId(agent) for agent in dict.fromkeys(agents)]


async def move_pending(tx: Transaction, old: ChatKey, new: ChatKey) -> dict[str, int]:
    """Move the open items of the chat: deliveries, tasks, requests, questions, approvals, rules. Returns the counts."""
    ids, names = _values(old, new), {"old_name": chat_target(old), "new_name": chat_target(new)}
    rules = {**names, "a_destination": ActionName.DESTINATIONS_ADD.value}
    moved = {what: await tx.execute(statement, ids) for what, statement in MOVED_TABLES.items()}
    moved["approvals about it"] = await tx.execute(APPROVALS_ABOUT, names)
    moved["rules"] = await tx.execute(RULES, rules)
    return {what: count for what, count in moved.items() if count}


async def emit_queues(tx: Transaction, chat: ChatKey) -> None:
    """Emit QueueHasWork for the queues with open messages to a chat; for the host's, both queues."""
    place = (chat.channel_type, chat.instance, chat.platform_id)
    found = [DeliveryQueueKey(SessionId(row["session_id"]), *place) for row in await tx.fetch_all(QUEUES, place)]
    tx.emit(*(QueueHasWork(queue) for queue in found))
    tx.emit(
        *(QueueHasWork(replace(queue, is_card_queue=True)) for queue in found if queue.session_id == HOST_SESSION_ID)
    )


async def _find_group(db: Queries, chat: ChatKey) -> int | None:
    row = await db.fetch_one(OF_CHAT, (chat.channel_type, chat.instance, chat.platform_id))
    return None if row is None else int(row["id"])


async def _is_used(db: Queries, group: int) -> bool:
    row = await db.fetch_one(IS_USED, {"id": group})
    return row is not None and bool(row["used"])


def _values(old: ChatKey, new: ChatKey) -> dict[str, Value]:
    return {
        "channel_type": old.channel_type,
        "instance": old.instance,
        "old": old.platform_id,
        "new": new.platform_id,
    }
