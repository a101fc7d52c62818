"""Formats times and counts for sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo

from nanohost.text.translation import _, gettext_noop

_WEEKDAYS = (
    gettext_noop("Mon"),
    gettext_noop("Tue"),
    gettext_noop("Wed"),
    gettext_noop("Thu"),
    gettext_noop("Fri"),
    gettext_noop("Sat"),
    gettext_noop("Sun"),
)
_MONTHS = (
    gettext_noop("Jan"),
    gettext_noop("Feb"),
    gettext_noop("Mar"),
    gettext_noop("Apr"),
    gettext_noop("May"),
    gettext_noop("Jun"),
    gettext_noop("Jul"),
    gettext_noop("Aug"),
    gettext_noop("Sep"),
    gettext_noop("Oct"),
    gettext_noop("Nov"),
    gettext_noop("Dec"),
)


def format_datetime(at: datetime, zone: tzinfo) -> str:
    """Formats a time that may be days away, with its weekday and zone, in the language of the install."""
    local = at.astimezone(zone)
    return _(
        "{weekday} {day} {month} {year}, {time} ({zone})",
        weekday=_(_WEEKDAYS[local.weekday()]),
        day=f"{local:%d}",
        month=_(_MONTHS[local.month - 1]),
        year=local.year,
        time=f"{local:%H:%M}",
        zone=zone,
    )


def format_time(at: datetime, now: datetime, zone: tzinfo) -> str:
    """Formats a time, with its day if that is not today."""
    local, today = at.astimezone(zone), now.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"


def format_time_with_zone(at: datetime, now: datetime, zone: tzinfo) -> str:
    """Formats a future time with its zone: the reader may live in another zone than the host's."""
    return f"{format_time(at, now, zone)} ({zone})"


def format_duration(duration: timedelta) -> str:
    """Formats a duration."""
    seconds = max(0, int(duration.total_seconds()))
    for unit, of in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * of:
            return f"{seconds // of} {unit}"
    return f"{seconds} s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a question with the most similar known name; empty if there is none."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    return f"did you mean {close[0]}?" if close else ""


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Returns a hint with the most similar known name, else with all known names."""
    return did_you_mean(name, known) or f"known here: {', '.join(sorted(known)) or 'none'}"


def join_names(names: Sequence[str]) -> str:
    """Names in a sentence: one, two or several."""
    if len(names) < 2:
        return "".join(names)
    return _("{first} and {last}", first=", ".join(names[:-1]), last=names[-1])


def pluralize(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"


def capitalize_first(text: str) -> str:
    """Returns the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
