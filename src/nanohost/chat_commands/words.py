"""How answers to commands tell times and counts."""

from __future__ import annotations

from datetime import datetime, tzinfo


def clock_time(moment: datetime, now: datetime, zone: tzinfo) -> str:
    """With its day, where that is not today."""
    local, today = moment.astimezone(zone), now.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"


def counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
