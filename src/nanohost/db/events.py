"""Stores inbound events, once each, until routing has handled them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from nanohost.channel_api import Attachment, EventKind, InboundEvent, Part, PartKind, Sender
from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.domain_events import ChatHasEvents
from nanohost.db.rows import from_row
from nanohost.model import ApprovalId, EventId
from nanohost_protocol.times import from_text, to_text

ADD = """
INSERT INTO inbound_events
    (channel_type, instance, platform_id, platform_message_id, event_kind, thread_id, is_group, mentions_bot,
     sender_handle, sender_name, sender_is_bot, chat_name, text, refers_to, sent_at, received_at, status, reason,
     value, attachments, parts, album)
VALUES
    (:channel_type, :instance, :platform_id, :platform_message_id, :event_kind, :thread_id, :is_group, :mentions_bot,
     :sender_handle, :sender_name, :sender_is_bot, :chat_name, :text, :refers_to, :sent_at, :received_at,
     :status, :reason, :value, :attachments, :parts, :album)
ON CONFLICT (channel_type, instance, platform_id, platform_message_id, event_kind) DO NOTHING
"""
# is_deleted: a deletion of the message, or of the message that it changes, waits behind it. is_joined: it is an album.
# may_be_answer: it is one on record, or a question is open in its chat, seen or not. contact_seen_at: when its sender
# was last seen, if their name and the direct chat are on record.
NEW_IN_CHAT = """
SELECT e.*, e.event_kind != 'deletion' AND EXISTS (
    SELECT 1 FROM inbound_events d INDEXED BY inbound_events_refers_to
    WHERE d.channel_type = e.channel_type AND d.instance = e.instance AND d.platform_id = e.platform_id
        AND d.refers_to = iif(e.event_kind = 'message', e.platform_message_id, e.refers_to)
        AND d.event_kind = 'deletion' AND d.status = 'new') AS is_deleted,
    EXISTS (SELECT 1 FROM album_pieces p WHERE p.event_id = e.id) AS is_joined,
    EXISTS (SELECT 1 FROM questions q WHERE q.event_id = e.id) OR EXISTS (
        SELECT 1 FROM questions q WHERE q.status = 'open' AND q.channel_type = e.channel_type
            AND q.instance = e.instance AND q.platform_id = e.platform_id) AS may_be_answer,
    (SELECT u.last_seen_at FROM users u
        WHERE u.user_id = e.channel_type || ':' || e.sender_handle AND e.sender_name IN ('', u.name)
            AND (e.is_group OR EXISTS (
                SELECT 1 FROM dms c WHERE c.user_id = u.user_id AND c.instance = e.instance
                    AND c.channel_type = e.channel_type AND c.platform_id = e.platform_id
                    AND c.thread_id IS NULL))) AS contact_seen_at
FROM inbound_events e
WHERE e.status = 'new' AND e.channel_type = ? AND e.instance = ? AND e.platform_id = ? ORDER BY e.id LIMIT ?
"""
FIRST_NEW = """
SELECT id FROM inbound_events
WHERE status = 'new' AND channel_type = ? AND instance = ? AND platform_id = ? ORDER BY id LIMIT 1
"""
CHATS_WITH_NEW = "SELECT DISTINCT channel_type, instance, platform_id FROM inbound_events WHERE status = 'new'"
# The ids beside max() are those of its row.
LATEST_MESSAGES = """
SELECT platform_id, platform_message_id, max(id) FROM inbound_events
WHERE channel_type = ? AND instance = ? AND event_kind = 'message' AND platform_id != ''
GROUP BY platform_id ORDER BY max(id) DESC LIMIT ?
"""
RECENT_MESSAGES = """
SELECT platform_message_id, thread_id FROM inbound_events
WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id AND event_kind = 'message'
    AND sender_is_bot = 0 AND sent_at >= :since AND platform_message_id NOT IN (
        SELECT refers_to FROM inbound_events
        WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id
            AND event_kind = 'deletion' AND refers_to IS NOT NULL)
