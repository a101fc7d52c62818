"""Limits how much of the gateway a session may use per hour. Pure: takes monotonic seconds.

Requests over the limit are not forwarded and leave no row and no line in the log: the client is told to retry.
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
"""Seconds within the budget after which a session is no longer throttled. As long as the longest pause: a client that
only waits for its pause to end has not slowed down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRateLimits:
    """The limits of one session per hour; a sixth of them at once (see work/throttle.py)."""

    requests_per_hour: int
    failures_per_hour: int
    """Requests that fail. Each costs a row or a line in the log, and no answer of the service slows them down."""
    connections_per_hour: int


def call_limits_from_settings(settings: CallSettings) -> CallRateLimits:
    """Returns the limits for the operator's number of requests per hour, and the others in proportion.

    A sixth of the requests may fail: with 7,200 that is 200 at once, such as twenty agents that each retry ten times
    with an overloaded service. A client may open a connection for each request.
    """
    requests = settings.session_calls_per_hour
    return CallRateLimits(requests_per_hour=requests, failures_per_hour=requests // 6, connections_per_hour=requests)


@dataclass(slots=True)
class CallBudget(Throttle):
    """The budget of one session. `rejected_count`: requests over it since it is throttled. `is_notified`: whether the
    owners were notified."""

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
        """Charges for a connection. Returns False, and sets `over`, if it is over the budget."""
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
        """Charges for a request. Returns False, and sets `over`, if it is over the budget."""
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
        """Charges for a failed request; the budget may go below zero if several were running at once."""
        self._failures.tokens -= 1

    def consume_malformed(self, now: float) -> bool:
        """Charges for bytes that are no request, which end their connection. Returns whether to log them."""
        self._failures.refill(now)
        if self._failures.tokens < 1:
            return False
        self.consume_failure()
        return True

    def wait_s(self, now: float) -> float:
        """Returns how long a request over the budget waits: until the end of the pause. The next pause is longer."""
        if now >= self._pause_ends_at_s:
            self._pause_ends_at_s = now + self.next_pause_s()
        return self._pause_ends_at_s - now

    def retry_after_s(self) -> int:
        """Returns after how many whole seconds there is room for a request again."""
        return max(1, *(math.ceil((1 - b.tokens) * 3600 / b.per_hour) for b in (self._requests, self._failures)))

    def cooldown_left_s(self, now: float) -> float:
        """Returns the seconds until throttling ends, if nothing more is over the budget."""
        return self._pause_ends_at_s + COOLDOWN_S - now

    def end_throttling(self) -> None:
        """Ends throttling, after a long enough time within the budget."""
        self.reset()
        self.rejected_count, self.is_notified = 0, False

    def is_full(self, now: float) -> bool:
        """Returns whether nothing of the budget is used, as for a new session."""
        buckets = (self._requests, self._failures, self._connections)
        for bucket in buckets:
            bucket.refill(now)
        return not self.reason and all(bucket.is_full for bucket in buckets)

    def _reject(self, exceeded: str) -> bool:
        self.reason = exceeded
        self.rejected_count += 1
        return False


OnThrottled = Callable[[SessionId, str], Awaitable[None]]
"""Called for a session that has been over its budget for long enough, with the limit that it exceeds."""

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
        """Returns the budget of a session, and creates it if needed."""
        budget = self._budgets.get(session)
        if budget is None:
            budget = CallBudget(self._call_limits, self._clock.monotonic())
            self._budgets.put(session, budget)
        return budget

    def throttled(self) -> dict[SessionId, str]:
        """Returns the sessions that are over their budget, with the limit that each exceeds."""
        return {id: budget.reason for id, budget in self._budgets.items() if budget.is_throttled}

    async def admit_connection(self, session: SessionId) -> None:
        """Returns when one more connection of the session may be served."""
        budget = self.budget(session)
        if not budget.consume_connection(self._clock.monotonic()):
            await self._throttle(session, budget)

    async def admit_request(self, session: SessionId) -> bool:
        """Returns whether to serve a request. If not, it has waited, and gets an error."""
        budget = self.budget(session)
        if budget.consume_request(self._clock.monotonic()):
            return True
        await self._throttle(session, budget)
        return False

    def record_malformed(self, session: SessionId) -> bool:
        """Charges for bytes that are no request. Returns whether to log them."""
        return self.budget(session).consume_malformed(self._clock.monotonic())

    async def close(self) -> None:
        """Rejects all waiting requests at once, and lets none wait any more: a stop has its own limits."""
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
        """Waits until throttling can end."""
        try:
            while (left_s := budget.cooldown_left_s(self._clock.monotonic())) > 0:
                await self._clock.sleep(left_s)
        finally:
            log.info("session_within_budget", session=session, turned_down=budget.rejected_count)
            budget.end_throttling()

    async def _notify(self, session: SessionId, exceeded: str) -> None:
        try:
            await self._on_throttled(session, exceeded)
        except Exception as error:  # an error of the notice must not affect requests
            log.error("gateway_notify_failed", session=session, error=str(error))

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="gateway budget")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
