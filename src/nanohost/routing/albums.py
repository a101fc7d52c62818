"""Joins the pieces of an album, which a platform delivers one by one, into one message. Pure.

The pieces are on disk like any event. They are joined before routing decides about them, so that a caption that names
the agent counts for all of them and they cause one turn. If the host dies in between, it finds the pieces unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nanohost.channel_api import InboundEvent
from nanohost.db.events import StoredEvent
from nanohost.routing.attachments import unique_file_names

PIECE_WAIT_S = 1.0
"""Seconds after the latest piece. Platforms send all pieces right after each other, usually in one response."""
MAX_ALBUM_WAIT_S = 5.0
"""Seconds after the first piece. A piece that arrives later is a message of its own."""
MAX_PIECES = 20
"""Telegram and WhatsApp send ten at most."""


def events_before_album(batch: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
    """Returns the events before the first album; empty if an album comes first."""
    first = next((at for at, one in enumerate(batch) if one.event.album is not None), len(batch))
    return batch[:first]


def album_pieces(head: StoredEvent, waiting: Sequence[StoredEvent]) -> list[StoredEvent]:
    """Returns the pieces of the album that begins with `head`, in order, from the events that wait in its chat."""
    album, sender = head.event.album, head.event.sender.handle
    return [one for one in waiting if (one.event.album, one.event.sender.handle) == (album, sender)][:MAX_PIECES]


def remaining_wait_s(pieces: Sequence[StoredEvent], now: datetime) -> float:
    """Returns how long another piece may still arrive; zero or less if the album is complete.

    If the clock was set back, the album counts as complete.
    """
    first, latest = pieces[0].received_at, pieces[-1].received_at
    since_latest, since_first = (now - latest).total_seconds(), (now - first).total_seconds()
    if since_latest < 0 or len(pieces) == MAX_PIECES:
        return 0.0
    return min(PIECE_WAIT_S - since_latest, MAX_ALBUM_WAIT_S - since_first)


def merge_pieces(piece_events: Sequence[InboundEvent]) -> InboundEvent:
    """Returns one message with the id of the first piece and all texts and files, in order.

    It mentions the agent if any piece does.
    """
    return replace(
        piece_events[0],
        text="\n".join(one.text for one in piece_events if one.text),
        mentions_bot=any(one.mentions_bot for one in piece_events),
        refers_to=next((one.refers_to for one in piece_events if one.refers_to is not None), None),
        attachments=tuple(file for one in piece_events for file in one.attachments),
        parts=tuple(dict.fromkeys(part for one in piece_events for part in one.parts)),
        album=None,
    )


def with_unique_file_names(piece_events: Sequence[InboundEvent]) -> list[InboundEvent]:
    """Returns the pieces with unique file names, which stay the same if another piece is deleted."""
    names = iter(unique_file_names([file for one in piece_events for file in one.attachments]))
    return [
        replace(one, attachments=tuple(replace(file, name=next(names)) for file in one.attachments))
        for one in piece_events
    ]
