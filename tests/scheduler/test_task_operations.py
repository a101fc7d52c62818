"""What can be done to a task, and what cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanohost.db.tasks import TaskKind, TaskStatus
from nanohost.errors import UsageError
from nanohost.model import TaskId
from nanohost.scheduler import task_operations
from nanohost.scheduler.task_operations import MAX_OPEN_TASKS
from nanohost.testing.manual_clock import START, ManualClock
from tests.scheduler.harness import CHAT, SchedulerHarness, run_scheduler

LATER = START + timedelta(hours=5)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SchedulerHarness]:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        yield bench


@pytest.mark.behaviour("TK-05")
async def test_creating_a_task_twice_makes_one(bench: SchedulerHarness) -> None:
    first = await bench.add_task(in_s=60)
    again = await bench.add_task(in_s=600)
    assert again.next_due == first.next_due
    assert len(await task_operations.list_open(bench.store, first.session_id)) == 1


@pytest.mark.behaviour("TK-05")
async def test_a_paused_task_can_be_resumed_and_a_cancelled_one_cannot(bench: SchedulerHarness) -> None:
    task = await bench.add_task(cron="0 * * * *")
    async with bench.store.transaction() as tx:
        assert (await task_operations.pause(tx, task.id, START)).status is TaskStatus.PAUSED
        assert (await task_operations.pause(tx, task.id, START)).status is TaskStatus.PAUSED
        resumed = await task_operations.resume(tx, task.id, LATER)
        assert (resumed.status, resumed.next_due) == (TaskStatus.ACTIVE, task.next_due)
        assert (await task_operations.cancel(tx, task.id, LATER)).status is TaskStatus.CANCELLED
        assert (await task_operations.cancel(tx, task.id, LATER)).status is TaskStatus.CANCELLED
        for change in (task_operations.pause, task_operations.resume):
            with pytest.raises(UsageError, match="cancelled"):
                await change(tx, task.id, LATER)
        with pytest.raises(UsageError, match="cancelled"):
            await task_operations.update(tx, task.id, prompt="more", now=LATER)
        with pytest.raises(UsageError, match="no task"):
            await task_operations.cancel(tx, TaskId("jnone"), LATER)
    assert await task_operations.list_open(bench.store, task.session_id) == []


@pytest.mark.behaviour("TK-05")
async def test_an_updated_time_replaces_the_old_one(bench: SchedulerHarness) -> None:
    task = await bench.add_task(cron="0 9 * * *")
    async with bench.store.transaction() as tx:
        moved = await task_operations.update(tx, task.id, timezone="Asia/Tokyo", now=START)
        assert moved.next_due == datetime(2026, 1, 2, 0, 0, tzinfo=UTC)
        often = await task_operations.update(tx, task.id, cron="*/5 * * * *", now=START)
        assert (often.cron, often.next_due) == ("*/5 * * * *", START + timedelta(minutes=5))
        once = await task_operations.update(tx, task.id, due=LATER, now=START)
        assert (once.cron, once.next_due) == (None, LATER)
        same = await task_operations.update(tx, task.id, prompt="Look again.", now=START)
        assert (same.content, same.next_due) == ("Look again.", LATER)


async def test_a_time_in_the_past_means_now(bench: SchedulerHarness) -> None:
    task = await bench.add_task(in_s=-600)
    assert task.next_due == START


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"due": None}, "needs a time"),
        ({"cron": "@daily"}, "five fields"),
        ({"timezone": "Mars/Olympus"}, "time zone"),
        ({"content": "  "}, "empty"),
        ({"content": "x" * 20_001}, "longer"),
        ({"kind": TaskKind.MESSAGE, "origin": None, "out_kind": "chat"}, "needs a chat"),
    ],
)
async def test_an_invalid_task_is_refused_with_a_sentence(
    bench: SchedulerHarness, wrong: dict[str, object], says: str
) -> None:
    session = await bench.add_session()
    given: dict[str, object] = {
        "id": TaskId("j1"),
        "session": session.id,
        "kind": TaskKind.AGENT,
        "content": "look",
        "out_kind": None,
        "due": LATER,
        "cron": None,
        "timezone": "UTC",
        "origin": CHAT,
        "created_by": "test",
        "now": START,
    } | wrong
    async with bench.store.transaction() as tx:
        with pytest.raises(UsageError, match=says) as refused:
            await task_operations.create(tx, **given)  # type: ignore[arg-type]
    assert refused.value.hint


async def test_a_session_has_a_limited_number_of_tasks(bench: SchedulerHarness) -> None:
    for number in range(MAX_OPEN_TASKS):
        await bench.add_task(f"j{number}", in_s=600)
    with pytest.raises(UsageError, match="tasks already"):
        await bench.add_task("jmore", in_s=600)
