"""Whether the model can be asked: tried when the host starts, and again as long as something is wrong.

Promises: what is wrong is logged and told to the owners at once, once a day and kind; messages go on being served,
since the way may be good again before we know. Never changes a setting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nanohost.clock import Clock
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.health import Complaint, Trouble

AGAIN_S = 60.0
"""Between two tries while something is wrong; no answer is waited for longer than the try's own limit."""
TOLD = frozenset({Trouble.NO_KEY, Trouble.KEY, Trouble.ADDRESS})
"""What owners are told in their chats: a network that is away comes back by itself, and status says it meanwhile."""


class ModelWatch:
    """One per host. `is_asked`: whether any agent asks the model at all; `tell` is awaited with what owners hear."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        clock: Clock,
        is_asked: Callable[[], Awaitable[bool]],
        tell: Callable[[Complaint], Awaitable[None]],
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._is_asked = is_asked
        self._tell = tell
        self._tried = asyncio.Event()

    async def run(self) -> None:
        """Try once, then whenever something is wrong, until it is not."""
        if await self._is_asked():
            await self._gateway.check()
        self._tried.set()
        told: Complaint | None = None
        while True:
            complaint = await self._gateway.health.complained()
            if complaint.trouble in TOLD and complaint != told:
                await self._tell(complaint)
                told = complaint
            await self._clock.sleep(AGAIN_S)
            if await self._gateway.check() is None:
                told = None

    async def tried(self, limit_s: float) -> Complaint | None:
        """What the first try found, if it ends in time."""
        try:
            async with asyncio.timeout(limit_s):
                await self._tried.wait()
        except TimeoutError:
            return None
        return self._gateway.health.standing.complaint
