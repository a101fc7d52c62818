"""Checks whether the model can be used: when the host starts, and repeatedly while there is a problem."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nanohost.clock import Clock
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_health import ModelProblem, ModelProblemKind

RETRY_INTERVAL_S = 60.0
"""Seconds between two checks while there is a problem."""
NOTIFIED_PROBLEMS = frozenset({ModelProblemKind.NO_KEY, ModelProblemKind.KEY_REJECTED, ModelProblemKind.WRONG_ADDRESS})
"""Problems that owners are notified of in chats. A network failure is left out: it ends by itself, and status shows
it."""


class ModelMonitor:
    """Monitors the model. One per host. `is_model_used`: returns whether any agent uses the model. `notify_owners` is
    awaited with the text for owners."""

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
        """Checks once, then repeatedly whenever there is a problem, until it ends."""
        if await self._is_model_used():
            await self._gateway.check()
        self._first_check_done.set()
        notified: ModelProblem | None = None
        while True:
            problem = await self._gateway.health.wait_for_problem()
            if problem.kind in NOTIFIED_PROBLEMS and problem != notified:
                await self._notify_owners(problem)
                notified = problem
            await self._clock.sleep(RETRY_INTERVAL_S)
            if await self._gateway.check() is None:
                notified = None

    async def wait_for_first_check(self, timeout_s: float) -> ModelProblem | None:
        """Returns the problem that the first check found, if it ends in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._first_check_done.wait()
        except TimeoutError:
            return None
        return self._gateway.health.status.problem
