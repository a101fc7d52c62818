"""Defines the clock port. Decisions take `now` as an argument; code that waits takes a Clock.

All times are aware and in UTC. A time zone is applied only where text for people is made.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits. Tests use nanohost.testing.ManualClock."""

    def now(self) -> datetime:
        """Returns the wall clock time, aware, in UTC. It may jump; use `monotonic` for durations."""
        ...

    def monotonic(self) -> float:
        """Returns seconds since an arbitrary start; never decreases."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so long. Returns at once for zero and below."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
