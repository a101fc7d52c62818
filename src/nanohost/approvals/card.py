"""The card that a person decides by, and what it says once that is done. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, tzinfo

from nanohost import quoting
from nanohost.approvals.kind import Kind
from nanohost.errors import UsageError
from nanohost.phrases import clock_time, day_and_time
from nanohost.quoting import quoted
from nanohost.store.approvals import Approval, ApprovalStatus
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import CardOut
from nanohost_protocol.rows import Origin

LONGEST = 6_000
"""Characters of a card. Nobody reads more, and what is decided must have been read."""
SHORT = 60
"""Characters of a value that needs no lines of its own."""
_DONE = {
    ApprovalStatus.APPROVED: "Approved",
    ApprovalStatus.DENIED: "Denied",
    ApprovalStatus.EXPIRED: "Expired",
    ApprovalStatus.FAILED: "Failed",
    ApprovalStatus.WITHDRAWN: "Settled",
}


def digest_of(shown: str, payload: str) -> str:
    """Of what a person reads and of what runs."""
    return derive("d", shown, payload)


def facts(title: str, lines: Sequence[tuple[str, str]]) -> str:
    """What is shown: the title, then a line a fact. Their values are written by `quoting`, or ours."""
    return "\n".join([title, *(f"**{what}:** {value}".replace(":** \n", ":**\n", 1) for what, value in lines)])


def place_in_words(origin: Origin | None, chat: str, *, is_group: bool) -> str:
    """A chat, for a person. `chat`: what people call it."""
    if origin is None:
        return "no chat"
    what = f"the group {quoting.name(chat or origin.platform_id)}" if is_group else "a direct message"
    where = origin.channel_type if origin.instance == "default" else f"{origin.channel_type}:{origin.instance}"
    return f"{what} on {where}, chat {quoting.name(origin.platform_id)}"


def arguments_in_words(arguments: str) -> list[tuple[str, str]]:
    """Every argument of an agent's request, whole. Raises UsageError for what cannot be shown so."""
    try:
        document = json.loads(arguments, object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError):
        raise UsageError("its arguments are no JSON") from None
    if not isinstance(document, dict):
        raise UsageError("its arguments are no JSON object")
    return [(quoting.name(key, limit=200), _shown(_value(value))) for key, value in document.items()]


def _shown(value: str) -> str:
    """What is short and plain stands behind its name."""
    is_plain = len(value) <= SHORT and value.isprintable() and "`" not in value and quoting.visible(value) == value
    return f"`{value}`" if is_plain else "\n" + quoted(value)


def _value(value: object) -> str:
    """A text on its lines, in quotation marks; all else as JSON."""
    if isinstance(value, str):
        return f"“{value}”"
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)


def _no_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A name that stands there twice could be read as one thing and run as another."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UsageError("its arguments name something twice")
    return found


def card(approval: Approval, kind: Kind, zone: tzinfo) -> CardOut:
    """What the approver gets."""
    title, _, body = approval.shown.partition("\n")
    choice = f" {typed}" if (typed := kind.typed(approval)) else ""
    how = f"`/approve {approval.id}{choice}` or `/deny {approval.id} why`"
    until = f"**Until:** {day_and_time(approval.expires_at, zone)}"
    return CardOut(title=title, body="\n".join([body, until, f"Press, or type {how}."]), options=approval.options)


def closed(approval: Approval, *, status: ApprovalStatus, by: str, outcome: str, now: datetime, zone: tzinfo) -> str:
    """What the card says since, without buttons; a sentence of its own where a message cannot be changed."""
    title, _, _ = approval.shown.partition("\n")
    who = f" by {by}" if by else ""
    return f"**{title}** (`{approval.id}`)\n{_DONE[status]}{who}, {clock_time(now, now, zone)}: {outcome}"


def already(approval: Approval, *, by: str, now: datetime, zone: tzinfo) -> str:
    """For somebody who comes too late. Without a full stop."""
    who = f" by {by}" if by else ""
    when = f", {clock_time(approval.decided_at, now, zone)}" if approval.decided_at else ""
    said = f": {approval.outcome.rstrip('.')}" if approval.outcome else ""
    return f"{_DONE[approval.status]} already{who}{when}{said}"
