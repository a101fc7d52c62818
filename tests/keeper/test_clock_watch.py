"""A wall clock that was set back: what waits by the old one is brought forward."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nanohost.keeper.clock_watch import LOOK_EVERY_S, ClockWatch
from nanohost.model import SessionId
from nanohost.store import sessions
from nanohost.testing.manual_clock import ManualClock
from tests.keeper.bench import Bench, PaperRuntime, keeping

HOUR = timedelta(hours=1)
PAUSE = timedelta(seconds=40)


class SetClock:
    """A manual clock whose wall clock can be set; satisfies Clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.off = timedelta()

    def now(self) -> datetime:
        return self._clock.now() + self.off

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


async def retried_later(bench: Bench) -> SessionId:
    """A session whose one message is to be tried again after a pause."""
    session = await bench.session("c1")
    at = bench.clock.now() + PAUSE
    await bench.mailboxes.update(session, lambda box: box.retry("m-c1", tries=0, process_after=at))
    async with bench.store.transaction() as tx:
        await sessions.replace_due(tx, session.id, seen=session.due_at, due=at)
    return session.id


@pytest.mark.behaviour("SE-07")
@pytest.mark.parametrize(("set_by", "woken"), [(-HOUR, True), (HOUR, False), (timedelta(seconds=-2), False)])
async def test_a_retry_waits_its_pause_and_not_what_the_clock_was_set_back(
    tmp_path: Path, set_by: timedelta, woken: bool
) -> None:
    awake: asyncio.Queue[SessionId] = asyncio.Queue()
    async with keeping(tmp_path, PaperRuntime()) as bench:
        waits = await retried_later(bench)
        clock = SetClock(bench.clock)
        watch = ClockWatch(
            store=bench.store,
            mailboxes=bench.mailboxes,
            clock=clock,
            wake=awake.put_nowait,
            on_entry=bench.notices.append,
        )
        task = asyncio.create_task(watch.run())
        await bench.clock.somebody_sleeps()
        clock.off = set_by
        await bench.clock.advance(LOOK_EVERY_S)
        if woken:
            async with asyncio.timeout(5):
                assert await awake.get() == waits
            due = (await sessions.get(bench.store, waits)).due_at
            assert due is not None
            assert timedelta() < due - clock.now() <= PAUSE
        else:
            assert awake.empty()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
