"""Parses times as people and agents type them: a local time, or how long from now. Pure.

2026-03-01T09:00        that time in the given zone (seconds are allowed, and a space in place of the T)
2026-03-01T09:00+02:00  that time, whatever the given zone
2026-03-01T09:00Z       that time in UTC
in 10 minutes           ten minutes from now; also `10m`, `+600`, `in 1 h 30 min`
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

MAX_WAIT = timedelta(days=366 * 10)
PAST_TOLERANCE = timedelta(minutes=5)
"""A time that passed at most so long ago counts as now: the agent was thinking meanwhile, or asked somebody."""
DAY = timedelta(days=1)

_UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86_400}
_UNITS |= {"day": 86_400, "w": 604_800, "week": 604_800}
_DURATION_PART = re.compile(r"(\d{1,9})\s*([a-z]*)")
# Unambiguous, because containers write these texts: backtracking over a long number would take very long.
_DURATION = re.compile(r"(?:in\s+|\+\s*)?((?:\d{1,9}(?!\d)(?:\s*[a-z]+)?\s*)+)")
EXAMPLES = "2026-03-01T09:00, or in 10 minutes"


def parse_moment(text: str, *, zone: tzinfo, now: datetime) -> datetime:
    """Returns the time in UTC. `zone` is used for a text without a zone, see `resolve_wall_time`. Raises ValueError
    with a sentence for the person."""
    wanted = text.strip()
    try:
        found = _parse_relative(wanted, now) or _parse_absolute(wanted, zone)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:60]!r} is no time: write for example {EXAMPLES}") from None
    if found - now > MAX_WAIT:
        raise ValueError(f"{text[:60]!r} is more than ten years away")
    return found


def parse_future_moment(text: str, *, zone: tzinfo, now: datetime) -> datetime:
    """Returns the time in UTC. Raises ValueError with a sentence for the person, also for a time that has passed: with
    a wrong year, a reminder would otherwise come at once and not on its day."""
    found = parse_moment(text, zone=zone, now=now)
    if found >= now - PAST_TOLERANCE:
        return found
    raise ValueError(past_moment_error(repr(text[:60]), found, zone=zone, now=now))


def past_moment_error(what: str, moment: datetime, *, zone: tzinfo, now: datetime) -> str:
    """Returns the error for a time that has passed, with the current time and the time that was probably meant, both in
    the zone."""
    mark = "Z" if zone is UTC else ""
    local, meant = now.astimezone(zone), suggest_future_moment(moment, zone=zone, now=now)
    return (
        f"{what} is in the past: it is {local:%A, %Y-%m-%dT%H:%M}{mark} now."
        f" You probably meant {meant:%Y-%m-%dT%H:%M}{mark}: ask again with the time that you mean"
    )


def resolve_wall_time(wall: datetime, zone: tzinfo) -> datetime:
    """Returns when clocks in the zone show `wall` (a time without a zone), in UTC: the first time if they show it
    twice, and the time at which they are set forward if they skip it. Raises OverflowError if it is outside UTC's
    years."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first if first <= second else _find_dst_transition(second, first, zone)


def _find_dst_transition(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """Returns when the zone's clocks are set forward between two times, to the second."""
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low).total_seconds() // 2)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def suggest_future_moment(moment: datetime, *, zone: tzinfo, now: datetime) -> datetime:
    """Returns the next time with the same time of day if `moment` passed less than a day ago, else the next one with
    the same day of the year too, in the zone: the year is the most frequent mistake."""
    local = moment.astimezone(zone)
    if now - moment < DAY:
        return local + DAY
    for year in range(now.astimezone(zone).year, now.astimezone(zone).year + 9):
        try:
            found = local.replace(year=year)
        except ValueError:  # the 29th of February
            continue
        if found >= now:
            return found
        if now - found < DAY:
            tomorrow = found + DAY
            return tomorrow if tomorrow >= now else tomorrow + DAY
    return local


def parse_duration_s(text: str) -> int | None:
    """Returns a duration such as `10m`, `in 2 hours` or `+600` in seconds; None if the text is no duration."""
    whole = _DURATION.fullmatch(text.strip().casefold())
    if whole is None:
        return None
    pieces = _DURATION_PART.findall(whole[1])
    units = [unit if unit in _UNITS else unit.removesuffix("s") for _, unit in pieces]
    if units == [""]:
        # A bare number is a duration only with a plus sign: 2026 is a year.
        return int(pieces[0][0]) if text.strip().startswith("+") else None
    if any(unit not in _UNITS for unit in units):
        return None
    return sum(int(number) * _UNITS[unit] for (number, _), unit in zip(pieces, units, strict=True))


def is_relative(text: str | None) -> bool:
    """Returns whether the text is a duration from now."""
    return text is not None and parse_duration_s(text) is not None


def _parse_relative(text: str, now: datetime) -> datetime | None:
    length = parse_duration_s(text)
    return None if length is None else now + timedelta(seconds=length)


def _parse_absolute(text: str, zone: tzinfo) -> datetime:
    found = datetime.fromisoformat(text)
    if len(text) <= len("2026-03-01"):
        raise ValueError("a day is no moment")
    return resolve_wall_time(found, zone) if found.tzinfo is None else found.astimezone(UTC)
