"""Slows down sessions that ask the gateway for too much: what is over a budget waits, and is told to come again.

One line in the log when that begins and one when it ends, however much there is of it. Budgets outlive containers: a
container that ends itself and is started again has no new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import structlog

from nanohost.clock import Clock
from nanohost.gateway.budget import CallBudget, CallRateLimits
from nanohost.model import SessionId
from nanohost.remembered import EvictingMap

OnThrottled = Callable[[SessionId, str], Awaitable[None]]
"""Is told of a session that has been over its budget for long enough, and what it has too much of."""

log = structlog.get_logger(__name__)


class CallLimiter:
    """The budgets of all sessions."""

    def __init__(self, *, clock: Clock, call_limits: CallRateLimits, on_throttled: OnThrottled) -> None:
        self._clock = clock
        self._call_limits = call_limits
        self._on_throttled = on_throttled
        self._budgets = EvictingMap[SessionId, CallBudget](lambda budget: budget.is_full(self._clock.monotonic()))
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def budget(self, session: SessionId) -> CallBudget:
        """A session's, made when there is none."""
        budget = self._budgets.get(session)
        if budget is None:
            budget = CallBudget(self._call_limits, self._clock.monotonic())
            self._budgets.put(session, budget)
        return budget

    def throttled(self) -> dict[SessionId, str]:
        """The sessions that are over their budget, and what they have too much of."""
        return {id: budget.reason for id, budget in self._budgets.items() if budget.is_throttled}

    async def admit_connection(self, session: SessionId) -> None:
        """Returns when one more connection of the session may be served."""
        budget = self.budget(session)
        if not budget.consume_connection(self._clock.monotonic()):
            await self._throttle(session, budget)

    async def admit_request(self, session: SessionId) -> bool:
        """Whether a request is served. If not, it has waited, and is to be turned down in words."""
        budget = self.budget(session)
        if budget.consume_request(self._clock.monotonic()):
            return True
        await self._throttle(session, budget)
        return False

    def record_malformed(self, session: SessionId) -> bool:
        """Pay for bytes that are no request. Returns whether they are worth a line in the log."""
        return self.budget(session).consume_malformed(self._clock.monotonic())

    async def close(self) -> None:
        """Turn down all that waits, at once, and have nothing wait any more: a stop has other limits."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _throttle(self, session: SessionId, budget: CallBudget) -> None:
        if self._is_closed:
            return
        begins = not budget.pauses
        wait_s = budget.wait_s(self._clock.monotonic())
        if begins:
            log.warning("session_over_budget", session=session, over=budget.reason, next_look_in_s=wait_s)
            self._spawn(self._wait_for_cooldown(session, budget))
        if budget.should_notify and not budget.is_notified:
            budget.is_notified = True
            self._spawn(self._notify(session, budget.reason))
        waiting = self._spawn(self._clock.sleep(wait_s))
        try:
            await asyncio.wait([waiting])
        finally:
            waiting.cancel()

    async def _wait_for_cooldown(self, session: SessionId, budget: CallBudget) -> None:
        """Until it has calmed down."""
        try:
            while (left_s := budget.cooldown_left_s(self._clock.monotonic())) > 0:
                await self._clock.sleep(left_s)
        finally:
            log.info("session_within_budget", session=session, turned_down=budget.rejected_count)
            budget.end_throttling()

    async def _notify(self, session: SessionId, exceeded: str) -> None:
        try:
            await self._on_throttled(session, exceeded)
        except Exception as error:  # whatever keeps the owners from being told, requests are not to blame
            log.error("gateway_notify_failed", session=session, error=str(error))

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="gateway budget")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
