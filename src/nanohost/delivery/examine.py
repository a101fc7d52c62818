"""The check every row of the agent passes before it enters the ledger. Pure.

The container wrote the row; the host decides. A row goes back to where the message it answers came from, or to a
name in the session's own address book. Anything else is put on record as dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nanohost.delivery.render import problem_of
from nanohost.model import SessionId
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
from nanohost_protocol.outbound import Malformed
from nanohost_protocol.rows import MessageOut, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressBook:
    """Where a session may send: by name, and without one. All of it the host's own knowledge."""

    by_name: Mapping[str, Origin]
    default: Origin | None


NOWHERE = Origin(channel_type="", instance="", platform_id="")


def examine(
    row: MessageOut | Malformed,
    *,
    session: SessionId,
    book: AddressBook,
    origins: Mapping[str, Origin],
    now: datetime,
) -> Delivery:
    """The ledger entry for a row: pending, or dropped with the reason. `origins`: of this session's messages, by id."""
    if isinstance(row, Malformed):
        return _entry(row, session, NOWHERE, now, f"the row is malformed: {row.problem}")
    target = _target(row, book, origins)
    if target is None:
        return _entry(row, session, NOWHERE, now, _nowhere(row, book))
    return _entry(row, session, target, now, problem_of(row.kind, row.content))


def _target(row: MessageOut, book: AddressBook, origins: Mapping[str, Origin]) -> Origin | None:
    if row.destination is not None:
        return book.by_name.get(row.destination)
    answered = origins.get(row.in_reply_to) if row.in_reply_to is not None else None
    return answered or book.default


def _nowhere(row: MessageOut, book: AddressBook) -> str:
    if row.destination is None:
        return "it names no destination, and the session has no chat of its own"
    known = ", ".join(sorted(book.by_name)) or "none"
    return f"there is no destination {row.destination[:100]!r} (known: {known})"


def _entry(
    row: MessageOut | Malformed, session: SessionId, target: Origin, now: datetime, problem: str | None
) -> Delivery:
    lane = LaneKey(session, target.channel_type, target.instance)
    if isinstance(row, Malformed):
        return Delivery(
            lane=lane,
            seq=row.seq,
            out_id=f"malformed-{row.seq}",
            kind="malformed",
            platform_id=target.platform_id,
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
        platform_id=target.platform_id,
        thread_id=target.thread_id,
        reply_to=target.platform_message_id if row.destination is None else None,
        content=row.content,
        status=DeliveryStatus.PENDING if problem is None else DeliveryStatus.DROPPED,
        next_try_at=row.deliver_after,
        reason=problem,
        created_at=now,
    )
