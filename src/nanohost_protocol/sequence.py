"""Numbers the rows of both files: the host uses even numbers, the runner odd ones, each above all numbers it has seen.

So a message's number is unique in its session, the order of numbers is the order of the conversation, and neither side
has to ask the other.
"""

from __future__ import annotations

MAX_SEQ = 2**53
"""The highest number. Rows above it are ignored: a container must not use up the host's numbers."""


def next_even(*seen: int) -> int:
    """Returns the host's next number: the lowest even number above all of `seen`."""
    highest = max((0, *seen))
    return highest + 2 - highest % 2


def next_odd(*seen: int) -> int:
    """Returns the runner's next number: the lowest odd number above all of `seen`."""
    highest = max((0, *seen))
    return highest + 1 + highest % 2
