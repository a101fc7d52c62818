"""How a platform answers a send on a bad day."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum


class Mood(StrEnum):
    FINE = "fine"
    LIMITED = "limited"
    """429: not sent, ask again in a moment."""
    BROKEN = "broken"
    """500, and nobody saw the message."""
    BROKEN_AFTER = "broken_after"
    """500, and people see the message."""
    RESET = "reset"
    """People see the message, the connection is cut before it is said."""
    HANGS = "hangs"
    """Nobody sees it, and no answer comes."""


PARTS = {Mood.LIMITED: 0.2, Mood.BROKEN: 0.05, Mood.BROKEN_AFTER: 0.05, Mood.RESET: 0.05, Mood.HANGS: 0.02}
"""How often each is met."""
AT_MOST = {Mood.RESET: 4, Mood.HANGS: 2}
"""A lost connection is tried again after a pause that doubles, a hanging send is given a minute."""


def fine() -> Mood:
    return Mood.FINE


def bad_days(seed: int) -> Callable[[], Mood]:
    """A mood for each send, by chance."""
    chance = random.Random(seed)
    left = dict(AT_MOST)

    def mood() -> Mood:
        drawn = chance.choices([Mood.FINE, *PARTS], [1 - sum(PARTS.values()), *PARTS.values()])[0]
        if drawn in left:
            left[drawn] -= 1
            return drawn if left[drawn] >= 0 else Mood.FINE
        return drawn

    return mood
