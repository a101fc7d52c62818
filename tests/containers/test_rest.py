"""A paused container manager: it starts nothing, stops what runs, and nobody is told that their message is late."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from nanohost.containers.pool import STOP_GRACE_S, SlotState
from nanohost.db import paused
from nanohost.runtimes.runtime_api import Container, ContainerSpec
from tests.containers.harness import FakeRuntime, run_manager
from tests.containers.test_manager import has_started, sweeping
from tests.containers.test_overdue_monitor import DEADLINE_S, late_messages_found, overdue_monitor, sent_notices
from tests.support.invariants import wait_until


class SlowToStartRuntime(FakeRuntime):
    """A container is up when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.ready = asyncio.Event()

    async def start(self, spec: ContainerSpec) -> Container:
        self.asked.set()
        await self.ready.wait()
        return await super().start(spec)


@pytest.mark.behaviour("SE-12")
async def test_nothing_starts_during_a_pause_and_everything_queued_starts_after_it(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, sweeping(bench):
        bench.manager.pause()
        sessions = [await bench.add_session(name) for name in ("a", "b")]
        for session in sessions:
            bench.manager.wake(session.id)
        bench.manager._sweep_wakeup.set()
        await bench.clock.wait_for_sleeper()
        assert bench.runtime.started_specs == []
        assert set(bench.manager.queued()) == {session.id for session in sessions}
        bench.manager.resume()
        await wait_until(lambda: len(bench.runtime.started_specs) == 2)


@pytest.mark.behaviour("SE-12")
async def test_a_pause_stops_running_containers_without_a_failure_and_resume_restarts_them(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        bench.manager.pause()
        bench.manager.interrupt()
        await wait_until(lambda: not bench.manager.containers())
        bench.manager.wake(session.id)
        assert (bench.runtime.living, bench.manager.failures()) == ([], {})
        bench.manager.resume()
        await wait_until(partial(has_started, bench, 2))


@pytest.mark.behaviour("SE-12")
async def test_a_container_still_starting_when_a_pause_begins_is_stopped_once_it_is_up(tmp_path: Path) -> None:
    runtime = SlowToStartRuntime()
    async with run_manager(tmp_path, runtime) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await runtime.asked.wait()
        bench.manager.pause()
        bench.manager.interrupt()
        assert [slot.state for slot in bench.manager.containers()] == [SlotState.STARTING]
        runtime.ready.set()
        await wait_until(lambda: not bench.manager.containers())
        assert (len(runtime.started_specs), runtime.living) == (1, [])


@pytest.mark.behaviour("SE-12", "SE-07")
async def test_a_container_that_started_during_a_pause_has_its_full_grace_period_later(
    tmp_path: Path,
) -> None:
    runtime = SlowToStartRuntime()
    async with run_manager(tmp_path, runtime) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await runtime.asked.wait()
        bench.manager.pause()
        bench.manager.interrupt()
        bench.manager.resume()
        runtime.ready.set()
        await wait_until(partial(has_started, bench, 1))
        assert [slot.grace_s for slot in bench.manager.containers()] == [STOP_GRACE_S]


@pytest.mark.behaviour("SE-12")
async def test_no_message_counts_as_late_during_a_pause_or_just_after_it(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        await bench.add_session("a")
        monitor = overdue_monitor(bench)
        async with bench.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=bench.clock.now(), place=None)
        await bench.clock.advance(DEADLINE_S + 1)
        await monitor.check()
        async with bench.store.transaction() as tx:
            await paused.end(tx)
        await bench.clock.advance(DEADLINE_S - 1)
        await monitor.check()
        assert (await late_messages_found(bench), await sent_notices(bench)) == ([], [])
        await bench.clock.advance(2)
        await monitor.check()
        assert len(await late_messages_found(bench)) == 1
