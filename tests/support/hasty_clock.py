"""A clock on which pauses pass faster than they do: minutes of growing pauses in a second of test."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class HastyClock:
    """Satisfies nanohost.clock.Clock. `now` is true, because runners have the machine's clock; the rest is hasty."""

    def __init__(self, factor: float = 50.0) -> None:
        self._factor = factor

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() * self._factor

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self._factor)
