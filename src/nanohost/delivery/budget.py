"""How much of what a session writes may be entered centrally in a time: token buckets. Pure: monotonic seconds in.

What is over the budget is not lost: it waits in the session's outbound.db, and the next look comes later and later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

BURST = 1 / 6
"""Of an hour's budget: so much may come at once, so that a long answer in many parts is not slowed down."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Between two looks at a session that is over its budget. A minute: nobody waits longer for what is in budget again."""
TOLD_AFTER_PAUSES = 3
"""Pauses in a row (seven seconds): a burst that is over by then is nothing that a person has to act upon."""
MOST_WAITING = 2_000
"""Messages and requests of one session that are entered and not settled. A chat takes about one message a second, so
these are half an hour's sending."""
MOST_SCHEDULED = 500
"""Messages of one session that wait for a later time. Reminders of a year, with some for each day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one session may have entered in an hour."""

    rows: int = 7_200
    """Twice what the fastest chat platform takes of one sender in an hour (one message a second and chat)."""
    bytes: int = 24 * 1024**2
    """Of content. A month of it, kept for `keep_days` of 30, is 17 GB; a person reads 0.1 MB in an hour."""
    requests: int = 600
    """One in six seconds. Each is a transaction, an entry of the audit log, and an answer to the agent. What is refused
    or dropped counts as one: it is on record for good, with a line in the log, and no platform slows it down."""


@dataclass(slots=True)
class _Bucket:
    """`left` may go below zero: what is larger than the bucket passes, and is paid for afterwards."""

    per_hour: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        self.left = min(self.per_hour * BURST, self.left + (now - self.at) * self.per_hour / 3600)
        self.at = now


@dataclass(frozen=True, slots=True)
class Weight:
    """Of one row: its bytes, and whether it is a request, or comes to nothing and costs as much."""

    bytes: int
    as_request: bool


@dataclass(slots=True)
class Budget:
    """One session's. `over`: what it has too much of, in words; empty when it is within its budget."""

    rates: Rates
    now: float
    over: str = ""
    pauses: int = 0
    _rows: _Bucket = field(init=False)
    _bytes: _Bucket = field(init=False)
    _requests: _Bucket = field(init=False)

    def __post_init__(self) -> None:
        self._rows, self._bytes, self._requests = (
            _Bucket(per_hour, per_hour * BURST, self.now)
            for per_hour in (self.rates.rows, self.rates.bytes, self.rates.requests)
        )

    def take(self, weights: Sequence[Weight], now: float) -> int:
        """How many of these rows, from the first on, are entered now. Pays for them, and says in `over` what the
        next one is too much of."""
        for bucket in (self._rows, self._bytes, self._requests):
            bucket.fill(now)
        for count, weight in enumerate(weights):
            self.over = self._too_much(weight)
            if self.over:
                return count
            self._rows.left -= 1
            self._bytes.left -= weight.bytes
            self._requests.left -= weight.as_request
        self.over = ""
        return len(weights)

    def pause_s(self) -> float:
        """How long until the next look; longer each time."""
        self.pauses += 1
        return min(math.ldexp(FIRST_PAUSE_S, min(self.pauses - 1, 16)), LONGEST_PAUSE_S)

    def rest(self) -> None:
        """Nothing waits any more."""
        self.over, self.pauses = "", 0

    def _too_much(self, weight: Weight) -> str:
        if self._rows.left < 1:
            return f"more than {self.rates.rows:,} messages an hour"
        if self._bytes.left <= 0:
            return f"more than {self.rates.bytes / 1024**2:,.0f} MiB of messages an hour"
        if weight.as_request and self._requests.left < 1:
            return f"more than {self.rates.requests:,} requests and refused messages an hour"
        return ""
