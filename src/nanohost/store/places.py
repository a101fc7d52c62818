"""A place as four columns of a row: where something was asked for, or where somebody is told."""

from __future__ import annotations

from nanohost_protocol.rows import Origin


def origin_columns(origin: Origin | None) -> dict[str, str | None]:
    """By their names; NULL where there is no place."""
    return {
        "channel_type": origin.channel_type if origin else None,
        "instance": origin.instance if origin else None,
        "platform_id": origin.platform_id if origin else None,
        "thread_id": origin.thread_id if origin else None,
    }
