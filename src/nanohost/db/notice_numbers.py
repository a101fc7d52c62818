"""Defines the ledger numbers of the host's notices: below zero, where no row of an agent is, and far above the numbers
of task messages (see scheduler/task_messages.py). containers/notices.py computes them."""

from __future__ import annotations

NOTICES_PER_MESSAGE = 64
"""Numbers for each message: one for each attempt, and the constants below. The highest was NO_CONTAINER_NOTICE in
earlier versions, so old ledgers may use it."""
FAILED_NOTICE = NOTICES_PER_MESSAGE - 2
"""The final notice about a message, so the highest: "I try again" must not be sent after it."""
OVERDUE_NOTICE = NOTICES_PER_MESSAGE - 3
MODEL_HELD_NOTICE = NOTICES_PER_MESSAGE - 4
"""Its model is in backoff."""
NO_CONTAINER_NOTICE = NOTICES_PER_MESSAGE - 5
"""No container can be started for it."""
ON_HOLD_NOTICE = NOTICES_PER_MESSAGE - 6
"""Its session, or its agent group, is held by an operator or for the disk."""
LAST_ATTEMPT_NOTICE = NOTICES_PER_MESSAGE - 7
COMMAND_ANSWER_NOTICE = 0
"""The answer to a command, which is no error: no attempt has this number when a notice about it is sent."""
MESSAGE_NOTICES_START = -(2**62)
"""Far above the numbers of task messages (see scheduler/task_messages.py)."""
EVENT_NOTICES_START = MESSAGE_NOTICES_START + 2**60
"""Notices about events that did not reach a mailbox."""
DELIVERY_NOTICES_START = MESSAGE_NOTICES_START + 2**61
"""Notices about messages that cannot be delivered."""


def is_notice(seq: int) -> bool:
    """Whether this is a number of the host in a session: a notice, or the answer to a command."""
    return MESSAGE_NOTICES_START <= seq < 0


def is_error_notice(seq: int) -> bool:
    """Whether this is the number of a notice about an error or a delay, and not of the answer to a command."""
    is_answer = (
        seq < EVENT_NOTICES_START and (seq - MESSAGE_NOTICES_START) % NOTICES_PER_MESSAGE == COMMAND_ANSWER_NOTICE
    )
    return is_notice(seq) and not is_answer
