"""The clock port: decisions take `now` as an argument, and code that waits takes a Clock.

Times are aware and in UTC everywhere; a person's time zone is applied where text is made for a person.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is and how to wait. Tests replace it with nanohost.testing.ManualClock."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC. It may jump; use `monotonic` for durations."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero and below."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
