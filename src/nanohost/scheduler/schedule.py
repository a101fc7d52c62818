"""Calculates when a task is due, by its cron expression and time zone, and which missed times are run. Pure.

The five fields are matched against local (wall-clock) time, and each time is calculated from the scheduled one before.
If neither the day of the month nor the day of the week is `*`, either is enough; if one is a step such as `*/2`, both
must match, as in cron. When the zone's clock changes:

* a time that does not exist is due at the end of the gap;
* a time that exists twice is due once, the first time;
* an expression for every hour (hour field `*`) follows real time: a time that exists twice is due twice, a time that
  does not exist is skipped.

croniter calculates wall-clock times only; these rules are applied here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from nanohost.db.tasks import MisfirePolicy, Task
from nanohost.errors import UsageError
from nanohost_protocol.typed_times import resolve_wall_time

MISFIRE_GRACE = timedelta(seconds=60)
"""A run that is late by less than this is on time, as after a restart of the host."""
MAX_CATCH_UP_RUNS = 10
MISSED_REASON = "nobody was there at its time"
OVERLAP_REASON = "the run before it had not ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One due time to record. `skip_reason`: why it is not run."""

    due: datetime
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The runs of a due task, and its next due time. `next_due` None: the task is done."""

    runs: tuple[PlannedRun, ...]
    next_due: datetime | None


def plan_runs(task: Task, now: datetime, *, is_running: bool) -> RunPlan:
    """Plans the runs of a due task.

    `is_running`: an earlier run has not ended; a series then starts no other one, unless its misfire policy is `all`.
    Raises UsageError if its time zone no longer exists.
    """
    assert task.next_due is not None
    if task.cron is None:
        missed = task.misfire is MisfirePolicy.SKIP and now - task.next_due >= MISFIRE_GRACE
        return RunPlan(
            runs=(PlannedRun(due=task.next_due, skip_reason=MISSED_REASON if missed else None),), next_due=None
        )
    times = list_times_until(task.cron, task.timezone, task.next_due, now, limit=MAX_CATCH_UP_RUNS)
    chosen = select_times(times, now, task.misfire)
    waits = is_running and not (task.misfire is MisfirePolicy.ALL and len(chosen) > 1)
    return RunPlan(
        runs=tuple(PlannedRun(due=due, skip_reason=OVERLAP_REASON if waits else None) for due in chosen),
        next_due=next_time(task.cron, task.timezone, times[-1]),
    )


def select_times(times: Sequence[datetime], now: datetime, policy: MisfirePolicy) -> Sequence[datetime]:
    """Returns the due times to run by the misfire policy. `times`: in order, none after `now`."""
    match policy:
        case MisfirePolicy.LATEST:
            return times[-1:]
        case MisfirePolicy.ALL:
            return times[-MAX_CATCH_UP_RUNS:]
        case MisfirePolicy.SKIP:
            return [moment for moment in times if now - moment < MISFIRE_GRACE][-1:]


CRON_FIELDS = (("minute", 60), ("hour", 24), ("day of the month", 31), ("month", 12), ("day of the week", 8))
"""Names of the fields, and the number of their values: a longer step is invalid."""
_NAME_PATTERN = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
_VALUE_PATTERN = rf"(?:\d{{1,2}}|{_NAME_PATTERN})"
_PART_REGEX = re.compile(rf"(?:\*|{_VALUE_PATTERN}(?:-{_VALUE_PATTERN})?)(?:/(?P<step>\d{{1,2}}))?", re.IGNORECASE)
CRON_EXAMPLE = 'minute hour day month weekday, such as "0 9 * * 1-5" for nine on weekdays'
MAX_DST_OVERLAP = timedelta(hours=3)
"""How far to look back for times that exist twice: clocks are set back by an hour, seldom by two."""


def validate_timezone(timezone: str) -> str:
    """Returns the name if there is such a zone. Raises UsageError."""
    _load_zone(timezone)
    return timezone


def validate_cron(cron: str) -> str:
    """Returns the expression in normal form, if it has five fields and is due some day. Raises UsageError."""
    fields = cron.split()
    if len(fields) != len(CRON_FIELDS):
        raise UsageError(f"{cron[:80]!r} is not a cron expression of five fields", hint=CRON_EXAMPLE)
    for field, (name, values) in zip(fields, CRON_FIELDS, strict=True):
        for part in field.split(","):
            match = _PART_REGEX.fullmatch(part)
            if match is None or int(match["step"] or 1) not in range(1, values):
                raise UsageError(f"{cron[:80]!r}: the field {name} cannot be {field[:40]!r}", hint=CRON_EXAMPLE)
    text = " ".join(fields).lower()
    try:
        next(_wall_times(text, datetime(2024, 1, 1)))  # noqa: DTZ001 (wall-clock time has no zone)
    except CroniterError:
        raise UsageError(f"the cron expression {text!r} never falls due, or is not one", hint=CRON_EXAMPLE) from None
    return text


def next_time(cron: str, timezone: str, after: datetime) -> datetime:
    """Returns the first time after `after`, in UTC. Raises UsageError for an invalid expression or zone."""
    cron, zone = validate_cron(cron), _load_zone(timezone)
    every_hour = _is_hourly(cron)
    best: datetime | None = None
    for wall in _wall_times(cron, _search_start(after, zone)):
        times = _to_instants(wall, zone, is_hourly=every_hour)
        best = min((moment for moment in (*times, best) if moment is not None and moment > after), default=None)
        if best is not None and best <= _to_utc(wall, zone, fold=0):
            return best
    raise AssertionError("croniter raises when there is no further time")


def list_times_until(cron: str, timezone: str, first: datetime, now: datetime, *, limit: int) -> list[datetime]:
    """Returns `first` and the times after it by the expression, up to `now` inclusive: the last `limit`, in order."""
    found: deque[datetime] = deque([first], maxlen=limit)
    moment = next_time(cron, timezone, max(first, _skip_ahead(cron, timezone, now, limit)))
    while moment <= now:
        found.append(moment)
        moment = next_time(cron, timezone, moment)
    return list(found)


def _skip_ahead(cron: str, timezone: str, now: datetime, count: int) -> datetime:
    """Returns a time with at least `count` due times between it and `now`, without iterating over years of them."""
    zone = _load_zone(timezone)
    wall = now.astimezone(zone).replace(tzinfo=None)
    steps = croniter(cron, wall)
    with suppress(CroniterError):
        for _ in range(count):
            wall = steps.get_prev(datetime)
    return _to_utc(wall, zone, fold=0) - MAX_DST_OVERLAP


def _wall_times(cron: str, after: datetime) -> Iterator[datetime]:
    """Yields wall-clock times, whether or not they exist in the zone. Raises CroniterError when there is none."""
    steps = croniter(cron, after)
    while True:
        yield steps.get_next(datetime)


def _search_start(after: datetime, zone: ZoneInfo) -> datetime:
    """Returns the wall-clock time to count from: earlier if the clock is about to be set back, as times repeat."""
    here = after.astimezone(zone)
    later = (after + MAX_DST_OVERLAP).astimezone(zone)
    back = (here.utcoffset() or timedelta()) - (later.utcoffset() or timedelta())
    return here.replace(tzinfo=None) - max(back, timedelta())


def _to_instants(wall_time: datetime, zone: ZoneInfo, *, is_hourly: bool) -> list[datetime]:
    """Returns the moments at which a wall-clock time is due: one, or by the rules above none or two."""
    if not is_hourly:
        return [resolve_wall_time(wall_time, zone)]
    first, second = _to_utc(wall_time, zone, fold=0), _to_utc(wall_time, zone, fold=1)
    return [first, second] if first <= second else []  # else it does not exist: the clock skips it


def _to_utc(wall_time: datetime, zone: ZoneInfo, *, fold: int) -> datetime:
    return wall_time.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _is_hourly(cron: str) -> bool:
    return cron.split()[1] in ("*", "*/1", "0-23")


@lru_cache(maxsize=256)
def _load_zone(timezone: str) -> ZoneInfo:
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"there is no time zone {timezone[:80]!r}", hint="a name of the IANA database, such as Europe/Berlin"
        ) from None
