"""How a task handles missed times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nanohost.db.tasks import MisfirePolicy, Task
from nanohost.model import TaskId
from nanohost.scheduler.schedule import MISSED_REASON, OVERLAP_REASON, plan_runs
from tests.support.rows import make_active_task

NINE = datetime(2026, 1, 1, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def task(misfire: MisfirePolicy, cron: str | None = "0 * * * *") -> Task:
    return make_active_task(NINE, id=TaskId("jtask"), cron=cron, misfire=misfire)


def hours(*numbers: int) -> list[datetime]:
    return [NINE.replace(hour=0) + number * HOUR for number in numbers]


@pytest.mark.behaviour("TK-03")
@pytest.mark.parametrize(
    ("misfire", "late", "expected"),
    [
        (MisfirePolicy.LATEST, timedelta(0), hours(9)),
        (MisfirePolicy.ALL, timedelta(0), hours(9)),
        (MisfirePolicy.SKIP, timedelta(0), hours(9)),
        (MisfirePolicy.SKIP, timedelta(seconds=59), hours(9)),
        (MisfirePolicy.SKIP, timedelta(seconds=60), []),
        (MisfirePolicy.LATEST, timedelta(hours=2, minutes=30), hours(11)),
        (MisfirePolicy.ALL, timedelta(hours=2, minutes=30), hours(9, 10, 11)),
        (MisfirePolicy.SKIP, timedelta(hours=2, minutes=30), []),
        (MisfirePolicy.SKIP, timedelta(hours=2, seconds=30), hours(11)),
        (MisfirePolicy.ALL, timedelta(hours=30), hours(*range(30, 40))),
    ],
)
def test_a_recurring_task_makes_up_for_missed_times_by_its_policy(
    misfire: MisfirePolicy, late: timedelta, expected: list[datetime]
) -> None:
    now = NINE + late
    found = plan_runs(task(misfire), now, is_running=False)
    assert [run.due for run in found.runs] == expected
    assert all(run.skip_reason is None for run in found.runs)
    assert found.next_due is not None
    assert now < found.next_due <= now + HOUR
    assert found.next_due.minute == 0


@pytest.mark.behaviour("TK-03")
@pytest.mark.parametrize(
    ("misfire", "late_s", "skipped"),
    [
        (MisfirePolicy.LATEST, 0, None),
        (MisfirePolicy.LATEST, 86_400, None),
        (MisfirePolicy.ALL, 86_400, None),
        (MisfirePolicy.SKIP, 59, None),
        (MisfirePolicy.SKIP, 60, MISSED_REASON),
    ],
)
def test_a_one_time_task_runs_after_its_time(misfire: MisfirePolicy, late_s: int, skipped: str | None) -> None:
    found = plan_runs(task(misfire, cron=None), NINE + timedelta(seconds=late_s), is_running=True)
    assert [(run.due, run.skip_reason) for run in found.runs] == [(NINE, skipped)]
    assert found.next_due is None


@pytest.mark.behaviour("TK-02")
def test_a_recurring_task_is_skipped_while_its_last_run_continues() -> None:
    found = plan_runs(task(MisfirePolicy.LATEST), NINE, is_running=True)
    assert [run.skip_reason for run in found.runs] == [OVERLAP_REASON]
    assert found.next_due == NINE + HOUR


def test_with_policy_all_missed_times_run_even_while_a_run_continues() -> None:
    found = plan_runs(task(MisfirePolicy.ALL), NINE + 2 * HOUR, is_running=True)
    assert [run.skip_reason for run in found.runs] == [None, None, None]
