"""The numbers that sentences of the host's own have in the ledger: below zero, where no row of an agent is, and far
above those of what tasks send (see tasks/entries.py). What each is made of is in keeper/notices.py."""

from __future__ import annotations

NOTICES_A_MESSAGE = 64
"""Numbers for a message: one for each of its tries, and one for each of these. The highest stood for NO_TRY once, and
may be taken where that was said."""
GIVEN_UP = NOTICES_A_MESSAGE - 2
"""The last word about it, so the highest: where several wait, "I try again" must not come after it."""
LATE = NOTICES_A_MESSAGE - 3
HELD = NOTICES_A_MESSAGE - 4
"""Its model cannot be asked for a while."""
NO_TRY = NOTICES_A_MESSAGE - 5
"""No container: no try is possible."""
ON_HOLD = NOTICES_A_MESSAGE - 6
"""Its session, or its agent group, is held by an operator or for the disk."""
LAST_TRY = NOTICES_A_MESSAGE - 7
ANSWER = 0
"""What comes of a command, and nothing that went wrong: no try has this number when it is spoken of."""
OF_MESSAGES = -(2**62)
"""Far above the numbers of what tasks send (see tasks/entries.py)."""
OF_EVENTS = OF_MESSAGES + 2**60
"""Notices about events that have no number in the mailbox."""
OF_DELIVERIES = OF_MESSAGES + 2**61
"""Notices about answers that cannot be delivered."""


def is_notice(seq: int) -> bool:
    """Whether the host itself says this in a session: a notice, or the answer to a command."""
    return OF_MESSAGES <= seq < 0


def is_trouble(seq: int) -> bool:
    """Whether it says that something went wrong, or does not go on."""
    is_answer = seq < OF_EVENTS and (seq - OF_MESSAGES) % NOTICES_A_MESSAGE == ANSWER
    return is_notice(seq) and not is_answer
