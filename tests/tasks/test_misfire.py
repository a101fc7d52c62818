"""What a task does about times that passed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nanohost.model import TaskId
from nanohost.store.tasks import Misfire, Task
from nanohost.tasks.misfire import MISSED, STILL_RUNNING, plan
from tests.support.rows import active_task

NINE = datetime(2026, 1, 1, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def task(misfire: Misfire, cron: str | None = "0 * * * *") -> Task:
    return active_task(NINE, id=TaskId("jtask"), cron=cron, misfire=misfire)


def hours(*numbers: int) -> list[datetime]:
    return [NINE.replace(hour=0) + number * HOUR for number in numbers]


@pytest.mark.behaviour("TK-03")
@pytest.mark.parametrize(
    ("misfire", "late", "expected"),
    [
        (Misfire.LATEST, timedelta(0), hours(9)),
        (Misfire.ALL, timedelta(0), hours(9)),
        (Misfire.SKIP, timedelta(0), hours(9)),
        (Misfire.SKIP, timedelta(seconds=59), hours(9)),
        (Misfire.SKIP, timedelta(seconds=60), []),
        (Misfire.LATEST, timedelta(hours=2, minutes=30), hours(11)),
        (Misfire.ALL, timedelta(hours=2, minutes=30), hours(9, 10, 11)),
        (Misfire.SKIP, timedelta(hours=2, minutes=30), []),
        (Misfire.SKIP, timedelta(hours=2, seconds=30), hours(11)),
        (Misfire.ALL, timedelta(hours=30), hours(*range(30, 40))),
    ],
)
def test_a_series_makes_up_for_what_its_policy_says(
    misfire: Misfire, late: timedelta, expected: list[datetime]
) -> None:
    now = NINE + late
    found = plan(task(misfire), now, running=False)
    assert [run.due for run in found.runs] == expected
    assert all(run.skipped is None for run in found.runs)
    assert found.next_due is not None
    assert now < found.next_due <= now + HOUR
    assert found.next_due.minute == 0


@pytest.mark.behaviour("TK-03")
@pytest.mark.parametrize(
    ("misfire", "late_s", "skipped"),
    [
        (Misfire.LATEST, 0, None),
        (Misfire.LATEST, 86_400, None),
        (Misfire.ALL, 86_400, None),
        (Misfire.SKIP, 59, None),
        (Misfire.SKIP, 60, MISSED),
    ],
)
def test_a_task_for_once_is_done_after_its_time(misfire: Misfire, late_s: int, skipped: str | None) -> None:
    found = plan(task(misfire, cron=None), NINE + timedelta(seconds=late_s), running=True)
    assert [(run.due, run.skipped) for run in found.runs] == [(NINE, skipped)]
    assert found.next_due is None


@pytest.mark.behaviour("TK-02")
def test_a_series_does_not_begin_while_its_last_run_goes_on() -> None:
    found = plan(task(Misfire.LATEST), NINE, running=True)
    assert [run.skipped for run in found.runs] == [STILL_RUNNING]
    assert found.next_due == NINE + HOUR


def test_all_times_missed_are_made_up_for_though_a_run_goes_on() -> None:
    found = plan(task(Misfire.ALL), NINE + 2 * HOUR, running=True)
    assert [run.skipped for run in found.runs] == [None, None, None]
