"""Validates every row of the agent before it enters the ledger or the list of actions. Pure.

The container wrote the row; the host decides. A row goes back to where the message it answers came from, or to a
name in the session's own address book. Anything else is put on record as dropped. A row that is no message but asks
for something is a request: see requests.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from nanohost.db.actions import ActionRow
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.delivery.agent_requests import build_request, is_request
from nanohost.delivery.render import content_problem
from nanohost.model import SessionId
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.moments import PAST_TOLERANCE, past_moment_error
from nanohost_protocol.outbound import MalformedRow
from nanohost_protocol.payloads import EditOut, ReactionOut, decode_out
from nanohost_protocol.rows import ChatId, MessageOut, Origin, OutKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressBook:
    """Where a session may send: by name, and without one. All of it the host's own knowledge.

    `unnamed_chats`: chats of the session that its agent has no name for yet; it may answer what came from there.
    """

    by_name: Mapping[str, Origin]
    default: Origin | None
    unnamed_chats: frozenset[ChatId] = frozenset()

    def contains(self, place: Origin) -> bool:
        """Whether that chat is one of the session's."""
        chat = origin_chat_id(place)
        return chat in self.unnamed_chats or any(chat == origin_chat_id(known) for known in self.by_name.values())


def origin_chat_id(origin: Origin) -> ChatId:
    return ChatId(origin.channel_type, origin.instance, origin.platform_id)


MAX_DELAY = timedelta(days=366)
"""How far ahead a message may be sent: what is due later stays in the ledger for longer than anybody plans."""
TOO_FAR_AHEAD = "deliver_after is more than a year ahead; send it later, or name a time within a year"
MAX_DROPPED_CHARS = 2_000
"""Characters of the content that are kept of a row that is not sent: enough to see what was meant."""
MAX_TURN_ID_CHARS = 100
"""Characters. One of ours has thirty; a container can write another."""
NO_ORIGIN = Origin(channel_type="", instance="", platform_id="")


def validate(
    row: MessageOut | MalformedRow,
    *,
    session: SessionId,
    book: AddressBook,
    origins: Mapping[str, Origin],
    now: datetime,
    origins_by_number: Mapping[int, Origin] = MappingProxyType({}),
) -> Delivery | ActionRow:
    """The ledger entry for a row: pending, or dropped with the reason; or the request it makes.

    `origins`: of this session's messages, by id; `origins_by_number`: of those that changes and reactions are about, of
    ours where they went, by number.
    """
    if isinstance(row, MalformedRow):
        return _build_entry(row, session, NO_ORIGIN, now, f"the row is malformed: {row.problem}")
    if (problem := time_problem(row, now)) is not None:
        return reject(row, problem, session=session, book=book, origins=origins, now=now)
    if (number := target_number(row)) is not None:
        return _build_targeted_entry(row, origins_by_number.get(number), session, book, now)
    target = _resolve_target(row, book, origins)
    if is_request(row):
        return build_request(
            row, session=session, target=target, no_target_reason=_no_target_reason(row, book), now=now
        )
    if target is None:
        return _build_entry(row, session, NO_ORIGIN, now, _no_target_reason(row, book))
    return _build_entry(
        row, session, _with_reply_target(row, target, origins), now, content_problem(row.kind, row.content)
    )


def time_problem(row: MessageOut, now: datetime) -> str | None:
    """Why it cannot be sent when it says: that is further ahead than anybody plans, or was over when it was written.
    One that came due while it waited for us is sent."""
    due = row.deliver_after
    if due is None:
        return None
    if due > now + MAX_DELAY:
        return TOO_FAR_AHEAD
    written = min(row.timestamp, now)
    return (
        past_moment_error(f"deliver_after {due:%Y-%m-%dT%H:%MZ}", due, zone=UTC, now=now)
        if due < written - PAST_TOLERANCE
        else None
    )


def reject(
    row: MessageOut, reason: str, *, session: SessionId, book: AddressBook, origins: Mapping[str, Origin], now: datetime
) -> ActionRow:
    """A row that is not entered as what it is: its agent is told why, in words."""
    target = _resolve_target(row, book, origins)
    return build_request(row, session=session, target=target, no_target_reason="", now=now, rejection=reason)


def target_number(row: MessageOut) -> int | None:
    """The number of the message that a change or a reaction is about; None for other rows."""
    if row.kind not in (OutKind.EDIT, OutKind.REACTION) or row.recurrence is not None:
        return None
    try:
        payload = decode_out(row.kind, row.content)
    except PayloadError:
        return None
    return payload.message if isinstance(payload, EditOut | ReactionOut) else None


def _build_targeted_entry(
    row: MessageOut, origin: Origin | None, session: SessionId, book: AddressBook, now: datetime
) -> Delivery:
    """A change or a reaction goes to where the message is that it is about, whatever else the row says."""
    if origin is None or not book.contains(origin):
        return _build_entry(
            row, session, NO_ORIGIN, now, f"there is no message {target_number(row)} of this session to be found"
        )
    if row.kind == OutKind.EDIT and origin.platform_message_id is not None:
        return _build_entry(row, session, origin, now, f"message {target_number(row)} is not one of its own")
    return _build_entry(replace(row, destination=None), session, origin, now, content_problem(row.kind, row.content))


def _resolve_target(row: MessageOut, book: AddressBook, origins: Mapping[str, Origin]) -> Origin | None:
    if row.destination is not None:
        return book.by_name.get(row.destination)
    answered = origins.get(row.in_reply_to) if row.in_reply_to is not None else None
    if answered is None:
        return book.default
    return answered if book.contains(answered) else None  # never elsewhere: it was meant for that chat


def _with_reply_target(row: MessageOut, target: Origin, origins: Mapping[str, Origin]) -> Origin:
    """The target, with the message that is answered if that one is from there: a name may be given beside it."""
    answered = origins.get(row.in_reply_to) if row.destination is not None and row.in_reply_to is not None else None
    if answered is not None and (answered.chat, answered.thread_id) == (target.chat, target.thread_id):
        return answered
    return target


def _no_target_reason(row: MessageOut, book: AddressBook) -> str:
    if row.destination is None and book.default is not None:
        return "the chat it answers is not one of the session's any more"
    if row.destination is None:
        return "it names no destination, and the session has no chat of its own"
    known = ", ".join(sorted(book.by_name)) or "none"
    return f"there is no destination {row.destination[:100]!r} (known: {known})"


def _build_entry(
    row: MessageOut | MalformedRow, session: SessionId, target: Origin, now: datetime, problem: str | None
) -> Delivery:
    queue = DeliveryQueueKey(session, target.channel_type, target.instance, target.platform_id)
    if isinstance(row, MalformedRow):
        return Delivery(
            queue=queue,
            seq=row.seq,
            out_id=f"malformed-{row.seq}",
            kind="malformed",
            thread_id=None,
            reply_to=None,
            content="",
            status=DeliveryStatus.DROPPED,
            reason=problem,
            created_at=now,
        )
    return Delivery(
        queue=queue,
        seq=row.seq,
        out_id=row.id,
        kind=row.kind,
        thread_id=target.thread_id,
        reply_to=target.platform_message_id,
        content=row.content if problem is None else row.content[:MAX_DROPPED_CHARS],
        status=DeliveryStatus.PENDING if problem is None else DeliveryStatus.DROPPED,
        not_before=row.deliver_after,
        reason=problem,
        created_at=now,
        turn_id=row.turn_id[:MAX_TURN_ID_CHARS],
    )
