"""The keeper's promises, with containers on paper and a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.port import Container
from nanohost.store import sessions
from tests.keeper.bench import Bench, PaperRuntime, keeping
from tests.support.hostile import junk
from tests.support.invariants import until


@asynccontextmanager
async def sweeping(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.keeper.sweep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def has_started(bench: Bench, count: int) -> bool:
    """So many containers were started, and the last one is known to the keeper."""
    slots = bench.keeper.containers()
    return len(bench.runtime.started) == count and bool(slots) and slots[0].container is not None


def has_died(bench: Bench, session: SessionId, count: int) -> bool:
    return bench.keeper._pauses.in_a_row(session) == count


@pytest.mark.behaviour("SE-01")
async def test_wakes_of_one_session_join(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        for _ in range(20):
            bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        for _ in range(20):
            bench.keeper.wake(session.id)
        assert bench.keeper.waiting() == ()
        assert len(bench.runtime.started) == 1


@pytest.mark.behaviour("SE-01")
async def test_a_container_that_was_stopped_is_buried_once_though_two_bring_the_news(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(lambda: bool(bench.runtime.living))
        await bench.keeper.stop_all()
        assert bench.services.detached == [session.id]
        assert (await sessions.get(bench.store, session.id)).lease is None


@pytest.mark.behaviour("SE-01")
async def test_a_death_that_is_told_late_does_not_touch_the_next_container(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench, sweeping(bench):
        await bench.session("a")
        bench.keeper._kick.set()
        await until(partial(has_started, bench, 1))
        first = bench.runtime.started[0]
        bench.runtime.die(first)
        await until(partial(has_started, bench, 2))
        bench.keeper.on_death(first)
        await until(lambda: not bench.keeper._deaths.busy())
        [slot] = bench.keeper.containers()
        assert slot.lease == bench.runtime.started[1].lease


@pytest.mark.behaviour("SE-08")
async def test_a_container_that_dies_again_and_again_is_started_ever_later_and_the_person_is_told(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench, sweeping(bench):
        session = await bench.session("a")
        bench.keeper._kick.set()
        for count, pause_s in enumerate((0, 5, 10, 20), 1):
            await until(partial(has_started, bench, count))
            bench.runtime.die(bench.runtime.living[0])
            await until(partial(has_died, bench, session.id, count))
            if pause_s:
                await bench.clock.somebody_sleeps()
                await bench.clock.advance(pause_s - 0.1)
                assert len(bench.runtime.started) == count
                await bench.clock.somebody_sleeps()
                await bench.clock.advance(0.2)
        assert len(bench.notices) == 1


@pytest.mark.behaviour("SE-03")
async def test_at_the_start_the_dead_are_freed_the_living_adopted_and_strangers_stopped(tmp_path: Path) -> None:
    runtime = PaperRuntime()
    async with keeping(tmp_path, runtime) as bench:
        alive, dead = [await bench.session(name) for name in ("alive", "dead")]
        for session in (alive, dead):
            bench.keeper.wake(session.id)
        await until(lambda: len(runtime.living) == 2 and all(s.container for s in bench.keeper.containers()))
        [kept] = [one for one in runtime.living if one.session_id == alive.id]
    stranger = Container(session_id=alive.id, lease=LeaseId("of another time"), state={})
    runtime.living = [kept, stranger]
    junk(bench.mailboxes.layout(dead))
    async with keeping(tmp_path, runtime) as bench:
        assert runtime.living == [kept]
        assert [slot.lease for slot in bench.keeper.containers()] == [kept.lease]
        assert [session.id for session in await sessions.leased(bench.store)] == [alive.id]


@pytest.mark.behaviour("SE-04")
async def test_no_more_than_the_most_run_and_the_rest_waits_in_order(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime(), max_containers=1) as bench:
        ids = [(await bench.session(name)).id for name in "abc"]
        for id in ids:
            bench.keeper.wake(id)
        assert bench.keeper.waiting() == tuple(ids[1:])
        for count in (1, 2, 3):
            await until(partial(has_started, bench, count))
            assert [one.session_id for one in bench.runtime.started] == ids[:count]
            bench.runtime.die(bench.runtime.living[0])