ORDER BY id DESC LIMIT :limit
"""
BY_ID = "SELECT * FROM inbound_events WHERE id = ?"
MESSAGE = """
SELECT * FROM inbound_events
WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id
    AND platform_message_id = :message AND event_kind = 'message'
"""
IS_NEW = "SELECT 1 FROM inbound_events WHERE id = ? AND status = 'new'"
CLOSE = "UPDATE inbound_events SET status = ?, reason = ? WHERE id = ?"
RECORD_FAILURE = "UPDATE inbound_events SET attempts = attempts + 1, reason = ? WHERE id = ? AND status = 'new'"
QUARANTINED = "SELECT * FROM inbound_events WHERE status = 'set_aside' ORDER BY id LIMIT ?"
REQUEUE = """
UPDATE inbound_events SET status = 'new', attempts = 0, reason = NULL WHERE id = ? AND status = 'set_aside' RETURNING *
"""
HOLD = "UPDATE inbound_events SET status = 'held', reason = NULL, approval_id = ? WHERE id = ?"
JOIN_ALBUM = """
UPDATE inbound_events
SET text = :text, mentions_bot = :mentions_bot, refers_to = :refers_to, attachments = :attachments, parts = :parts,
    album = NULL
WHERE id = :id AND status = 'new'
"""
REPLACE_CONTENT = """
UPDATE inbound_events
SET text = :text, mentions_bot = :mentions_bot, refers_to = :refers_to, attachments = :attachments, parts = :parts
WHERE id = :id
"""
HELD = "SELECT * FROM inbound_events WHERE status = 'held' AND approval_id = ? ORDER BY id"
RELEASE = """
UPDATE inbound_events SET status = 'new', attempts = 0 WHERE status = 'held' AND approval_id = ?
"""
# A message and its edits, by the platform's id of the message: first the message itself, if it is stored. An edit of a
# piece of an album is an edit of the joined message.
MESSAGE_AND_EDITS = """
(SELECT id, event_kind, text, status, approval_id, mentions_bot FROM inbound_events
WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id
    AND platform_message_id = :message AND event_kind = 'message'
UNION ALL
SELECT id, event_kind, text, status, approval_id, mentions_bot FROM inbound_events INDEXED BY inbound_events_refers_to
WHERE channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id
    AND event_kind = 'edit' AND refers_to IN (
        SELECT :message
        UNION ALL
        SELECT piece.platform_message_id FROM inbound_events whole
            JOIN album_pieces p ON p.joined_into = whole.id JOIN inbound_events piece ON piece.id = p.event_id
        WHERE whole.channel_type = :channel_type AND whole.instance = :instance AND whole.platform_id = :platform_id
            AND whole.platform_message_id = :message AND whole.event_kind = 'message'))
