"""A host that is killed while it starts a task: every run starts nevertheless, and once."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.times import to_text
from tests.crash.measurements import wait_until_done
from tests.crash.scenario import CrashScenario, prepare_scenario

LIVES = 2
RUNS = "SELECT task_id, due, outcome FROM task_runs ORDER BY id"


@pytest.mark.behaviour("TK-02")
@pytest.mark.parametrize("point", ["scheduler.decided", "scheduler.written", "scheduler.recorded"])
async def test_a_task_due_when_the_host_was_killed_runs_once(tmp_path: Path, point: str) -> None:
    async with prepare_scenario(point, tmp_path / "home", chats=1, settings={"runtime": "process"}) as scene:
        await _conversation(scene)
        await _create(scene, "--prompt", "hourly", "--cron", "0 * * * *", "--misfire", "all")
        _let_hours_pass(scene, 2)
        for life in range(LIVES):
            await _create(scene, "--prompt", f"job {life}", "--at", "in 0s")
            scene.host.start(crash_at=point)
            assert await asyncio.to_thread(scene.host.wait_for_exit, scaled_timeout(HANG_TIMEOUT_S)) == -signal.SIGKILL
        scene.host.start()
        await scene.wait_until("every run has ended", lambda: _all_ended(scene))
        runs = _central(scene, RUNS)
        await wait_until_done(scene.host.root)
        assert await asyncio.to_thread(scene.host.stop) == 0
        checked = await asyncio.to_thread(scene.host.command, "verify")
        assert checked.returncode == 0, checked.stdout
    assert {outcome for _, _, outcome in runs} == {"completed"}
    assert len({(task, due) for task, due, _ in runs}) == len(runs)
    seen = Counter(copy.text for copy in scene.platform.seen)
    hourly = [due for _, due, _ in runs if due.endswith(":00:00.000000Z")]
    assert len(hourly) >= 3
    assert seen["echo: hourly"] == len(hourly)
    assert [seen[f"echo: job {life}"] for life in range(LIVES)] == [1] * LIVES


async def _conversation(scene: CrashScenario) -> None:
    """A conversation, without a host."""
    scene.host.start()
    scene.workload.write()
    scene.workload.write()
    await scene.wait_until_answered()
    await scene.wait_until("the words are taken over", scene.host.is_ready)
    assert await asyncio.to_thread(scene.host.stop) == 0
    scene.platform.seen.clear()


async def _create(scene: CrashScenario, *words: str) -> None:
    done = await asyncio.to_thread(scene.host.command, "tasks", "create", "--group", "main", *words)
    assert done.returncode == 0, done.stderr


def _let_hours_pass(scene: CrashScenario, hours: int) -> None:
    """Let the recurring task have been checked before that."""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with closing(sqlite3.connect(_database(scene))) as db, db:
        db.execute(
            "UPDATE tasks SET next_due = ? WHERE cron IS NOT NULL", (to_text(this_hour - timedelta(hours=hours)),)
        )


def _all_ended(scene: CrashScenario) -> bool:
    runs = _central(scene, RUNS)
    waiting = _central(scene, "SELECT 1 FROM deliveries WHERE status IN ('pending', 'sending')")
    due = _central(scene, "SELECT 1 FROM tasks WHERE status = 'active' AND next_due <= ?", to_text(datetime.now(UTC)))
    return bool(runs) and all(outcome for _, _, outcome in runs) and not waiting and not due


def _central(scene: CrashScenario, query: str, *values: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(f"file:{_database(scene)}?mode=ro", uri=True)) as db:
        return db.execute(query, values).fetchall()


def _database(scene: CrashScenario) -> Path:
    return scene.host.root / "data" / "nanohost.db"
