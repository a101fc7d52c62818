"""A session that writes or asks for more than it may is slowed down: token buckets, and pauses that grow.

Pure: monotonic seconds in. What is over a budget waits where it is, or is to be asked for again, and nothing of it is
lost. The owners are told by access/telling.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BURST = 1 / 6
"""Of an hour's budget: so much may come at once, so that a long answer in many parts is not slowed down."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Between two looks at a session that is over its budget. A minute: nobody waits longer for what is in budget again."""
TOLD_AFTER_PAUSES = 3
"""Pauses in a row (seven seconds): a burst that is over by then is nothing that a person has to act upon."""


@dataclass(slots=True)
class Bucket:
    """`left` may go below zero: what is larger than the bucket passes, and is paid for afterwards."""

    per_hour: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        self.left = min(self.per_hour * BURST, self.left + (now - self.at) * self.per_hour / 3600)
        self.at = now

    @property
    def is_full(self) -> bool:
        return self.left >= self.per_hour * BURST


def full(per_hour: float, now: float) -> Bucket:
    """A bucket with a burst in it."""
    return Bucket(per_hour, per_hour * BURST, now)


@dataclass(slots=True, kw_only=True)
class Slowed:
    """`over`: what there is too much of, in words; empty within the budget. `pauses`: how many in a row."""

    over: str = ""
    pauses: int = 0

    @property
    def is_slowed(self) -> bool:
        return bool(self.over and self.pauses)

    @property
    def is_to_be_told(self) -> bool:
        """Whether it has lasted long enough for a person to act upon."""
        return self.pauses >= TOLD_AFTER_PAUSES

    def pause_s(self) -> float:
        """How long until the next look; longer each time."""
        self.pauses += 1
        return min(math.ldexp(FIRST_PAUSE_S, min(self.pauses - 1, 16)), LONGEST_PAUSE_S)

    def rest(self) -> None:
        """Nothing waits any more."""
        self.over, self.pauses = "", 0
