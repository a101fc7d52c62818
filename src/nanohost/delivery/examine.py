"""The check every row of the agent passes before it enters the ledger, or the list of actions. Pure.

The container wrote the row; the host decides. A row goes back to where the message it answers came from, or to a
name in the session's own address book. Anything else is put on record as dropped. A row that is no message but asks
for something is a request: see requests.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from nanohost.delivery.render import problem_of
from nanohost.delivery.requests import is_request, request
from nanohost.model import SessionId
from nanohost.store.actions import ActionRow
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.moments import JUST_NOW, in_the_past
from nanohost_protocol.outbound import Malformed
from nanohost_protocol.payloads import EditOut, ReactionOut, decode_out
from nanohost_protocol.rows import ChatId, MessageOut, Origin, OutKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressBook:
    """Where a session may send: by name, and without one. All of it the host's own knowledge.

    `unnamed`: chats of the session that its agent has no name for yet; it may answer what came from there.
    """

    by_name: Mapping[str, Origin]
    default: Origin | None
    unnamed: frozenset[ChatId] = frozenset()

    def has(self, place: Origin) -> bool:
        """Whether that chat is one of the session's."""
        chat = chat_of(place)
        return chat in self.unnamed or any(chat == chat_of(known) for known in self.by_name.values())


def chat_of(place: Origin) -> ChatId:
    return ChatId(place.channel_type, place.instance, place.platform_id)


LATEST = timedelta(days=366)
"""How far ahead a message may be sent: what is due later stays in the ledger for longer than anybody plans."""
TOO_LATE = "deliver_after is more than a year ahead; send it later, or name a time within a year"
MOST_DROPPED = 2_000
"""Characters of the content that are kept of a row that is not sent: enough to see what was meant."""
LONGEST_TURN_ID = 100
"""Characters. One of ours has thirty; a container can write another."""
NOWHERE = Origin(channel_type="", instance="", platform_id="")


def examine(
    row: MessageOut | Malformed,
    *,
    session: SessionId,
    book: AddressBook,
    origins: Mapping[str, Origin],
    now: datetime,
    numbered: Mapping[int, Origin] = MappingProxyType({}),
) -> Delivery | ActionRow:
    """The ledger entry for a row: pending, or dropped with the reason; or the request it makes.

    `origins`: of this session's messages, by id; `numbered`: of those that changes and reactions are about, of ours
    where they went, by number.
    """
    if isinstance(row, Malformed):
        return _entry(row, session, NOWHERE, now, f"the row is malformed: {row.problem}")
    if (problem := problem_of_time(row, now)) is not None:
        return refuse(row, problem, session=session, book=book, origins=origins, now=now)
    if (number := concerns(row)) is not None:
        return _about(row, numbered.get(number), session, book, now)
    target = _target(row, book, origins)
    if is_request(row):
        return request(row, session=session, target=target, nowhere=_nowhere(row, book), now=now)
    if target is None:
        return _entry(row, session, NOWHERE, now, _nowhere(row, book))
    return _entry(row, session, _answering(row, target, origins), now, problem_of(row.kind, row.content))


def problem_of_time(row: MessageOut, now: datetime) -> str | None:
    """Why it cannot be sent when it says: that is further ahead than anybody plans, or was over when it was written.
    One that came due while it waited for us is sent."""
    due = row.deliver_after
    if due is None:
        return None
    if due > now + LATEST:
        return TOO_LATE
    written = min(row.timestamp, now)
    return (
        in_the_past(f"deliver_after {due:%Y-%m-%dT%H:%MZ}", due, zone=UTC, now=now)
        if due < written - JUST_NOW
        else None
    )


def refuse(
    row: MessageOut, why: str, *, session: SessionId, book: AddressBook, origins: Mapping[str, Origin], now: datetime
) -> ActionRow:
    """A row that is not entered as what it is: its agent is told why, in words."""
    target = _target(row, book, origins)
    return request(row, session=session, target=target, nowhere="", now=now, refused=why)


def concerns(row: MessageOut) -> int | None:
    """The number of the message that a change or a reaction is about; None for other rows."""
    if row.kind not in (OutKind.EDIT, OutKind.REACTION) or row.recurrence is not None:
        return None
    try:
        payload = decode_out(row.kind, row.content)
    except PayloadError:
        return None
    return payload.message if isinstance(payload, EditOut | ReactionOut) else None


def _about(row: MessageOut, place: Origin | None, session: SessionId, book: AddressBook, now: datetime) -> Delivery:
    """A change or a reaction goes to where the message is that it is about, whatever else the row says."""
    if place is None or not book.has(place):
        return _entry(row, session, NOWHERE, now, f"there is no message {concerns(row)} of this session to be found")
    if row.kind == OutKind.EDIT and place.platform_message_id is not None:
        return _entry(row, session, place, now, f"message {concerns(row)} is not one of its own")
    return _entry(replace(row, destination=None), session, place, now, problem_of(row.kind, row.content))


def _target(row: MessageOut, book: AddressBook, origins: Mapping[str, Origin]) -> Origin | None:
    if row.destination is not None:
        return book.by_name.get(row.destination)
    answered = origins.get(row.in_reply_to) if row.in_reply_to is not None else None
    if answered is None:
        return book.default
    return answered if book.has(answered) else None  # never elsewhere: it was meant for that chat


def _answering(row: MessageOut, target: Origin, origins: Mapping[str, Origin]) -> Origin:
    """The target, with the message that is answered if that one is from there: a name may be given beside it."""
    answered = origins.get(row.in_reply_to) if row.destination is not None and row.in_reply_to is not None else None
    if answered is not None and (answered.chat, answered.thread_id) == (target.chat, target.thread_id):
        return answered
    return target


def _nowhere(row: MessageOut, book: AddressBook) -> str:
    if row.destination is None and book.default is not None:
        return "the chat it answers is not one of the session's any more"
    if row.destination is None:
        return "it names no destination, and the session has no chat of its own"
    known = ", ".join(sorted(book.by_name)) or "none"
    return f"there is no destination {row.destination[:100]!r} (known: {known})"


def _entry(
    row: MessageOut | Malformed, session: SessionId, target: Origin, now: datetime, problem: str | None
) -> Delivery:
    lane = LaneKey(session, target.channel_type, target.instance, target.platform_id)
    if isinstance(row, Malformed):
        return Delivery(
            lane=lane,
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
        lane=lane,
        seq=row.seq,
        out_id=row.id,
        kind=row.kind,
        thread_id=target.thread_id,
        reply_to=target.platform_message_id,
        content=row.content if problem is None else row.content[:MOST_DROPPED],
        status=DeliveryStatus.PENDING if problem is None else DeliveryStatus.DROPPED,
        not_before=row.deliver_after,
        reason=problem,
        created_at=now,
        turn_id=row.turn_id[:LONGEST_TURN_ID],
    )
