"""Renders the card on which a person decides, and its text after the decision. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, tzinfo

from nanohost.approvals.kind import ApprovalKind
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.errors import UsageError
from nanohost.text import quoting
from nanohost.text.phrases import format_datetime, format_time
from nanohost.text.quoting import quote_block
from nanohost.text.translation import TranslatableText, _, gettext_noop, lazy_gettext
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import CardOut
from nanohost_protocol.rows import Origin

MAX_CARD_CHARS = 6_000
"""Characters of a card. Nobody reads more, and approvers must read what they decide on."""
MAX_INLINE_CHARS = 60
"""Characters of a value that is shown on the line of its name."""
_STATUS_LABELS = {
    ApprovalStatus.APPROVED: gettext_noop("Approved"),
    ApprovalStatus.DENIED: gettext_noop("Denied"),
    ApprovalStatus.EXPIRED: gettext_noop("Expired"),
    ApprovalStatus.FAILED: gettext_noop("Failed"),
    ApprovalStatus.WITHDRAWN: gettext_noop("Settled"),
}


def compute_digest(rendered_text: str, payload: str) -> str:
    """Returns a digest of the text that a person reads and of the payload that is carried out."""
    return derive_id("d", rendered_text, payload)


def format_facts(title: str, lines: Sequence[tuple[str, str]]) -> str:
    """Returns the title and one line per fact. The values must come from `quoting` or from the host."""
    return "\n".join([title, *(f"**{what}:** {value}".replace(":** \n", ":**\n", 1) for what, value in lines)])


def describe_place(origin: Origin | None, chat_name: str, *, is_group: bool) -> str:
    """Returns a description of a chat for people. `chat_name`: its name on the platform."""
    if origin is None:
        return _("no chat")
    where = origin.channel_type if origin.instance == "default" else f"{origin.channel_type}:{origin.instance}"
    chat = quoting.name(origin.platform_id)
    if not is_group:
        return _("a direct message on {channel}, chat {chat}", channel=where, chat=chat)
    group = quoting.name(chat_name or origin.platform_id)
    return _("the group {group} on {channel}, chat {chat}", group=group, channel=where, chat=chat)


def format_arguments(arguments: str) -> list[tuple[str, str]]:
    """Returns every argument of an agent's request in full. Raises UsageError if one cannot be shown."""
    try:
        document = json.loads(arguments, object_pairs_hook=_reject_duplicate_keys)
    except (ValueError, RecursionError):
        raise UsageError("its arguments are not JSON") from None
    if not isinstance(document, dict):
        raise UsageError("its arguments are not a JSON object")
    return [
        (quoting.name(key, limit=200), _format_inline_or_block(_format_value(value))) for key, value in document.items()
    ]


def _format_inline_or_block(value: str) -> str:
    """Returns a short value for the line of its name, and others as a block."""
    is_plain = (
        len(value) <= MAX_INLINE_CHARS
        and value.isprintable()
        and "`" not in value
        and quoting.escape_invisible(value) == value
    )
    return f"`{value}`" if is_plain else "\n" + quote_block(value)


def _format_value(value: object) -> str:
    """Returns a string with its line breaks, in quotation marks; other values as JSON."""
    if isinstance(value, str):
        return f"“{value}”"
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Rejects duplicate keys: a person could read one value while the other is carried out."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UsageError("its arguments name something twice")
    return found


def build_card(approval: Approval, kind: ApprovalKind, zone: tzinfo) -> CardOut:
    """Returns the card for the approver."""
    title, _newline, body = approval.rendered_text.partition("\n")
    choice = f" {typed}" if (typed := kind.typed_example(approval)) else ""
    until = format_facts("", [(_("Until"), format_datetime(approval.expires_at, zone))]).strip()
    how = _(
        "Press, or type {approve} or {deny}.",
        approve=f"`/approve {approval.id}{choice}`",
        deny=f"`/deny {approval.id} {_('why')}`",
    )
    options = tuple(kind.option_label(option) for option in approval.options)
    return CardOut(title=title, body="\n".join([body, until, how]), options=options)


def format_closed_card(
    approval: Approval, *, status: ApprovalStatus, decided_by: str, outcome: str, now: datetime, zone: tzinfo
) -> str:
    """Returns the card's text after it is closed, without buttons. It is sent as a new message if the channel cannot
    edit."""
    title = approval.rendered_text.partition("\n")[0]
    values = {"status": _(_STATUS_LABELS[status]), "time": format_time(now, now, zone), "outcome": outcome}
    said = (
        _("{status} by {person}, {time}: {outcome}", person=decided_by, **values)
        if decided_by
        else _("{status}, {time}: {outcome}", **values)
    )
    return f"**{title}** (`{approval.id}`)\n{said}"


def format_already_decided(approval: Approval, *, decided_by: str, now: datetime, zone: tzinfo) -> TranslatableText:
    """Returns the reply to a late decision, without a full stop."""
    status = lazy_gettext(_STATUS_LABELS[approval.status])
    said = (
        lazy_gettext("{status} already by {person}", status=status, person=decided_by)
        if decided_by
        else lazy_gettext("{status} already", status=status)
    )
    if approval.decided_at:
        said = lazy_gettext("{decision}, {time}", decision=said, time=format_time(approval.decided_at, now, zone))
    if approval.outcome:
        said = lazy_gettext("{decision}: {outcome}", decision=said, outcome=approval.outcome.rstrip("."))
    return said
