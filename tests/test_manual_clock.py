"""The manual clock of tests: no sleeper wakes later than it asked for."""

from __future__ import annotations

import asyncio

from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout


async def test_a_sleep_computed_before_the_clock_moved_ends_with_that_move() -> None:
    clock = ManualClock()
    wait = clock.sleep(60)
    await clock.advance(3600)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        await wait
    assert clock.remaining_sleeps_s() == ()


async def test_sleepers_wake_in_order_of_their_time_and_may_sleep_again_within_one_move() -> None:
    clock, woken = ManualClock(), list[tuple[str, float]]()

    async def sleeper(name: str, *waits: float) -> None:
        for wait_s in waits:
            await clock.sleep(wait_s)
            woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("one", 30, 30))
        group.create_task(sleeper("other", 20, 30))
        await clock.wait_for_sleeper()
        await clock.advance(100)
    assert woken == [("other", 20), ("one", 30), ("other", 50), ("one", 60)]
