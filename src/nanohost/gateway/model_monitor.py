"""Tries whether the model can be asked: when the host starts, and again as long as something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nanohost.clock import Clock
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_health import ModelProblem, ModelProblemKind

RETRY_INTERVAL_S = 60.0
"""Between two tries while something is wrong; no answer is waited for longer than the try's own limit."""
NOTIFIED_PROBLEMS = frozenset({ModelProblemKind.NO_KEY, ModelProblemKind.KEY_REJECTED, ModelProblemKind.WRONG_ADDRESS})
"""What owners are told in their chats: a network that is away comes back by itself, and status says it meanwhile."""


class ModelMonitor:
    """One per host. `is_model_used`: whether any agent asks the model at all; `notify_owners` is awaited with what
    owners hear."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        clock: Clock,
        is_model_used: Callable[[], Awaitable[bool]],
        notify_owners: Callable[[ModelProblem], Awaitable[None]],
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._is_model_used = is_model_used
        self._notify_owners = notify_owners
        self._first_check_done = asyncio.Event()

    async def run(self) -> None:
        """Try once, then whenever something is wrong, until it is not."""
        if await self._is_model_used():
            await self._gateway.check()
        self._first_check_done.set()
        told: ModelProblem | None = None
        while True:
            complaint = await self._gateway.health.wait_for_problem()
            if complaint.kind in NOTIFIED_PROBLEMS and complaint != told:
                await self._notify_owners(complaint)
                told = complaint
            await self._clock.sleep(RETRY_INTERVAL_S)
            if await self._gateway.check() is None:
                told = None

    async def wait_for_first_check(self, timeout_s: float) -> ModelProblem | None:
        """What the first try found, if it ends in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._first_check_done.wait()
        except TimeoutError:
            return None
        return self._gateway.health.status.problem
