"""Builds the message that tells an agent the outcome of its request. Pure."""

from __future__ import annotations

from datetime import timedelta

from nanohost.db.actions import ActionRow, ActionStatus
from nanohost_protocol.payloads import SystemIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn

MAX_WAKES = 3
MAX_NOTICES = 20
REJECTION_WINDOW = timedelta(minutes=10)
"""A refusal wakes the agent so that it can put things right. An agent that is refused again and again is woken no more:
each time is a turn that costs, and may ask for the next refusal. One that does not stop is not even told: its mailbox
would fill with what nobody reads."""
MAX_REASON_CHARS = 1000


def build_notice(action: ActionRow, *, recent_rejections: int) -> NewMessageIn | None:
    """The message. It wakes the agent if nothing was done, unless that happened too often shortly before:
    `recent_rejections` times. None: it happened so often that the record has to do. What a person approved wakes it,
    too: it has waited for that, and perhaps somebody waits for it."""
    is_done = action.status is ActionStatus.DONE
    if not is_done and recent_rejections >= MAX_NOTICES:
        return None
    assert action.notice_id is not None, "only what has a notice is told"
    assert action.done_at is not None, "only what is settled is told"
    return NewMessageIn(
        id=action.notice_id,
        kind=InKind.SYSTEM,
        timestamp=action.done_at,
        content=encode(SystemIn(text=_notice_text(action), about=action.out_id)),
        trigger=action.approval_id is not None if is_done else recent_rejections < MAX_WAKES,
        origin=action.origin,
    )


def _notice_text(action: ActionRow) -> str:
    reason = (action.reason or "")[:MAX_REASON_CHARS]
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
