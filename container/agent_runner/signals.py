"""Waits for whatever comes first: a change by the host, an event of the provider, or a request to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class RunnerSignals:
    """Signals that are set from callbacks on the loop; a signal without a waiting task is kept."""

    def __init__(self) -> None:
        self._notified = asyncio.Event()
        self._is_inbound_changed = False
        self.is_stopping = False

    def notify(self) -> None:
        """Ends the current or the next wait."""
        self._notified.set()

    def notify_inbound_changed(self) -> None:
        """Signals that the host has changed its file."""
        self._is_inbound_changed = True
        self.notify()

    def stop(self) -> None:
        """Requests the runner to stop."""
        self.is_stopping = True
        self.notify()

    def take_inbound_changed(self) -> bool:
        """Returns whether the host has changed its file since the last call."""
        woken, self._is_inbound_changed = self._is_inbound_changed, False
        return woken

    async def wait(self, seconds: float | None) -> bool:
        """Waits for a signal, at most `seconds`. Returns False if none came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._notified.wait()
        stirred = self._notified.is_set()
        self._notified.clear()
        return stirred or self.is_stopping
