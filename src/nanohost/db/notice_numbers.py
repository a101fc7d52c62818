"""The numbers that sentences of the host's own have in the ledger: below zero, where no row of an agent is, and far
above those of what tasks send (see scheduler/task_messages.py). What each is made of is in containers/notices.py."""

from __future__ import annotations

NOTICES_PER_MESSAGE = 64
"""Numbers for a message: one for each of its tries, and one for each of these. The highest stood for
NO_CONTAINER_NOTICE once, and may be taken where that was said."""
FAILED_NOTICE = NOTICES_PER_MESSAGE - 2
"""The last word about it, so the highest: where several wait, "I try again" must not come after it."""
OVERDUE_NOTICE = NOTICES_PER_MESSAGE - 3
MODEL_HELD_NOTICE = NOTICES_PER_MESSAGE - 4
"""Its model cannot be asked for a while."""
NO_CONTAINER_NOTICE = NOTICES_PER_MESSAGE - 5
"""No container: no try is possible."""
ON_HOLD_NOTICE = NOTICES_PER_MESSAGE - 6
"""Its session, or its agent group, is held by an operator or for the disk."""
LAST_ATTEMPT_NOTICE = NOTICES_PER_MESSAGE - 7
COMMAND_ANSWER_NOTICE = 0
"""What comes of a command, and nothing that went wrong: no try has this number when it is spoken of."""
MESSAGE_NOTICES_START = -(2**62)
"""Far above the numbers of what tasks send (see scheduler/task_messages.py)."""
EVENT_NOTICES_START = MESSAGE_NOTICES_START + 2**60
"""Notices about events that have no number in the mailbox."""
DELIVERY_NOTICES_START = MESSAGE_NOTICES_START + 2**61
"""Notices about answers that cannot be delivered."""


def is_notice(seq: int) -> bool:
    """Whether the host itself says this in a session: a notice, or the answer to a command."""
    return MESSAGE_NOTICES_START <= seq < 0


def is_error_notice(seq: int) -> bool:
    """Whether it says that something went wrong, or does not go on."""
    is_answer = (
        seq < EVENT_NOTICES_START and (seq - MESSAGE_NOTICES_START) % NOTICES_PER_MESSAGE == COMMAND_ANSWER_NOTICE
    )
    return is_notice(seq) and not is_answer
