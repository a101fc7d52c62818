"""What can end a wait: news from the host, news from the provider, a request to stop. One place to wait for all."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Signals:
    """Set from callbacks on the loop; a signal that comes while nobody waits is kept."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()
        self._woken = False
        self.stopping = False

    def stir(self) -> None:
        """Something happened; whoever waits should look."""
        self._stirred.set()

    def wake(self) -> None:
        """The host says that its file changed."""
        self._woken = True
        self.stir()

    def stop(self) -> None:
        """End soon."""
        self.stopping = True
        self.stir()

    def take_wake(self) -> bool:
        """Was there a wake since the last call?"""
        woken, self._woken = self._woken, False
        return woken

    async def wait(self, seconds: float | None) -> bool:
        """Wait for a signal, at most so long. False if none came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        stirred = self._stirred.is_set()
        self._stirred.clear()
        return stirred or self.stopping
