"""How a platform responds to a send, by chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum


class FaultKind(StrEnum):
    NONE = "fine"
    LIMITED = "limited"
    """429: not sent, retry in a moment."""
    SERVER_ERROR = "broken"
    """500, and nobody saw the message."""
    SERVER_ERROR_AFTER_EFFECT = "broken_after"
    """500, and people see the message."""
    RESET = "reset"
    """People see the message, and the connection is cut before the response."""
    HANG = "hangs"
    """Nobody sees it, and no response comes."""


FAULT_RATES = {
    FaultKind.LIMITED: 0.2,
    FaultKind.SERVER_ERROR: 0.05,
    FaultKind.SERVER_ERROR_AFTER_EFFECT: 0.05,
    FaultKind.RESET: 0.05,
    FaultKind.HANG: 0.02,
}
"""The frequency of each."""
MAX_OCCURRENCES = {FaultKind.RESET: 4, FaultKind.HANG: 2}
"""A lost connection is retried after a doubling pause, a hanging send times out after a minute."""


def no_faults() -> FaultKind:
    return FaultKind.NONE


def random_faults(seed: int) -> Callable[[], FaultKind]:
    """A random fault for each send."""
    chance = random.Random(seed)
    left = dict(MAX_OCCURRENCES)

    def mood() -> FaultKind:
        drawn = chance.choices([FaultKind.NONE, *FAULT_RATES], [1 - sum(FAULT_RATES.values()), *FAULT_RATES.values()])[
            0
        ]
        if drawn in left:
            left[drawn] -= 1
            return drawn if left[drawn] >= 0 else FaultKind.NONE
        return drawn

    return mood