"""
# A message or edit that is not handled yet.
OPEN = f"SELECT status, approval_id FROM {MESSAGE_AND_EDITS} WHERE status IN ('new', 'held') LIMIT 1"  # noqa: S608
# A message or edit that may still reach an agent.
UNSETTLED = (
    f"SELECT id, status, approval_id FROM {MESSAGE_AND_EDITS} WHERE status IN ('new', 'held', 'set_aside') LIMIT 1"  # noqa: S608
)
MENTIONS_BOT = f"SELECT 1 FROM {MESSAGE_AND_EDITS} WHERE mentions_bot = 1 LIMIT 1"  # noqa: S608
DROP_HELD = "UPDATE inbound_events SET status = 'dropped', reason = ? WHERE status = 'held' AND approval_id = ?"

REASON_FOR_HOST = "for the host itself"
"""The reason of an event that reached no wiring, because it was for the host itself."""


@dataclass(frozen=True, slots=True)
class ChatKey:
    """The key of one chat on one platform, within which the order of events is kept."""

    channel_type: str
    instance: str
    platform_id: str

    @property
    def columns(self) -> dict[str, str]:
        """Its parts by their names in SQL statements."""
        return {"channel_type": self.channel_type, "instance": self.instance, "platform_id": self.platform_id}

    def __str__(self) -> str:
        """As logs show it, and --chat takes it."""
        return f"{self.channel_type}:{self.instance}:{self.platform_id}"

    def user_id_of(self, handle: str) -> str:
        """Returns the id of the user with this handle on the platform."""
        return f"{self.channel_type}:{handle}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An accepted event with its number, its chat and when it was received. `attempts`: how often routing it has
    failed. Only set by `list_new`: `is_deleted`: the message was deleted since; `is_joined`: it is an album whose
    pieces may have been deleted; `may_be_answer` is False if no question can have it as its answer; `contact_seen_at`:
    when its sender was last seen, if all that it says of them is on record."""

    id: EventId
    chat: ChatKey
    event: InboundEvent
    received_at: datetime
    attempts: int = 0
    reason: str | None = None
    is_deleted: bool = False
    is_joined: bool = False
    may_be_answer: bool = True
    contact_seen_at: datetime | None = None

    @property
    def user_id(self) -> str:
        """The id of the user who sent it."""
        return self.chat.user_id_of(self.event.sender.handle)


async def add(
    tx: Transaction, chat: ChatKey, event: InboundEvent, *, now: datetime, drop_reason: str | None = None
) -> bool:
    """Add an event. `drop_reason`: why it needs no routing. Returns False if it exists already. Emits ChatHasEvents for
    an event that needs routing, also for a repeat: the host may have been killed before it was delivered."""
    values = _values(event) | {
        **chat.columns,
        "received_at": to_text(now),
        "status": "new" if drop_reason is None else "dropped",
        "reason": drop_reason,
    }
    is_new = await tx.execute(ADD, values) == 1
    if drop_reason is None:
        tx.emit(ChatHasEvents(chat))
    return is_new


def _values(event: InboundEvent) -> dict[str, Value]:
    """Returns the event's own columns."""
    return {
        "platform_message_id": event.platform_message_id,
        "event_kind": event.kind,
        "thread_id": event.thread_id,
        "is_group": int(event.is_group),
        "mentions_bot": int(event.mentions_bot),
        "sender_handle": event.sender.handle,
        "sender_name": event.sender.name,
        "sender_is_bot": int(event.sender.is_bot),
        "chat_name": event.chat_name,
        "text": event.text,
        "refers_to": event.refers_to,
        "sent_at": to_text(event.sent_at),
        "value": event.value,
        "attachments": json.dumps([asdict(one) for one in event.attachments]),
        "parts": json.dumps([_part_as_json(one) for one in event.parts]),
        "album": event.album,
    }


async def list_new(db: Queries, chat: ChatKey, *, limit: int) -> list[StoredEvent]:
    """Returns the chat's events that routing has not handled, oldest first."""
    rows = await db.fetch_all(NEW_IN_CHAT, (chat.channel_type, chat.instance, chat.platform_id, limit))
    return [
        replace(
            _from_row(row),
            is_deleted=bool(row["is_deleted"]) and not row["is_joined"],
            is_joined=bool(row["is_joined"]),
            may_be_answer=bool(row["may_be_answer"]),
            contact_seen_at=None if row["contact_seen_at"] is None else from_text(row["contact_seen_at"]),
        )
        for row in rows
    ]


async def find_first_new(db: Queries, chat: ChatKey) -> EventId | None:
    """Returns the chat's oldest event that routing has not handled."""
    row = await db.fetch_one(FIRST_NEW, (chat.channel_type, chat.instance, chat.platform_id))
    return None if row is None else EventId(row["id"])


async def list_chats_with_new(db: Queries) -> list[ChatKey]:
    rows = await db.fetch_all(CHATS_WITH_NEW)
    return [ChatKey(row["channel_type"], row["instance"], row["platform_id"]) for row in rows]


