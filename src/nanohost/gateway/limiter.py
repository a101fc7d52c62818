"""Slows down sessions that ask the gateway for too much: what is over a budget waits, and is told to come again.

One line in the log when that begins and one when it ends, however much there is of it. Budgets outlive containers: a
container that ends itself and is started again has no new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import structlog

from nanohost.clock import Clock
from nanohost.gateway.budget import CallBudget, CallRates
from nanohost.model import SessionId
from nanohost.remembered import Remembered

OnSlowed = Callable[[SessionId, str], Awaitable[None]]
"""Is told of a session that has been over its budget for long enough, and what it has too much of."""

log = structlog.get_logger(__name__)


class Limiter:
    """The budgets of all sessions."""

    def __init__(self, *, clock: Clock, rates: CallRates, on_slowed: OnSlowed) -> None:
        self._clock = clock
        self._rates = rates
        self._on_slowed = on_slowed
        self._budgets = Remembered[SessionId, CallBudget](lambda budget: budget.is_full(self._clock.monotonic()))
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def budget(self, session: SessionId) -> CallBudget:
        """A session's, made when there is none."""
        budget = self._budgets.get(session)
        if budget is None:
            budget = CallBudget(self._rates, self._clock.monotonic())
            self._budgets.put(session, budget)
        return budget

    def slowed(self) -> dict[SessionId, str]:
        """The sessions that are over their budget, and what they have too much of."""
        return {id: budget.over for id, budget in self._budgets.items() if budget.is_slowed}

    async def connect(self, session: SessionId) -> None:
        """Returns when one more connection of the session may be served."""
        budget = self.budget(session)
        if not budget.connect(self._clock.monotonic()):
            await self._pause(session, budget)

    async def admit(self, session: SessionId) -> bool:
        """Whether a request is served. If not, it has waited, and is to be turned down in words."""
        budget = self.budget(session)
        if budget.request(self._clock.monotonic()):
            return True
        await self._pause(session, budget)
        return False

    def malformed(self, session: SessionId) -> bool:
        """Pay for bytes that are no request. Returns whether they are worth a line in the log."""
        return self.budget(session).malformed(self._clock.monotonic())

    async def close(self) -> None:
        """Turn down all that waits, at once, and have nothing wait any more: a stop has other limits."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pause(self, session: SessionId, budget: CallBudget) -> None:
        if self._closed:
            return
        begins = not budget.pauses
        wait_s = budget.wait_s(self._clock.monotonic())
        if begins:
            log.warning("session_over_budget", session=session, over=budget.over, next_look_in_s=wait_s)
            self._beside(self._watch(session, budget))
        if budget.is_to_be_told and not budget.told:
            budget.told = True
            self._beside(self._tell(session, budget.over))
        waiting = self._beside(self._clock.sleep(wait_s))
        try:
            await asyncio.wait([waiting])
        finally:
            waiting.cancel()

    async def _watch(self, session: SessionId, budget: CallBudget) -> None:
        """Until it has calmed down."""
        try:
            while (left_s := budget.calm_in_s(self._clock.monotonic())) > 0:
                await self._clock.sleep(left_s)
        finally:
            log.info("session_within_budget", session=session, turned_down=budget.turned_down)
            budget.calm_down()

    async def _tell(self, session: SessionId, over: str) -> None:
        try:
            await self._on_slowed(session, over)
        except Exception as error:  # whatever keeps the owners from being told, requests are not to blame
            log.error("gateway.owners_not_told", session=session, error=str(error))

    def _beside(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="gateway budget")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
