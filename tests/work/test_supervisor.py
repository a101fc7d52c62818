"""Services: restarted with growing pauses, visible, stopped in reverse order, and a critical one that must not fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from nanohost.errors import RuntimeUnavailable
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work.supervisor import Service, ServiceState, Supervisor


def supervisor(clock: ManualClock, *, jitter: float = 0.5, stop_limit_s: float = 5.0) -> Supervisor:
    return Supervisor(clock, jitter=lambda: jitter, stop_timeout_s=stop_limit_s)


def failing(error: Exception) -> Callable[[], Awaitable[None]]:
    async def service() -> None:
        raise error

    return service


async def for_ever() -> None:
    await asyncio.Event().wait()


def only(found: Supervisor) -> Service:
    [service] = found.services()
    return service


async def test_a_failing_service_is_restarted_after_pauses_growing_to_a_minute() -> None:
    clock, pauses = ManualClock(), []
    async with supervisor(clock) as running:
        running.start("telegram", failing(RuntimeUnavailable("no network")))
        for _ in range(8):
            await clock.wait_for_sleeper()
            pauses.append(clock.remaining_sleeps_s()[0])
            await clock.advance(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_restart_pauses_start_again_after_a_healthy_minute() -> None:
    clock, lives = ManualClock(), iter([0, 0, 60, 0])

    async def service() -> None:
        await clock.sleep(next(lives))

    async with supervisor(clock) as running:
        running.start("telegram", service)
        await clock.wait_for_sleeper()
        await clock.advance(1)
        await clock.advance(2)
        assert clock.remaining_sleeps_s() == (60,)
        await clock.advance(60)
        assert clock.remaining_sleeps_s() == (1,)


@pytest.mark.parametrize(("jitter", "pause_s"), [(0.0, 0.75), (1.0, 1.25)])
async def test_restart_pauses_are_jittered(jitter: float, pause_s: float) -> None:
    clock = ManualClock()
    async with supervisor(clock, jitter=jitter) as running:
        running.start("telegram", failing(RuntimeUnavailable("no network")))
        await clock.wait_for_sleeper()
        assert clock.remaining_sleeps_s() == (pause_s,)


async def test_the_state_of_a_service_is_visible() -> None:
    clock = ManualClock()
    outcomes = iter([failing(RuntimeUnavailable("no network")), for_ever])
    async with supervisor(clock) as running:
        running.start("telegram", lambda: next(outcomes)())
        assert only(running).state is ServiceState.RUNNING
        await clock.wait_for_sleeper()
        assert (only(running).state, only(running).error) == (ServiceState.RESTARTING, "no network")
        await clock.advance(1)
        assert (only(running).state, only(running).restarts) == (ServiceState.RUNNING, 1)
        assert (only(running).error, only(running).since) == ("no network", clock.now())
    assert only(running).state is ServiceState.STOPPED


async def test_a_service_that_returns_is_restarted() -> None:
    async def returns() -> None:
        return

    clock = ManualClock()
    async with supervisor(clock) as running:
        running.start("telegram", returns)
        await clock.wait_for_sleeper()
        assert only(running).error == "it ended by itself"


@pytest.mark.behaviour("OP-05")
async def test_an_expected_error_is_one_log_line_and_an_unexpected_one_has_its_traceback() -> None:
    clock, mistake = ManualClock(), ZeroDivisionError("oh")
    with capture_logs() as lines:
        async with supervisor(clock) as running:
            running.start("a", failing(RuntimeUnavailable("no network", hint="look at the cable")))
            running.start("b", failing(mistake))
            await clock.wait_for_sleeper()
            await clock.advance(0)
    expected, unexpected = (line for line in lines if line["event"] == "service_restarting")
    assert (expected["service"], expected["error"], expected["hint"]) == ("a", "no network", "look at the cable")
    assert expected["exc_info"] is None
    assert unexpected["exc_info"] is mistake


async def test_a_service_cancelled_by_a_library_is_restarted() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    clock = ManualClock()
    async with supervisor(clock) as running:
        running.start("telegram", cancelled)
        await clock.wait_for_sleeper()
        assert (only(running).state, clock.remaining_sleeps_s()) == (ServiceState.RESTARTING, (1,))
    assert only(running).state is ServiceState.STOPPED


async def test_a_failing_service_does_not_affect_others() -> None:
    clock = ManualClock()
    async with supervisor(clock) as running:
        running.start("bad", failing(RuntimeUnavailable("no")))
        running.start("good", for_ever)
        await clock.wait_for_sleeper()
        assert [service.state for service in running.services()] == [ServiceState.RESTARTING, ServiceState.RUNNING]


async def test_a_failing_critical_service_is_reported_and_not_restarted() -> None:
    clock = ManualClock()
    async with supervisor(clock) as running:
        running.start("writer", failing(RuntimeUnavailable("disk full")), critical=True)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            failure = await running.wait_for_failure()
        assert (failure.name, failure.message) == ("writer", "disk full")
        assert clock.remaining_sleeps_s() == ()
    assert only(running).state is ServiceState.FAILED


async def test_services_are_stopped_one_by_one_in_reverse_order() -> None:
    stopped: list[str] = []

    def service(name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            try:
                await for_ever()
            finally:
                await asyncio.sleep(0)
                stopped.append(name)

        return run

    async with supervisor(ManualClock()) as running:
        for name in ("store", "keeper", "channel"):
            running.start(name, service(name))
        await asyncio.sleep(0)
    assert stopped == ["channel", "keeper", "store"]


async def test_a_service_that_does_not_stop_in_time_is_named_and_abandoned() -> None:
    let_go = asyncio.Event()
    begun = asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            await for_ever()
        finally:
            await let_go.wait()

    with capture_logs() as lines:
        async with supervisor(ManualClock(), stop_limit_s=0.01) as running:
            running.start("stubborn", stubborn)
            await begun.wait()
    assert [(line["event"], line["services"]) for line in lines] == [("service_stop_timed_out", ["stubborn"])]
    let_go.set()
    await asyncio.sleep(0)
