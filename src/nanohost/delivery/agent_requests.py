"""Turns rows that are no messages into requests: actions of the host, and recurring messages. Pure.

The target of answers is decided here by the host's own data, as for a delivery. The request itself is checked when it
is carried out: see nanohost.actions.
"""

from __future__ import annotations

import json
from datetime import datetime

from nanohost.db.actions import MAX_REJECTED_ARGUMENT_CHARS, ActionRow, ActionStatus
from nanohost.delivery.render import content_problem
from nanohost.model import SessionId
from nanohost_protocol.actions import ActionName
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.ids import notice_id
from nanohost_protocol.payloads import SystemOut, decode_out
from nanohost_protocol.rows import MessageOut, Origin, OutKind
from nanohost_protocol.times import to_text

UNREADABLE = "unreadable"
SEND_LATER = "messages.send_later"

_REQUEST_KINDS = (OutKind.TASK, OutKind.SYSTEM)
_REPEATABLE_KINDS = (OutKind.CHAT, OutKind.CARD)
MAX_NAME_CHARS = 200


def is_request(row: MessageOut) -> bool:
    """Returns whether the row is a request to the host instead of a message."""
    return row.kind in _REQUEST_KINDS or row.recurrence is not None


def build_request(
    row: MessageOut,
    *,
    session: SessionId,
    target: Origin | None,
    no_target_reason: str,
    now: datetime,
    rejection: str | None = None,
) -> ActionRow:
    """Returns the request that a row makes. `target`: where answers go; if None, `no_target_reason` says why.

    An invalid request, and any with `rejection` (the reason), is recorded as refused, with its arguments cut.
    """
    problem = rejection
    try:
        name, arguments = _parse_request(row)
        if problem is None and row.recurrence is not None and name == ActionName.MESSAGES_REPEAT:
            problem = no_target_reason if target is None else repeat_problem(row.kind, row.content)
    except PayloadError as error:
        name, arguments, problem = UNREADABLE, row.content, str(error)
    return ActionRow(
        session_id=session,
        seq=row.seq,
        out_id=row.id,
        # JSON can hold an unpaired surrogate, which no database accepts.
        name=_replace_surrogates(name)[:MAX_NAME_CHARS],
        arguments=_replace_surrogates(arguments)[: None if problem is None else MAX_REJECTED_ARGUMENT_CHARS],
        origin=target,
        # The container's clock may be wrong, and it may lie: no request can be from the future.
        requested_at=min(row.timestamp, now),
        created_at=now,
        status=ActionStatus.PENDING if problem is None else ActionStatus.REFUSED,
        reason=problem,
        notice_id=None if problem is None else notice_id(session=session, request=row.id),
        done_at=None if problem is None else now,
    )


def _parse_request(row: MessageOut) -> tuple[str, str]:
    """Returns the action's name and its arguments as JSON. Raises PayloadError."""
    if row.kind == OutKind.TASK:
        return ActionName.TASKS_CREATE, row.content
    if row.kind == OutKind.SYSTEM:
        payload = decode_out(row.kind, row.content)
        assert isinstance(payload, SystemOut), "decoded as its kind says"
        return payload.action, payload.arguments
    due = None if row.deliver_after is None else to_text(row.deliver_after)
    name = SEND_LATER if row.recurrence is None else ActionName.MESSAGES_REPEAT
    return name, json.dumps({"kind": row.kind, "content": row.content, "due": due, "recurrence": row.recurrence})


def repeat_problem(kind: str, content: str) -> str | None:
    """Returns why a message cannot recur; None if it can."""
    if kind not in _REPEATABLE_KINDS:
        return f"a {kind[:40]} cannot be sent again and again"
    return content_problem(kind, content)


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
