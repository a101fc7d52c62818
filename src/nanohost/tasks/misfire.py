"""What to do when a task is due: which of its times to run now, and when it is due next. Pure.

A time is late when nobody acted on it within a minute: no host ran, the machine slept, or the task was paused. What
becomes of late times is the task's misfire policy; the times to come are never moved by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.store.tasks import MisfirePolicy, Task
from nanohost.tasks.schedule import list_times_until, next_time

MISFIRE_GRACE = timedelta(seconds=60)
"""Less is on time: nobody waits for a host that starts again."""
MAX_CATCH_UP_RUNS = 10
MISSED_REASON = "nobody was there at its time"
OVERLAP_REASON = "the run before it had not ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One time that is put on record. `skip_reason`: why nothing is done about it."""

    due: datetime
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """`next_due` None: the task is done."""

    runs: tuple[PlannedRun, ...]
    next_due: datetime | None


def plan_runs(task: Task, now: datetime, *, is_running: bool) -> RunPlan:
    """For a task that is due. `is_running`: an earlier run has not ended, so a series does not begin another one, unless
    it makes up for all times. Raises UsageError if its time zone is gone."""
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
    """Those of the times due that are to run. `times`: in order, none after `now`."""
    match policy:
        case MisfirePolicy.LATEST:
            return times[-1:]
        case MisfirePolicy.ALL:
            return times[-MAX_CATCH_UP_RUNS:]
        case MisfirePolicy.SKIP:
            return [moment for moment in times if now - moment < MISFIRE_GRACE][-1:]
