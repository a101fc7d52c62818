"""What to do when a task is due: which of its times to run now, and when it is due next. Pure.

A time is late when nobody acted on it within a minute: no host ran, the machine slept, or the task was paused. What
becomes of late times is the task's misfire policy; the times to come are never moved by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.store.tasks import Misfire, Task
from nanohost.tasks.schedule import next_time, times_until

GRACE = timedelta(seconds=60)
"""Less is on time: nobody waits for a host that starts again."""
MOST_MADE_UP = 10
MISSED = "nobody was there at its time"
STILL_RUNNING = "the run before it had not ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One time that is put on record. `skipped`: why nothing is done about it."""

    due: datetime
    skipped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`next_due` None: the task is done."""

    runs: tuple[Planned, ...]
    next_due: datetime | None


def plan(task: Task, now: datetime, *, running: bool) -> Plan:
    """For a task that is due. `running`: an earlier run has not ended, so a series does not begin another one, unless
    it makes up for all times. Raises UsageError if its time zone is gone."""
    assert task.next_due is not None
    if task.cron is None:
        missed = task.misfire is Misfire.SKIP and now - task.next_due >= GRACE
        return Plan(runs=(Planned(due=task.next_due, skipped=MISSED if missed else None),), next_due=None)
    times = times_until(task.cron, task.timezone, task.next_due, now, most=MOST_MADE_UP)
    chosen = to_run(times, now, task.misfire)
    waits = running and not (task.misfire is Misfire.ALL and len(chosen) > 1)
    return Plan(
        runs=tuple(Planned(due=due, skipped=STILL_RUNNING if waits else None) for due in chosen),
        next_due=next_time(task.cron, task.timezone, times[-1]),
    )


def to_run(times: Sequence[datetime], now: datetime, policy: Misfire) -> Sequence[datetime]:
    """Those of the times due that are to run. `times`: in order, none after `now`."""
    match policy:
        case Misfire.LATEST:
            return times[-1:]
        case Misfire.ALL:
            return times[-MOST_MADE_UP:]
        case Misfire.SKIP:
            return [moment for moment in times if now - moment < GRACE][-1:]
