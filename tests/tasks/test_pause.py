"""Tasks that fall due while all is paused: nothing is decided then; later all is as after a night without a host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.store import paused
from nanohost.store.tasks import Misfire
from nanohost.testing.limits import HANG_S, seconds
from nanohost.testing.manual_clock import START, ManualClock
from tests.tasks.bench import engine_in

HOUR_S = 3600.0


@pytest.mark.behaviour("SE-12", "TK-03")
@pytest.mark.parametrize(("misfire", "hours"), [(Misfire.LATEST, [3]), (Misfire.ALL, [1, 2, 3]), (Misfire.SKIP, [])])
async def test_what_falls_due_while_all_is_paused_waits_for_its_policy(
    tmp_path: Path, misfire: Misfire, hours: Sequence[int]
) -> None:
    async with engine_in(tmp_path, ManualClock()) as bench:
        task = await bench.task(cron="0 * * * *", misfire=misfire)
        await bench.rested()
        async with bench.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=bench.clock.now(), place=None)
        await bench.clock.advance(3 * HOUR_S + 1800)
        await bench.rested()
        assert await bench.runs(task) == []
        assert (await bench.as_it_is(task)).next_due == START + timedelta(hours=1)
        async with bench.store.transaction() as tx:
            await paused.end(tx)
        async with asyncio.timeout(seconds(HANG_S)):
            while (await bench.as_it_is(task)).next_due != START + timedelta(hours=4):  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0)
        runs = await bench.started(task, len(hours))
        assert [run.due for run in runs] == [START + timedelta(hours=hour) for hour in hours]
