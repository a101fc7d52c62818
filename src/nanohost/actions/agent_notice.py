"""Builds the message that tells an agent the outcome of its request. Pure."""

from __future__ import annotations

from datetime import timedelta

from nanohost.db.actions import ActionRow, ActionStatus
from nanohost_protocol.payloads import SystemIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn

MAX_WAKES = 3
MAX_NOTICES = 20
REJECTION_WINDOW = timedelta(minutes=10)
"""The window for counting refusals. A refusal wakes the agent, so that it can correct its request. After several it is
not woken: each turn costs money and may cause the next refusal. After more, no notice is written: they would fill its
mailbox."""
MAX_REASON_CHARS = 1000


def build_notice(action: ActionRow, *, recent_rejections: int) -> NewMessageIn | None:
    """Returns the message, or None after too many refusals. `recent_rejections`: refusals within REJECTION_WINDOW.

    It wakes the agent if the request was refused, unless that happened too often. It also wakes the agent for a request
    that a person approved, which the agent or a person may be waiting for.
    """
    is_done = action.status is ActionStatus.DONE
    if not is_done and recent_rejections >= MAX_NOTICES:
        return None
    assert action.notice_id is not None, "only an action with a notice id has a notice"
    assert action.done_at is not None, "only a settled action has a notice"
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
