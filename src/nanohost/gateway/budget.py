"""How much of the gateway a session may use in a time. Pure: monotonic seconds in.

What is over it is not asked of the service, and leaves no row and no line in the log: the client is told to try again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nanohost.gateway.settings import CallSettings
from nanohost.slowing import LONGEST_PAUSE_S, Bucket, Slowed, full

CALM_S = LONGEST_PAUSE_S
"""Whoever asked for too much is slowed down until nothing is over the budget for so long. As long as the longest pause:
a client that only waits for its pause to end has not calmed down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRates:
    """What one session may ask of the gateway in an hour; a sixth of it at once (see slowing.py)."""

    requests: int
    failures: int
    """Requests that nothing comes of. Each is a row or a line in the log, and no answer of the service slows it."""
    connections: int


def call_rates(settings: CallSettings) -> CallRates:
    """So many requests an hour as the operator set, and the rest in proportion. A sixth may fail: of 7,200 at once 200,
    twenty agents that each try ten times to reach an overloaded service. A client may open a connection for each."""
    requests = settings.session_calls_per_hour
    return CallRates(requests=requests, failures=requests // 6, connections=requests)


@dataclass(slots=True)
class CallBudget(Slowed):
    """One session's. `turned_down`: what was over it since it was slowed down. `told`: whether the owners are."""

    rates: CallRates
    now: float
    turned_down: int = 0
    told: bool = False
    _requests: Bucket = field(init=False)
    _failures: Bucket = field(init=False)
    _connections: Bucket = field(init=False)
    _pause_ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._requests = full(self.rates.requests, self.now)
        self._failures = full(self.rates.failures, self.now)
        self._connections = full(self.rates.connections, self.now)
        self._pause_ends_at = self.now

    def connect(self, now: float) -> bool:
        """Pay for a connection. False: it is over the budget, which `over` says."""
        self._connections.fill(now)
        if self._connections.left < 1:
            return self._turn_down(f"more than {self.rates.connections:,} connections to the model an hour")
        self._connections.left -= 1
        return True

    def request(self, now: float) -> bool:
        """Pay for a request. False: it is over the budget, which `over` says."""
        self._requests.fill(now)
        self._failures.fill(now)
        if self._requests.left < 1:
            return self._turn_down(f"more than {self.rates.requests:,} requests to the model an hour")
        if self._failures.left < 1:
            return self._turn_down(f"more than {self.rates.failures:,} requests to the model an hour that fail")
        self._requests.left -= 1
        return True

    def fail(self) -> None:
        """Pay for a request that nothing came of; also below zero, for what was under way at the same time."""
        self._failures.left -= 1

    def malformed(self, now: float) -> bool:
        """Pay for bytes that are no request, which end their connection. False: not worth a line in the log."""
        self._failures.fill(now)
        if self._failures.left < 1:
            return False
        self.fail()
        return True

    def wait_s(self, now: float) -> float:
        """How long what is over the budget waits. All that comes in one pause waits for its end; the next is longer."""
        if now >= self._pause_ends_at:
            self._pause_ends_at = now + self.pause_s()
        return self._pause_ends_at - now

    def retry_after_s(self) -> int:
        """When there is room for one request again, in whole seconds."""
        return max(1, *(math.ceil((1 - b.left) * 3600 / b.per_hour) for b in (self._requests, self._failures)))

    def calm_in_s(self, now: float) -> float:
        """When it is no longer slowed down, if nothing more is over it."""
        return self._pause_ends_at + CALM_S - now

    def calm_down(self) -> None:
        """Nothing was over it for long enough."""
        self.rest()
        self.turned_down, self.told = 0, False

    def is_full(self, now: float) -> bool:
        """Whether it is as one of somebody who never asked for anything."""
        buckets = (self._requests, self._failures, self._connections)
        for bucket in buckets:
            bucket.fill(now)
        return not self.over and all(bucket.is_full for bucket in buckets)

    def _turn_down(self, over: str) -> bool:
        self.over = over
        self.turned_down += 1
        return False
