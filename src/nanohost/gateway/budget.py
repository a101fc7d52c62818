"""How much of the gateway a session may use in a time. Pure: monotonic seconds in.

What is over it is not asked of the service, and leaves no row and no line in the log: the client is told to try again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nanohost.gateway.settings import CallSettings
from nanohost.slowing import MAX_PAUSE_S, Throttle, TokenBucket, full_bucket

COOLDOWN_S = MAX_PAUSE_S
"""Whoever asked for too much is slowed down until nothing is over the budget for so long. As long as the longest pause:
a client that only waits for its pause to end has not calmed down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRateLimits:
    """What one session may ask of the gateway in an hour; a sixth of it at once (see slowing.py)."""

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
    """One session's. `rejected_count`: what was over it since it was slowed down. `is_notified`: whether the owners are."""

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
            return self._reject(f"more than {self.limits.connections_per_hour:,} connections to the model an hour")
        self._connections.tokens -= 1
        return True

    def consume_request(self, now: float) -> bool:
        """Pay for a request. False: it is over the budget, which `over` says."""
        self._requests.refill(now)
        self._failures.refill(now)
        if self._requests.tokens < 1:
            return self._reject(f"more than {self.limits.requests_per_hour:,} requests to the model an hour")
        if self._failures.tokens < 1:
            return self._reject(f"more than {self.limits.failures_per_hour:,} requests to the model an hour that fail")
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
