"""What can end a wait: news from the host, news from the provider, a request to stop. One place to wait for all."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class RunnerSignals:
    """Set from callbacks on the loop; a signal that comes while nobody waits is kept."""

    def __init__(self) -> None:
        self._notified = asyncio.Event()
        self._is_inbound_changed = False
        self.is_stopping = False

    def notify(self) -> None:
        """Something happened; whoever waits should look."""
        self._notified.set()

    def notify_inbound_changed(self) -> None:
        """The host says that its file changed."""
        self._is_inbound_changed = True
        self.notify()

    def stop(self) -> None:
        """End soon."""
        self.is_stopping = True
        self.notify()

    def take_inbound_changed(self) -> bool:
        """Was there a wake since the last call?"""
        woken, self._is_inbound_changed = self._is_inbound_changed, False
        return woken

    async def wait(self, seconds: float | None) -> bool:
        """Wait for a signal, at most so long. False if none came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._notified.wait()
        stirred = self._notified.is_set()
        self._notified.clear()
        return stirred or self.is_stopping
