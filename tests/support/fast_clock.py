"""A clock on which pauses pass faster than they do: minutes of growing pauses in a second of test."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from nanohost.testing.time_limits import scaled_timeout


class AcceleratedClock:
    """Satisfies nanohost.clock.Clock. `now` is true, because runners have the machine's clock; the rest is hasty.

    It is less hasty on a machine that is busy: the host's own limits pass on it, and processes that are starved would
    miss them.
    """

    def __init__(self, factor: float = 50.0) -> None:
        """`factor`: how many seconds pass in one, on a quiet machine."""
        self.factor = factor / scaled_timeout(1)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() * self.factor

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.factor)