async def latest_messages(db: ReportReader, *, channel_type: str, instance: str, limit: int) -> dict[str, str]:
    """Returns the newest message by chat, including dropped ones, for the most recently active chats."""
    rows = await db.fetch_all(LATEST_MESSAGES, (channel_type, instance, limit))
    return {row["platform_id"]: row["platform_message_id"] for row in rows}


async def recent_messages(db: ReportReader, chat: ChatKey, *, since: datetime, limit: int) -> dict[str, str | None]:
    """Returns the threads of the newest messages of people in a chat, by message, without deleted ones."""
    values: dict[str, Value] = {
        **chat.columns,
        "since": to_text(since),
        "limit": limit,
    }
    return {row["platform_message_id"]: row["thread_id"] for row in await db.fetch_all(RECENT_MESSAGES, values)}


async def get(db: Queries, event: EventId) -> StoredEvent:
    row = await db.fetch_one(BY_ID, (event,))
    assert row is not None, f"event {event} is referred to and not there"
    return _from_row(row)


async def find_message(db: Queries, chat: ChatKey, platform_message_id: str) -> StoredEvent | None:
    """Returns the message with this platform id; None if it is not stored."""
    row = await db.fetch_one(MESSAGE, _message_values(chat, platform_message_id))
    return None if row is None else _from_row(row)


async def is_new(db: Queries, event: EventId) -> bool:
    """Whether routing has not handled the event."""
    return await db.fetch_one(IS_NEW, (event,)) is not None


async def mark_routed(tx: Transaction, events: Iterable[EventId]) -> None:
    await tx.execute_many(CLOSE, [("routed", None, event) for event in events])


async def join_album(tx: Transaction, pieces: Sequence[EventId], into: InboundEvent) -> None:
    """Put the joined content into the first of these events and mark the others as routed with it."""
    first, *others = pieces
    await tx.execute(JOIN_ALBUM, {"id": first} | _content_values(into))
    await tx.execute_many(CLOSE, [("routed", f"one message with event {first}", other) for other in others])


async def replace_content(tx: Transaction, event: EventId, into: InboundEvent) -> None:
    """Replace the content of an album's message after some of its pieces were deleted."""
    await tx.execute(REPLACE_CONTENT, {"id": event} | _content_values(into))


def _content_values(event: InboundEvent) -> dict[str, Value]:
    """Returns the columns that are merged when messages are joined."""
    values = _values(event)
    return {name: values[name] for name in ("text", "mentions_bot", "refers_to", "attachments", "parts")}


def content_as_json(event: InboundEvent) -> str:
    """Returns those columns of an event as JSON."""
    return json.dumps(_content_values(event))


def with_content(event: InboundEvent, document: str) -> InboundEvent:
    """Returns the event with the content in the JSON document of `content_as_json`."""
    stored = json.loads(document)
    return replace(
        event,
        text=stored["text"],
        mentions_bot=bool(stored["mentions_bot"]),
        refers_to=stored["refers_to"],
        attachments=tuple(Attachment(**one) for one in json.loads(stored["attachments"])),
        parts=tuple(map(_part_from_json, json.loads(stored["parts"]))),
    )


async def mark_settled(tx: Transaction, event: EventId, reason: str) -> None:
    """Mark an event as handled that concerns no agent."""
    await tx.execute(CLOSE, ("routed", reason, event))


async def mark_dropped(tx: Transaction, event: EventId, reason: str) -> None:
    await tx.execute(CLOSE, ("dropped", reason, event))


async def hold_for_approval(tx: Transaction, event: EventId, approval: ApprovalId) -> None:
    """Hold an event until the approval is decided."""
    await tx.execute(HOLD, (approval, event))


async def list_held(db: Queries, approval: ApprovalId) -> list[StoredEvent]:
    """Returns the events that wait for this approval, oldest first."""
    return [_from_row(row) for row in await db.fetch_all(HELD, (approval,))]


