"""Formats times and counts for sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo


def format_datetime(at: datetime, zone: tzinfo) -> str:
    """A time that is days away, with its weekday and its zone."""
    return f"{at.astimezone(zone):%a %d %b %Y, %H:%M} ({zone})"


def format_time(at: datetime, now: datetime, zone: tzinfo) -> str:
    """With its day, where that is not today."""
    local, today = at.astimezone(zone), now.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"


def format_time_with_zone(at: datetime, now: datetime, zone: tzinfo) -> str:
    """A time to come, with its zone: whoever plans by it may live elsewhere than the host's clock."""
    return f"{format_time(at, now, zone)} ({zone})"


def format_duration(duration: timedelta) -> str:
    """How long something took, where its zone is not known or does not matter."""
    seconds = max(0, int(duration.total_seconds()))
    for unit, of in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * of:
            return f"{seconds // of} {unit}"
    return f"{seconds} s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The name that is like this one, as a question; empty for none."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    return f"did you mean {close[0]}?" if close else ""


def suggest_name(name: str, known: Iterable[str]) -> str:
    """What may have been meant, as a hint: the name that is like this one, else all there are."""
    return did_you_mean(name, known) or f"known here: {', '.join(sorted(known)) or 'none'}"


def pluralize(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"


def capitalize_first(text: str) -> str:
    """As it begins one."""
    return text[:1].upper() + text[1:]
