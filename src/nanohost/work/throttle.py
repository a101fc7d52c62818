"""A session that writes or asks for more than it may is slowed down: token buckets, and pauses that grow.

Pure: monotonic seconds in. What is over a budget waits where it is, or is to be asked for again, and nothing of it is
lost. The owners are told by access/notify.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BURST_SHARE = 1 / 6
"""Of an hour's budget: so much may come at once, so that a long answer in many parts is not slowed down."""
INITIAL_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
"""Between two looks at a session that is over its budget. A minute: nobody waits longer for what is in budget again."""
NOTIFY_AFTER_PAUSES = 3
"""Pauses in a row (seven seconds): a burst that is over by then is nothing that a person has to act upon."""


@dataclass(slots=True)
class TokenBucket:
    """`tokens` may go below zero: what is larger than the bucket passes, and is paid for afterwards."""

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
    """A bucket with a burst in it."""
    return TokenBucket(per_hour, per_hour * BURST_SHARE, now)


@dataclass(slots=True, kw_only=True)
class Throttle:
    """`reason`: what there is too much of, in words; empty within the budget. `pauses`: how many in a row."""

    reason: str = ""
    pauses: int = 0

    @property
    def is_throttled(self) -> bool:
        return bool(self.reason and self.pauses)

    @property
    def should_notify(self) -> bool:
        """Whether it has lasted long enough for a person to act upon."""
        return self.pauses >= NOTIFY_AFTER_PAUSES

    def next_pause_s(self) -> float:
        """How long until the next look; longer each time."""
        self.pauses += 1
        return min(math.ldexp(INITIAL_PAUSE_S, min(self.pauses - 1, 16)), MAX_PAUSE_S)

    def reset(self) -> None:
        """Nothing waits any more."""
        self.reason, self.pauses = "", 0
