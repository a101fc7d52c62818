"""Several files that were sent as one message, which a platform tells of piece by piece: what they are together. Pure.

The pieces are on disk like any event. They become one before anything is decided about them, so that a caption that
names the agent counts for all of them, and they are one turn; a host that dies in between finds them as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nanohost.channel_api import InboundEvent
from nanohost.routing.attachments import safe_names
from nanohost.store.events import StoredEvent

WAIT_S = 1.0
"""After the latest piece. Platforms tell of all pieces right after each other, as a rule in one answer."""
LONGEST_WAIT_S = 5.0
"""After the first piece. What comes later is a message of its own."""
MOST_PIECES = 20
"""Telegram and WhatsApp send ten at most."""


def before_album(batch: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
    """The events before the first album; none where it comes first."""
    first = next((at for at, one in enumerate(batch) if one.event.album is not None), len(batch))
    return batch[:first]


def pieces_of(head: StoredEvent, waiting: Sequence[StoredEvent]) -> list[StoredEvent]:
    """The pieces of the album that begins with this one, in order, among the events that wait in its chat."""
    album, sender = head.event.album, head.event.sender.handle
    return [one for one in waiting if (one.event.album, one.event.sender.handle) == (album, sender)][:MOST_PIECES]


def open_for_s(pieces: Sequence[StoredEvent], now: datetime) -> float:
    """For how long another piece may come; not above zero: it is complete. A clock that was set back closes it."""
    first, latest = pieces[0].received_at, pieces[-1].received_at
    since_latest, since_first = (now - latest).total_seconds(), (now - first).total_seconds()
    if since_latest < 0 or len(pieces) == MOST_PIECES:
        return 0.0
    return min(WAIT_S - since_latest, LONGEST_WAIT_S - since_first)


def together(said: Sequence[InboundEvent]) -> InboundEvent:
    """One message under the name of the first: all texts and files, in order; to the agent if any piece is."""
    return replace(
        said[0],
        text="\n".join(one.text for one in said if one.text),
        mentions_bot=any(one.mentions_bot for one in said),
        refers_to=next((one.refers_to for one in said if one.refers_to is not None), None),
        attachments=tuple(file for one in said for file in one.attachments),
        parts=tuple(dict.fromkeys(part for one in said for part in one.parts)),
        album=None,
    )


def named(said: Sequence[InboundEvent]) -> list[InboundEvent]:
    """The pieces with files whose names are all different, and stay so whichever of them is deleted."""
    names = iter(safe_names([file for one in said for file in one.attachments]))
    return [
        replace(one, attachments=tuple(replace(file, name=next(names)) for file in one.attachments)) for one in said
    ]
