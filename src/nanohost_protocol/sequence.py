"""One numbering for both files: the host counts in even numbers, the runner in odd ones, each above all it has seen.

So a message's number is unique in its session, the order of numbers is the order of the conversation, and neither
side needs to ask the other.
"""

from __future__ import annotations

MAX_SEQ = 2**53
"""Numbers above this are not ours: a container that writes one must not use up the numbers of the host."""


def next_even(*seen: int) -> int:
    """The host's next number: the lowest even one above all of `seen`."""
    highest = max((0, *seen))
    return highest + 2 - highest % 2


def next_odd(*seen: int) -> int:
    """The runner's next number: the lowest odd one above all of `seen`."""
    highest = max((0, *seen))
    return highest + 1 + highest % 2
