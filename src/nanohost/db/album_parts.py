"""Stores the content of each piece of an album before they were joined (see routing/albums.py), and whether it was
deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanohost.channel_api import InboundEvent
from nanohost.db import events
from nanohost.db.database import Queries, Transaction
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.model import EventId

ADD = "INSERT INTO album_pieces (event_id, joined_into, content) VALUES (?, ?, ?)"
FIND = """
SELECT p.event_id, p.joined_into, p.content, w.platform_message_id AS whole
FROM inbound_events e JOIN album_pieces p ON p.event_id = e.id JOIN inbound_events w ON w.id = p.joined_into
WHERE e.channel_type = ? AND e.instance = ? AND e.platform_id = ? AND e.platform_message_id = ?
    AND e.event_kind = 'message'
"""
REMAINING = "SELECT content FROM album_pieces WHERE joined_into = ? AND is_deleted = 0 ORDER BY event_id"
DELETE = "UPDATE album_pieces SET is_deleted = 1 WHERE event_id = ?"
# Pieces that are still in the message and whose deletion waits to be handled.
PENDING_DELETIONS = """
SELECT p.event_id FROM album_pieces p JOIN inbound_events e ON e.id = p.event_id
WHERE p.joined_into = ? AND p.is_deleted = 0 AND EXISTS (
    SELECT 1 FROM inbound_events d INDEXED BY inbound_events_refers_to
    WHERE d.channel_type = e.channel_type AND d.instance = e.instance AND d.platform_id = e.platform_id
        AND d.refers_to = e.platform_message_id AND d.event_kind = 'deletion' AND d.status = 'new')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlbumPiece:
    """A piece of an album. `id`: the piece's own event. `joined_into`: the event of the joined message;
    `whole_message_id`: its id on the platform. `event`: the given template with the piece's own content."""

    id: EventId
    joined_into: EventId
    whole_message_id: str
    event: InboundEvent


async def add_all(tx: Transaction, pieces: Sequence[tuple[EventId, InboundEvent]]) -> None:
    """Store the content of each piece, before they are joined into the first one's event."""
    first, _ = pieces[0]
    await tx.execute_many(ADD, [(id, first, events.content_as_json(event)) for id, event in pieces])


async def find(db: Queries, chat: ChatKey, message: str, *, template: InboundEvent) -> AlbumPiece | None:
    """Returns the piece with this platform id; None if the message is not a piece of an album."""
    row = await db.fetch_one(FIND, (chat.channel_type, chat.instance, chat.platform_id, message))
    if row is None:
        return None
    return AlbumPiece(
        id=EventId(row["event_id"]),
        joined_into=EventId(row["joined_into"]),
        whole_message_id=row["whole"],
        event=events.with_content(template, row["content"]),
    )


async def find_whole_id(db: Queries, chat: ChatKey, message: str) -> str:
    """Returns the platform id of the joined message that this one is a piece of; its own id if it is not a piece."""
    row = await db.fetch_one(FIND, (chat.channel_type, chat.instance, chat.platform_id, message))
    return message if row is None else row["whole"]


async def list_pending_deletions(db: Queries, message: EventId) -> list[EventId]:
    """Returns the pieces that are still in this message and whose deletion waits to be handled."""
    return [EventId(row["event_id"]) for row in await db.fetch_all(PENDING_DELETIONS, (message,))]


async def mark_deleted(tx: Transaction, pieces: Sequence[EventId]) -> None:
    """Record that these pieces are no longer in the message."""
    await tx.execute_many(DELETE, [(piece,) for piece in pieces])


async def list_remaining(db: Queries, whole: StoredEvent) -> list[InboundEvent]:
    """Returns the content of the pieces that are still in the message, in order."""
    return [events.with_content(whole.event, row["content"]) for row in await db.fetch_all(REMAINING, (whole.id,))]
