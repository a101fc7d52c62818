"""What the pieces of an album were before they were joined (see routing/albums.py), and which of them are deleted."""

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
# Of those that are in the message still, whose deletion waits.
PENDING_DELETIONS = """
SELECT p.event_id FROM album_pieces p JOIN inbound_events e ON e.id = p.event_id
WHERE p.joined_into = ? AND p.is_deleted = 0 AND EXISTS (
    SELECT 1 FROM inbound_events d INDEXED BY inbound_events_refers_to
    WHERE d.channel_type = e.channel_type AND d.instance = e.instance AND d.platform_id = e.platform_id
        AND d.refers_to = e.platform_message_id AND d.event_kind = 'deletion' AND d.status = 'new')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlbumPiece:
    """`id` is the piece's own event, `joined_into` that of the message which it is in, and `whole_message_id` what the
    platform calls that one; `event`: what the piece holds by itself, under the deletion's name."""

    id: EventId
    joined_into: EventId
    whole_message_id: str
    event: InboundEvent


async def add_all(tx: Transaction, pieces: Sequence[tuple[EventId, InboundEvent]]) -> None:
    """Keep what these are by themselves: they become one message, under the name of the first."""
    first, _ = pieces[0]
    await tx.execute_many(ADD, [(id, first, events.content_as_json(event)) for id, event in pieces])


async def find(db: Queries, chat: ChatKey, message: str, *, template: InboundEvent) -> AlbumPiece | None:
    """The piece that the platform knows by this id. None: it is no piece of a message that was joined."""
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
    """What the platform calls the message that this one is a piece of; the same if it is none."""
    row = await db.fetch_one(FIND, (chat.channel_type, chat.instance, chat.platform_id, message))
    return message if row is None else row["whole"]


async def list_pending_deletions(db: Queries, message: EventId) -> list[EventId]:
    """The pieces of this message that are still in it, and whose deletion waits to be handled."""
    return [EventId(row["event_id"]) for row in await db.fetch_all(PENDING_DELETIONS, (message,))]


async def mark_deleted(tx: Transaction, pieces: Sequence[EventId]) -> None:
    """They are in the message no more."""
    await tx.execute_many(DELETE, [(piece,) for piece in pieces])


async def list_remaining(db: Queries, whole: StoredEvent) -> list[InboundEvent]:
    """The pieces that are still in it, in order."""
    return [events.with_content(whole.event, row["content"]) for row in await db.fetch_all(REMAINING, (whole.id,))]
