"""Tasks due during a pause: nothing is decided then; afterwards they are handled as after a night without a host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.db import paused
from nanohost.db.tasks import MisfirePolicy
from nanohost.testing.manual_clock import START, ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.scheduler.harness import run_scheduler

HOUR_S = 3600.0


@pytest.mark.behaviour("SE-12", "TK-03")
@pytest.mark.parametrize(
    ("misfire", "hours"), [(MisfirePolicy.LATEST, [3]), (MisfirePolicy.ALL, [1, 2, 3]), (MisfirePolicy.SKIP, [])]
)
async def test_a_task_due_during_a_pause_runs_after_it_by_its_policy(
    tmp_path: Path, misfire: MisfirePolicy, hours: Sequence[int]
) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron="0 * * * *", misfire=misfire)
        await bench.wait_until_idle()
        async with bench.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=bench.clock.now(), place=None)
        await bench.clock.advance(3 * HOUR_S + 1800)
        await bench.wait_until_idle()
        assert await bench.runs(task) == []
        assert (await bench.read_task(task)).next_due == START + timedelta(hours=1)
        async with bench.store.transaction() as tx:
            await paused.end(tx)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while (await bench.read_task(task)).next_due != START + timedelta(hours=4):  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0)
        runs = await bench.wait_for_started(task, len(hours))
        assert [run.due for run in runs] == [START + timedelta(hours=hour) for hour in hours]
