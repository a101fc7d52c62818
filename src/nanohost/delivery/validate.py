"""Validates every row of the agent before it enters the ledger or the list of actions. Pure.

The container wrote the row; the host decides. A row is sent to the origin of the message that it answers, or to a name
in the session's address book. Any other row is recorded as dropped. A row that is no message is a request: see
agent_requests.py.
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
from nanohost_protocol.outbound import MalformedRow
from nanohost_protocol.payloads import EditOut, ReactionOut, decode_out
from nanohost_protocol.rows import ChatId, MessageOut, Origin, OutKind
from nanohost_protocol.typed_times import PAST_TOLERANCE, past_moment_error


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressBook:
    """Where a session may send, with a name and without one. All of it is the host's own data.

    `unnamed_chats`: chats of the session that its agent has no name for yet; it may answer messages from there.
    """

    by_name: Mapping[str, Origin]
    default: Origin | None
    unnamed_chats: frozenset[ChatId] = frozenset()

    def contains(self, place: Origin) -> bool:
        """Returns whether the session may send to that chat."""
        chat = origin_chat_id(place)
        return chat in self.unnamed_chats or any(chat == origin_chat_id(known) for known in self.by_name.values())


def origin_chat_id(origin: Origin) -> ChatId:
    return ChatId(origin.channel_type, origin.instance, origin.platform_id)


MAX_DELAY = timedelta(days=366)
"""How far ahead a message may be scheduled: nobody plans further, and it stays in the ledger until then."""
TOO_FAR_AHEAD = "deliver_after is more than a year ahead; send it later, or name a time within a year"
MAX_DROPPED_CHARS = 2_000
"""Characters of the content that are kept of a dropped row, for diagnosis."""
MAX_TURN_ID_CHARS = 100
"""Characters. The runner's ids have thirty; a container can write longer ones."""
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
    """Returns the ledger entry for a row, pending or dropped with the reason; or the request that it makes.

    `origins`: origins of this session's messages, by id. `origins_by_number`: where the messages are that edits and
    reactions refer to, by number.
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
    """Returns why it cannot be sent at its time: that is too far ahead, or had passed when the row was written.

    A row that became due while it waited to be collected is sent.
    """
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
    """Returns a refused request in place of the row, so that its agent is told the reason."""
    target = _resolve_target(row, book, origins)
    return build_request(row, session=session, target=target, no_target_reason="", now=now, rejection=reason)


def target_number(row: MessageOut) -> int | None:
    """Returns the number of the message that an edit or a reaction refers to; None for other rows."""
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
    """Returns the entry of an edit or a reaction: it is sent to the chat of its message, whatever the row says."""
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
    return answered if book.contains(answered) else None  # never to another chat: it was written for that one


def _with_reply_target(row: MessageOut, target: Origin, origins: Mapping[str, Origin]) -> Origin:
    """Returns the target, with the message to reply to if that message is from the same chat."""
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
