"""Slows down a session that exceeds its budget: token buckets, and growing pauses. Pure: takes monotonic seconds.

Work over a budget waits where it is, or is requested again; nothing is lost. access/notify.py tells the owners.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BURST_SHARE = 1 / 6
"""The share of an hour's budget that may be used at once, so that a long answer in many parts is not slowed down."""
INITIAL_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
"""The longest pause of a session over its budget: nobody waits more than a minute for work that is in budget again."""
NOTIFY_AFTER_PAUSES = 3
"""Pauses in a row (seven seconds) before the owners are told: for a shorter burst nobody has to act."""


@dataclass(slots=True)
class TokenBucket:
    """A token bucket. `tokens` may go below zero: a charge larger than the bucket passes, and is paid for
    afterwards."""

    per_hour: float
    tokens: float
    updated_at: float

    def refill(self, now: float) -> None:
        self.tokens = min(self.per_hour * BURST_SHARE, self.tokens + (now - self.updated_at) * self.per_hour / 3600)
        self.updated_at = now

    @property
    def is_full(self) -> bool:
        return self.tokens >= self.per_hour * BURST_SHARE


def full_bucket(per_hour: float, now: float) -> TokenBucket:
    """Returns a full bucket."""
    return TokenBucket(per_hour, per_hour * BURST_SHARE, now)


@dataclass(slots=True, kw_only=True)
class Throttle:
    """The throttling of a session. `reason`: which limit it exceeds, in words; empty within the budget. `pauses`: how
    many in a row."""

    reason: str = ""
    pauses: int = 0

    @property
    def is_throttled(self) -> bool:
        return bool(self.reason and self.pauses)

    @property
    def should_notify(self) -> bool:
        """Whether it has lasted long enough to tell the owners."""
        return self.pauses >= NOTIFY_AFTER_PAUSES

    def next_pause_s(self) -> float:
        """Count a pause and return its length in seconds; it grows each time."""
        self.pauses += 1
        return min(math.ldexp(INITIAL_PAUSE_S, min(self.pauses - 1, 16)), MAX_PAUSE_S)

    def reset(self) -> None:
        """End the throttling, since nothing waits any more."""
        self.reason, self.pauses = "", 0
