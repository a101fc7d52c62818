"""Keyed workers: never two for one key, no notification lost, failures retried with growing pauses."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from nanohost.errors import StoreError
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work.keyed_workers import INITIAL_BACKOFF_S, MAX_BACKOFF_S, KeyedWorkers


class WorkersHarness:
    """Work that waits at a gate, fails when told to, and counts its concurrent runs."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lanes = KeyedWorkers[str]("test", self.work, self.clock)
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.failures: Counter[str] = Counter()
        self.error: BaseException = StoreError("the disk refuses")
        self.gates: dict[str, asyncio.Event] = {}
        self._at_work: Counter[str] = Counter()
        self._change = asyncio.Event()

    async def work(self, key: str) -> None:
        self._at_work[key] += 1
        assert self._at_work[key] == 1, "two workers at one key"
        self.begun.append(key)
        self._change.set()
        try:
            if key in self.gates:
                await self.gates[key].wait()
            if self.failures[key]:
                self.failures[key] -= 1
                raise self.error
            self.ended.append(key)
        finally:
            self._at_work[key] -= 1
            self._change.set()

    async def until_begun(self, count: int) -> None:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while len(self.begun) < count:
                self._change.clear()
                await self._change.wait()

    async def until_ended(self, key: str) -> None:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while key not in self.ended:
                self._change.clear()
                await self._change.wait()

    async def until_idle(self) -> None:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while self.lanes.active_count():
                self._change.clear()
                await self._change.wait()
                await asyncio.sleep(0)  # the worker ends after its work


@pytest.fixture
def shop() -> WorkersHarness:
    return WorkersHarness()


async def test_a_notification_is_handled_once(shop: WorkersHarness) -> None:
    async with shop.lanes.opened():
        shop.lanes.notify("a")
        await shop.until_idle()
        assert shop.begun == ["a"]
        shop.lanes.notify("a")
        await shop.until_idle()
    assert shop.begun == ["a", "a"]


async def test_notifications_before_the_work_begins_are_merged(shop: WorkersHarness) -> None:
    async with shop.lanes.opened():
        for _ in range(5):
            shop.lanes.notify("a")
        await shop.until_idle()
    assert len(shop.begun) <= 2


async def test_notifications_during_work_cause_one_more_run(shop: WorkersHarness) -> None:
    shop.gates["a"] = asyncio.Event()
    async with shop.lanes.opened():
        shop.lanes.notify("a")
        await shop.until_begun(1)
        for _ in range(5):
            shop.lanes.notify("a")
        shop.gates["a"].set()
        await shop.until_idle()
    assert shop.begun == ["a", "a"]


async def test_a_key_is_active_from_its_notification_until_its_work_is_done_pauses_included(
    shop: WorkersHarness,
) -> None:
    shop.failures["a"] = 1
    async with shop.lanes.opened():
        assert not shop.lanes.is_active("a")
        shop.lanes.notify("a")
        assert shop.lanes.is_active("a")
        await shop.clock.wait_for_sleeper()
        assert shop.lanes.is_active("a")
        await shop.clock.advance(INITIAL_BACKOFF_S)
        await shop.until_idle()
        assert not shop.lanes.is_active("a")
    assert shop.ended == ["a"]


async def test_different_keys_do_not_wait_for_each_other(shop: WorkersHarness) -> None:
    shop.gates["slow"] = asyncio.Event()
    async with shop.lanes.opened():
        shop.lanes.notify("slow")
        shop.lanes.notify("quick")
        await shop.until_ended("quick")
        assert shop.lanes.active_count() == 1
        shop.gates["slow"].set()
        await shop.until_idle()


@pytest.mark.behaviour("IN-03")
@pytest.mark.parametrize(
    "error",
    [StoreError("expected"), RuntimeError("a bug"), asyncio.CancelledError("a library's own")],
    ids=["expected", "bug", "stray cancellation"],
)
async def test_failing_work_is_retried_with_growing_pauses(shop: WorkersHarness, error: BaseException) -> None:
    shop.failures["a"], shop.error = 12, error
    pauses = []
    async with shop.lanes.opened():
        shop.lanes.notify("a")
        for _ in range(12):
            await shop.clock.wait_for_sleeper()
            (pause,) = shop.clock.remaining_sleeps_s()
            pauses.append(pause)
            await shop.clock.advance(pause)
        await shop.until_idle()
    assert pauses == [min(INITIAL_BACKOFF_S * 2**n, MAX_BACKOFF_S) for n in range(12)]
    assert shop.ended == ["a"]


async def test_after_a_success_the_pauses_start_again(shop: WorkersHarness) -> None:
    async with shop.lanes.opened():
        for _ in range(2):
            shop.failures["a"] = 1
            shop.lanes.notify("a")
            await shop.clock.wait_for_sleeper()
            assert shop.clock.remaining_sleeps_s() == (INITIAL_BACKOFF_S,)
            await shop.clock.advance(INITIAL_BACKOFF_S)
            await shop.until_idle()


