"""What an agent is told of its requests. Pure: an outcome in, a message for the mailbox out."""

from __future__ import annotations

from datetime import timedelta

from nanohost.store.actions import ActionRow, ActionStatus
from nanohost_protocol.payloads import SystemIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn

MOST_WAKES = 3
MOST_TOLD = 20
WITHIN = timedelta(minutes=10)
"""A refusal wakes the agent so that it can put things right. An agent that is refused again and again is woken no more:
each time is a turn that costs, and may ask for the next refusal. One that does not stop is not even told: its mailbox
would fill with what nobody reads."""
LONGEST_REASON = 1000


def notice(action: ActionRow, *, bad_before: int) -> NewMessageIn | None:
    """The message. It wakes the agent if nothing was done, unless that happened too often shortly before: `bad_before`
    times. None: it happened so often that the record has to do. What a person said yes to wakes it, too: it has waited
    for that, and perhaps somebody waits for it."""
    is_done = action.status is ActionStatus.DONE
    if not is_done and bad_before >= MOST_TOLD:
        return None
    assert action.notice_id is not None, "only what has a notice is told"
    assert action.done_at is not None, "only what is settled is told"
    return NewMessageIn(
        id=action.notice_id,
        kind=InKind.SYSTEM,
        timestamp=action.done_at,
        content=encode(SystemIn(text=_words(action), about=action.out_id)),
        trigger=action.approval_id is not None if is_done else bad_before < MOST_WAKES,
        origin=action.origin,
    )


def _words(action: ActionRow) -> str:
    reason = (action.reason or "")[:LONGEST_REASON]
    name = action.name[:80]
    match action.status:
        case ActionStatus.REFUSED:
            return f"Your request {name} was refused: {reason}. Nothing was changed."
        case ActionStatus.FAILED:
            return f"Your request {name} failed: {reason}. Nothing was changed."
        case _ if action.approval_id is not None:
            return f"Your request {name} was approved and is done. {reason}".rstrip()
        case _:
            return reason
