"""A clock on which pauses pass faster: minutes of growing pauses in a second of test."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from nanohost.testing.time_limits import scaled_timeout


class AcceleratedClock:
    """Satisfies nanohost.clock.Clock. `now` is real, because runners use the machine's clock; durations are
    accelerated. Less so on a busy machine: the host's own timeouts use this clock, and slow processes would miss them.
    """

    def __init__(self, factor: float = 50.0) -> None:
        """`factor`: how many seconds pass in one, on an idle machine."""
        self.factor = factor / scaled_timeout(1)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() * self.factor

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.factor)