async def is_open(db: Queries, chat: ChatKey, message: str) -> bool:
    """Whether the message with this platform id, or an edit of it, is new or held."""
    return await db.fetch_one(OPEN, _message_values(chat, message)) is not None


async def mentions_bot(db: Queries, chat: ChatKey, message: str) -> bool:
    """Whether this message, or an edit of it, is stored and mentions the bot."""
    return await db.fetch_one(MENTIONS_BOT, _message_values(chat, message)) is not None


def _message_values(chat: ChatKey, message: str) -> dict[str, Value]:
    return {**chat.columns, "message": message}


async def find_holding_approval(db: Queries, chat: ChatKey, message: str) -> ApprovalId | None:
    """Returns the approval that this message, or an edit of it, waits for; None if there is none."""
    row = await db.fetch_one(OPEN, _message_values(chat, message))
    return ApprovalId(row["approval_id"]) if row is not None and row["status"] == "held" else None


async def find_unsettled(db: Queries, chat: ChatKey, message: str) -> tuple[EventId, ApprovalId | None] | None:
    """Returns the message with this platform id, or an edit of it, if it may still reach an agent, and the approval
    that it waits for. None if it is unknown, routed or dropped."""
    row = await db.fetch_one(UNSETTLED, _message_values(chat, message))
    if row is None:
        return None
    return EventId(row["id"]), ApprovalId(row["approval_id"]) if row["status"] == "held" else None


async def release_held(tx: Transaction, approval: ApprovalId) -> None:
    """Make the events that waited for this approval new again. Emits ChatHasEvents."""
    tx.emit(*(ChatHasEvents(stored.chat) for stored in await list_held(tx, approval)))
    await tx.execute(RELEASE, (approval,))


async def drop_held(tx: Transaction, approval: ApprovalId, reason: str) -> int:
    """Drop the events that waited for this approval. Returns how many."""
    return await tx.execute(DROP_HELD, (reason, approval))


async def record_failure(tx: Transaction, event: EventId, reason: str) -> None:
    """Count a failure to route the event; it stays new."""
    await tx.execute(RECORD_FAILURE, (reason, event))


async def quarantine(tx: Transaction, event: EventId, reason: str) -> None:
    """Put an event aside that failed too often, so that later events continue."""
    await tx.execute(CLOSE, ("set_aside", reason, event))


async def list_quarantined(db: Queries, *, limit: int) -> list[StoredEvent]:
    """Returns the quarantined events, oldest first."""
    return [_from_row(row) for row in await db.fetch_all(QUARANTINED, (limit,))]


async def requeue(tx: Transaction, event: EventId) -> StoredEvent | None:
    """Make a quarantined event new again, with all its attempts. Returns None if it is not quarantined. Emits
    ChatHasEvents."""
    row = await tx.fetch_one(REQUEUE, (event,))
    if row is None:
        return None
    stored = _from_row(row)
    tx.emit(ChatHasEvents(stored.chat))
    return stored


def _from_row(row: sqlite3.Row) -> StoredEvent:
    return from_row(
        StoredEvent,
        row,
        chat=from_row(ChatKey, row),
        event=from_row(
            InboundEvent,
            row,
            sender=Sender(handle=row["sender_handle"], name=row["sender_name"], is_bot=bool(row["sender_is_bot"])),
            kind=EventKind(row["event_kind"]),
            attachments=tuple(Attachment(**one) for one in json.loads(row["attachments"])),
            parts=tuple(map(_part_from_json, json.loads(row["parts"]))),
        ),
        is_deleted=False,
        is_joined=False,
        may_be_answer=True,
        contact_seen_at=None,
    )


def _part_as_json(part: Part) -> dict[str, Any]:
    return asdict(part) | {"sent_at": None if part.sent_at is None else to_text(part.sent_at)}


def _part_from_json(stored: dict[str, Any]) -> Part:
    sent_at = stored["sent_at"]
    known = {"kind": PartKind(stored["kind"]), "sent_at": None if sent_at is None else from_text(sent_at)}
    return Part(**(stored | known))
