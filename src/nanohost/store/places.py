"""A place as four columns of a row: where something was asked for, or where somebody is told."""

from __future__ import annotations

import sqlite3

from nanohost_protocol.rows import Origin


def place_of(row: sqlite3.Row) -> Origin | None:
    """None: the columns are NULL."""
    if row["channel_type"] is None:
        return None
    return Origin(
        channel_type=row["channel_type"],
        instance=row["instance"],
        platform_id=row["platform_id"],
        thread_id=row["thread_id"],
    )


def columns_of(place: Origin | None) -> dict[str, str | None]:
    """By their names; NULL where there is no place."""
    return {
        "channel_type": place.channel_type if place else None,
        "instance": place.instance if place else None,
        "platform_id": place.platform_id if place else None,
        "thread_id": place.thread_id if place else None,
    }
