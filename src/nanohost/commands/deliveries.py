"""Deliveries: what is on its way to people, what became of it, and an operator's word on what did not arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.chat_names import CHAT, ChatNames, chat_names, known_chat
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.delivery_number import DeliveryNumber, short, shortened
from nanohost.commands.setup import known_session
from nanohost.commands.show import Json, plain, show, show_with
from nanohost.delivery.render import render
from nanohost.errors import UsageError
from nanohost.store import deliveries
from nanohost.store.database import Queries
from nanohost.store.deliveries import Delivery, DeliveryStatus
from nanohost.store.domain_events import DeliveryDecided
from nanohost_protocol.errors import PayloadError

BY_OPERATOR = "dropped by the operator"


class List(Arguments):
    status: DeliveryStatus | None = Field(None, description="only these (default: all)")
    session: str | None = Field(None, description="only this session's: its id, or the beginning of it")
    chat: str | None = Field(None, description=f"only to this chat: {CHAT}")
    limit: int = Field(50, ge=1, le=10_000, description="at most so many, those that changed last (default: 50)")


class One(Arguments):
    session: str = Field(description="the session's id, or its beginning")
    seq: DeliveryNumber = Field(description="the delivery's number in it, such as 7, or n448: what the host said")


class Drop(One):
    reason: str = Field("", max_length=500, description="why, for the record")


async def _list(context: CommandContext, arguments: List) -> Json:
    session = await known_session(context.store, arguments.session) if arguments.session is not None else None
    found = await deliveries.latest(
        context.store.reports,
        status=arguments.status,
        session=session.id if session else None,
        chat=None if arguments.chat is None else await known_chat(context.store.reports, arguments.chat),
        limit=arguments.limit,
    )
    names = await chat_names(context.store.reports)
    return [_row(delivery, names) for delivery in found]


async def _show(context: CommandContext, arguments: One) -> Json:
    delivery = await _known(context.store, arguments)
    sent, parts = await deliveries.progress(context.store.reports, delivery)
    return {
        **_row(delivery, await chat_names(context.store.reports)),
        "thread": delivery.thread_id,
        "kind": delivery.kind,
        "text": _text(delivery),
        "parts": f"{sent} of {parts} sent" if parts else "1",
        "not_before": plain(delivery.not_before),
        "next_try": plain(delivery.next_try_at),
        "operator_said": plain(delivery.decision),
        "platform_message_ids": list(delivery.receipt),
        "tries": plain(await deliveries.attempts(context.store.reports, delivery)),
    }


async def _resend(context: CommandContext, arguments: One) -> Json:
    delivery = await _known(context.store, arguments)
    async with context.store.transaction() as tx:
        done = await deliveries.resend(tx, delivery, context.clock.now())
    if not done:
        raise await _refusal(context, arguments, "sent again")
    return await _decided(context, arguments)


async def _drop(context: CommandContext, arguments: Drop) -> Json:
    delivery = await _known(context.store, arguments)
    reason = f"{BY_OPERATOR}: {arguments.reason}" if arguments.reason else BY_OPERATOR
    async with context.store.transaction() as tx:
        if done := await deliveries.drop(tx, delivery, reason, context.clock.now()):
            tx.emit(DeliveryDecided(delivery.lane))
    if not done:
        raise await _refusal(context, arguments, "dropped")
    return await _decided(context, arguments)


async def _decided(context: CommandContext, arguments: One) -> Json:
    delivery = await _known(context.store, arguments)
    row = _row(delivery, await chat_names(context.store.reports))
    if delivery.status is DeliveryStatus.DROPPED:
        return {
            **row,
            "next": f"nanohost deliveries resend {delivery.lane.session_id} {short(delivery.seq)} takes it back",
        }
    return {**row, "next": await context.when("is sent")}


async def _known(db: Queries, arguments: One) -> Delivery:
    session = await known_session(db, arguments.session)
    found = await deliveries.find(db, session.id, arguments.seq)
    if found is None:
        raise UsageError(
            f"there is no delivery {short(arguments.seq)} of session {session.id}",
            hint=f"nanohost deliveries list --session {session.id}",
        )
    return found


async def _refusal(context: CommandContext, arguments: One, what: str) -> UsageError:
    """Why this one cannot be sent again or dropped, as it is by now."""
    delivery = await _known(context.store, arguments)
    why = {
        DeliveryStatus.PENDING: "waits to be sent already",
        DeliveryStatus.SENDING: "is being sent, or was when the host ended",
        DeliveryStatus.SENT: "was sent",
        DeliveryStatus.DROPPED: f"was dropped: {delivery.reason}",
    }.get(delivery.status, f"is {delivery.status}")
    session = delivery.lane.session_id
    return UsageError(
        f"delivery {short(delivery.seq)} of session {session} {why}; it cannot be {what}",
        hint=f"nanohost deliveries show {session} {short(delivery.seq)}",
    )


def _row(delivery: Delivery, names: ChatNames) -> dict[str, Json]:
    """`chat`: the one that it goes to; `place`: that one as TYPE:INSTANCE:ID."""
    lane = delivery.lane
    return {
        "session": lane.session_id,
        "seq": delivery.seq,
        "status": str(delivery.status),
        "chat": names.of_place(lane.chat),
        "place": f"{lane.channel_type}:{lane.instance}:{lane.platform_id}" if lane.channel_type else None,
        "attempts": delivery.attempts,
        "since": plain(delivery.created_at),
        "reason": delivery.reason,
    }


def _text(delivery: Delivery) -> str | None:
    with suppress(PayloadError):
        return render(delivery.kind, delivery.content)
    return None


def _as_rows(result: Json) -> str:
    rows = [result] if isinstance(result, Mapping) else result
    assert isinstance(rows, Sequence)
    shown = [shortened(row) for row in rows if isinstance(row, Mapping)]
    return show(shown[0] if isinstance(result, Mapping) else shown)


def _render(result: Json) -> str:
    assert isinstance(result, Mapping)
    return show_with(shortened(result), "tries", none="not tried yet")


COMMANDS = (
    Command(
        words="deliveries list",
        help="list messages to people, those that changed last first",
        example="nanohost deliveries list --status dead",
        arguments=List,
        run=_list,
        render=_as_rows,
    ),
    Command(
        words="deliveries show",
        help="show one message to people with every try",
        example="nanohost deliveries show s4kq 7",
        arguments=One,
        run=_show,
        render=_render,
        positional=("session", "seq"),
    ),
    Command(
        words="deliveries resend",
        help="send a message again that was given up, is held as unknown, or was dropped by command",
        example="nanohost deliveries resend s4kq 7",
        arguments=One,
        run=_resend,
        render=_as_rows,
        positional=("session", "seq"),
    ),
    Command(
        words="deliveries drop",
        help="never send a message that waits, was given up, or is held as unknown",
        example='nanohost deliveries drop s4kq 7 --reason "they have it already"',
        arguments=Drop,
        run=_drop,
        render=_as_rows,
        positional=("session", "seq"),
    ),
)
