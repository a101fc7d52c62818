"""A clock that stands still until a test moves it: whoever sleeps on it wakes when the test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
_YIELD_COUNT = 20
"""How often others get a turn after time moved: enough for a chain of awaits to reach its next sleep."""


class ManualClock:
    """Satisfies nanohost.clock.Clock."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._passed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._arrival = asyncio.Event()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """The wait begins now, and not when it is awaited: how long it is was reckoned from the present time."""
        if seconds <= 0:
            return asyncio.sleep(0)
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed_s + seconds, next(self._numbers), waker))
        self._arrival.set()
        return _wait_for(waker)

    def remaining_sleeps_s(self) -> tuple[float, ...]:
        """How many seconds each sleeper has left, the next to wake first."""
        return tuple(sorted(due - self._passed_s for due, _, waker in self._sleepers if not waker.done()))

    async def wait_for_sleeper(self, *, timeout_s: float = HANG_TIMEOUT_S) -> None:
        """Wait (in real time, at most `timeout_s`) until there is a sleeper."""
        async with asyncio.timeout(scaled_timeout(timeout_s)):
            while not self.remaining_sleeps_s():
                self._arrival.clear()
                await self._arrival.wait()

    async def advance(self, seconds: float) -> None:
        """Move time on. Sleepers wake in the order they fall due and may sleep again within the same move."""
        target = self._passed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            self._passed_s, _, waker = heapq.heappop(self._sleepers)
            if not waker.done():
                waker.set_result(None)
                await _yield_to_loop()
        self._passed_s = target
        await _yield_to_loop()


async def _wait_for(waker: asyncio.Future[None]) -> None:
    await waker


async def _yield_to_loop() -> None:
    for _ in range(_YIELD_COUNT):
        await asyncio.sleep(0)
