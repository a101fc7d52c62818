"""Limits how much of the gateway a session may use in a time. Pure: monotonic seconds in.

What is over it is not asked of the service, and leaves no row and no line in the log: the client is told to try again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

import structlog

from nanohost.clock import Clock
from nanohost.gateway.settings import CallSettings
from nanohost.model import SessionId
from nanohost.text.translation import lazy_gettext
from nanohost.work.evicting_map import EvictingMap
from nanohost.work.throttle import MAX_PAUSE_S, Throttle, TokenBucket, full_bucket

COOLDOWN_S = MAX_PAUSE_S
"""Whoever asked for too much is slowed down until nothing is over the budget for so long. As long as the longest pause:
a client that only waits for its pause to end has not calmed down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRateLimits:
    """What one session may ask of the gateway in an hour; a sixth of it at once (see work/throttle.py)."""

    requests_per_hour: int
    failures_per_hour: int
    """Requests that nothing comes of. Each is a row or a line in the log, and no answer of the service slows it."""
    connections_per_hour: int


def call_limits_from_settings(settings: CallSettings) -> CallRateLimits:
    """So many requests an hour as the operator set, and the rest in proportion. A sixth may fail: of 7,200 at once 200,
    twenty agents that each try ten times to reach an overloaded service. A client may open a connection for each."""
    requests = settings.session_calls_per_hour
    return CallRateLimits(requests_per_hour=requests, failures_per_hour=requests // 6, connections_per_hour=requests)


@dataclass(slots=True)
class CallBudget(Throttle):
    """One session's. `rejected_count`: what was over it since it was slowed down. `is_notified`: whether the owners
    are."""

    limits: CallRateLimits
    created_at_s: float
    rejected_count: int = 0
    is_notified: bool = False
    _requests: TokenBucket = field(init=False)
    _failures: TokenBucket = field(init=False)
    _connections: TokenBucket = field(init=False)
    _pause_ends_at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._requests = full_bucket(self.limits.requests_per_hour, self.created_at_s)
        self._failures = full_bucket(self.limits.failures_per_hour, self.created_at_s)
        self._connections = full_bucket(self.limits.connections_per_hour, self.created_at_s)
        self._pause_ends_at_s = self.created_at_s

    def consume_connection(self, now: float) -> bool:
        """Pay for a connection. False: it is over the budget, which `over` says."""
        self._connections.refill(now)
        if self._connections.tokens < 1:
            return self._reject(
                lazy_gettext(
                    "more than {count} connections to the model an hour", count=f"{self.limits.connections_per_hour:,}"
                )
            )
        self._connections.tokens -= 1
        return True

    def consume_request(self, now: float) -> bool:
        """Pay for a request. False: it is over the budget, which `over` says."""
        self._requests.refill(now)
        self._failures.refill(now)
        if self._requests.tokens < 1:
            return self._reject(
                lazy_gettext(
                    "more than {count} requests to the model an hour", count=f"{self.limits.requests_per_hour:,}"
                )
            )
        if self._failures.tokens < 1:
            return self._reject(
                lazy_gettext(
                    "more than {count} requests to the model an hour that fail",
                    count=f"{self.limits.failures_per_hour:,}",
                )
            )
        self._requests.tokens -= 1
        return True

    def consume_failure(self) -> None:
        """Pay for a request that nothing came of; also below zero, for what was under way at the same time."""
        self._failures.tokens -= 1

    def consume_malformed(self, now: float) -> bool:
        """Pay for bytes that are no request, which end their connection. False: not worth a line in the log."""
        self._failures.refill(now)
        if self._failures.tokens < 1:
            return False
        self.consume_failure()
        return True

    def wait_s(self, now: float) -> float:
        """How long what is over the budget waits. All that comes in one pause waits for its end; the next is longer."""
        if now >= self._pause_ends_at_s:
            self._pause_ends_at_s = now + self.next_pause_s()
        return self._pause_ends_at_s - now

    def retry_after_s(self) -> int:
        """When there is room for one request again, in whole seconds."""
        return max(1, *(math.ceil((1 - b.tokens) * 3600 / b.per_hour) for b in (self._requests, self._failures)))

    def cooldown_left_s(self, now: float) -> float:
        """When it is no longer slowed down, if nothing more is over it."""
        return self._pause_ends_at_s + COOLDOWN_S - now

    def end_throttling(self) -> None:
        """Nothing was over it for long enough."""
        self.reset()
        self.rejected_count, self.is_notified = 0, False

    def is_full(self, now: float) -> bool:
        """Whether it is as one of somebody who never asked for anything."""
        buckets = (self._requests, self._failures, self._connections)
        for bucket in buckets:
            bucket.refill(now)
        return not self.reason and all(bucket.is_full for bucket in buckets)

    def _reject(self, exceeded: str) -> bool:
        self.reason = exceeded
        self.rejected_count += 1
        return False


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