async def test_a_failing_key_does_not_affect_others(shop: WorkersHarness) -> None:
    shop.failures["bad"] = 1
    async with shop.lanes.opened():
        shop.lanes.notify("bad")
        await shop.clock.wait_for_sleeper()
        shop.lanes.notify("good")
        await shop.until_begun(2)
        await shop.clock.advance(INITIAL_BACKOFF_S)
        await shop.until_idle()
    assert shop.ended == ["good", "bad"]


async def test_notify_now_ends_a_pause_once_and_notify_ends_none(shop: WorkersHarness) -> None:
    shop.failures["a"] = 4
    async with shop.lanes.opened():
        shop.lanes.notify("a")
        await shop.clock.wait_for_sleeper()
        shop.lanes.notify("a")
        await shop.clock.advance(0)
        assert len(shop.begun) == 1
        shop.lanes.notify_now("a")
        await shop.until_begun(2)
        await shop.clock.advance(0)
        assert len(shop.begun) == 2
        assert 2 * INITIAL_BACKOFF_S in shop.clock.remaining_sleeps_s(), (
            "it failed again: nobody is to do that without a pause"
        )
        await shop.clock.advance(2 * INITIAL_BACKOFF_S)
        assert len(shop.begun) == 3


async def test_notify_now_during_failing_work_is_not_delayed(shop: WorkersHarness) -> None:
    shop.failures["a"] = 1
    shop.gates["a"] = asyncio.Event()
    async with shop.lanes.opened():
        shop.lanes.notify("a")
        await shop.until_begun(1)
        shop.lanes.notify_now("a")
        shop.gates["a"].set()
        await shop.until_ended("a")
        await shop.until_idle()
        shop.lanes.notify_now("a")
        await shop.until_idle()
    assert shop.begun == ["a", "a", "a"]


async def test_closing_ends_a_pause_at_once(shop: WorkersHarness) -> None:
    shop.failures["a"] = 1
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        async with shop.lanes.opened(grace_s=60):
            shop.lanes.notify("a")
            await shop.clock.wait_for_sleeper()
    assert (shop.begun, shop.ended, shop.lanes.active_count()) == (["a"], [], 0)


async def test_a_sleep_inside_work_returns_whether_to_continue() -> None:
    clock, answers = ManualClock(), list[bool]()

    async def work(key: str) -> None:
        while await lanes.sleep(10):
            answers.append(True)
        answers.append(False)

    lanes = KeyedWorkers[str]("test", work, clock)
    async with lanes.opened():
        lanes.notify("a")
        await clock.wait_for_sleeper()
        await clock.advance(10)
        assert answers == [True]
        await clock.wait_for_sleeper()
    assert answers == [True, False]


async def test_closing_lets_work_in_progress_finish_and_accepts_nothing_new(shop: WorkersHarness) -> None:
    shop.gates["a"] = asyncio.Event()
    async with shop.lanes.opened(grace_s=60):
        shop.lanes.notify("a")
        await shop.until_begun(1)
        shop.lanes.notify("a")
        asyncio.get_running_loop().call_soon(shop.gates["a"].set)
    shop.lanes.notify("b")
    assert (shop.begun, shop.ended, shop.lanes.active_count()) == (["a"], ["a"], 0)


async def test_work_longer_than_the_grace_period_is_cancelled(shop: WorkersHarness) -> None:
    shop.gates["a"] = asyncio.Event()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        async with shop.lanes.opened(grace_s=0.01):
            shop.lanes.notify("a")
            await shop.until_begun(1)
    assert (shop.ended, shop.lanes.active_count()) == ([], 0)


async def test_keyed_workers_can_be_opened_again(shop: WorkersHarness) -> None:
    shop.lanes.notify("before")
    for _ in range(2):
        async with shop.lanes.opened():
            shop.lanes.notify("a")
            await shop.until_idle()
    assert shop.ended == ["a", "a"]


async def test_a_notification_during_closing_is_not_kept(shop: WorkersHarness) -> None:
    async with shop.lanes.opened(grace_s=0):
        shop.lanes.notify("a")
    assert shop.lanes.active_count() == 0
    async with shop.lanes.opened():
        shop.lanes.notify("a")
        await shop.until_idle()
    assert shop.ended[-1] == "a"


async def test_a_notification_ends_the_interruptible_sleep_of_its_key_only() -> None:
    looks: list[str] = []
    clock, looked = ManualClock(), asyncio.Event()
    an_hour = 3600

    async def work(key: str) -> None:
        while True:
            looks.append(key)
            looked.set()
            if looks == ["a", "b"]:
                lanes.notify("b")  # before it has fallen asleep
            if await lanes.wait(key, an_hour) or lanes.is_closing:
                return

    async def until_looked(count: int) -> None:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while len(looks) < count:
                looked.clear()
                await looked.wait()

    lanes = KeyedWorkers[str]("test", work, clock)
    async with lanes.opened():
        lanes.notify("a")
        lanes.notify("b")
        await until_looked(3)
        lanes.notify("a")
        await until_looked(4)
    assert looks == ["a", "b", "b", "a"]
