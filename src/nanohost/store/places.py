"""A place as four columns of a row: where something was asked for, or where somebody is told."""

from __future__ import annotations

from nanohost_protocol.rows import Origin


def columns_of(place: Origin | None) -> dict[str, str | None]:
    """By their names; NULL where there is no place."""
    return {
        "channel_type": place.channel_type if place else None,
        "instance": place.instance if place else None,
        "platform_id": place.platform_id if place else None,
        "thread_id": place.thread_id if place else None,
    }
