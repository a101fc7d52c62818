"""Deliveries: messages on their way out, their outcomes, and an operator's decision on those that did not arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.chat_names import CHAT_HELP, ChatNames, load_chat_names, resolve_chat
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.delivery_number import DeliveryNumber, short_number, with_short_number
from nanohost.commands.setup import resolve_session
from nanohost.commands.tables import Json, render_result, render_with_table, to_json
from nanohost.db import deliveries
from nanohost.db.database import Queries
from nanohost.db.deliveries import Delivery, DeliveryStatus
from nanohost.db.domain_events import DeliveryDecided
from nanohost.delivery.render import render
from nanohost.errors import UsageError
from nanohost_protocol.errors import PayloadError

ABOUT = "messages to people: what was sent, waits, or failed"
DROPPED_BY_OPERATOR = "dropped by the operator"


class ListArgs(CommandArguments):
    status: DeliveryStatus | None = Field(None, description="only these (default: all)")
    session: str | None = Field(None, description="only this session's: its id, or the beginning of it")
    chat: str | None = Field(None, description=f"only to this chat: {CHAT_HELP}")
    limit: int = Field(50, ge=1, le=10_000, description="at most so many, those that changed last (default: 50)")


class DeliveryArgs(CommandArguments):
    session: str = Field(description="the session's id, or its beginning")
    seq: DeliveryNumber = Field(description="the delivery's number in it, such as 7, or n448: what the host said")


class DropArgs(DeliveryArgs):
    reason: str = Field("", max_length=500, description="why, for the record")


async def _list(context: CommandContext, arguments: ListArgs) -> Json:
    session = await resolve_session(context.store, arguments.session) if arguments.session is not None else None
    found = await deliveries.latest(
        context.store.reports,
        status=arguments.status,
        session=session.id if session else None,
        chat=None if arguments.chat is None else await resolve_chat(context.store.reports, arguments.chat),
        limit=arguments.limit,
    )
    names = await load_chat_names(context.store.reports)
    return [_make_row(delivery, names) for delivery in found]


async def _get(context: CommandContext, arguments: DeliveryArgs) -> Json:
    delivery = await _find_delivery(context.store, arguments)
    sent, parts = await deliveries.part_progress(context.store.reports, delivery)
    return {
        **_make_row(delivery, await load_chat_names(context.store.reports)),
        "thread": delivery.thread_id,
        "kind": delivery.kind,
        "text": _render_text(delivery),
        "parts": f"{sent} of {parts} sent" if parts else "1",
        "not_before": to_json(delivery.not_before),
        "next_try": to_json(delivery.next_attempt_at),
        "operator_said": to_json(delivery.decision),
        "platform_message_ids": list(delivery.receipt),
        "tries": to_json(await deliveries.list_attempts(context.store.reports, delivery)),
    }


async def _resend(context: CommandContext, arguments: DeliveryArgs) -> Json:
    delivery = await _find_delivery(context.store, arguments)
    async with context.store.transaction() as tx:
        done = await deliveries.resend(tx, delivery, context.clock.now())
    if not done:
        raise await _not_allowed_error(context, arguments, "sent again")
    return await _decision_result(context, arguments)


async def _drop(context: CommandContext, arguments: DropArgs) -> Json:
    delivery = await _find_delivery(context.store, arguments)
    reason = f"{DROPPED_BY_OPERATOR}: {arguments.reason}" if arguments.reason else DROPPED_BY_OPERATOR
    async with context.store.transaction() as tx:
        if done := await deliveries.drop(tx, delivery, reason, context.clock.now()):
            tx.emit(DeliveryDecided(delivery.queue))
    if not done:
        raise await _not_allowed_error(context, arguments, "dropped")
    return await _decision_result(context, arguments)


async def _decision_result(context: CommandContext, arguments: DeliveryArgs) -> Json:
    delivery = await _find_delivery(context.store, arguments)
    row = _make_row(delivery, await load_chat_names(context.store.reports))
    if delivery.status is DeliveryStatus.DROPPED:
        return {
            **row,
            "next": (
                f"nanohost deliveries resend {delivery.queue.session_id} {short_number(delivery.seq)} takes it back"
            ),
        }
    return {**row, "next": await context.describe_when("is sent")}


async def _find_delivery(db: Queries, arguments: DeliveryArgs) -> Delivery:
    session = await resolve_session(db, arguments.session)
    found = await deliveries.find(db, session.id, arguments.seq)
    if found is None:
        raise UsageError(
            f"there is no delivery {short_number(arguments.seq)} of session {session.id}",
            hint=f"nanohost deliveries list --session {session.id}",
        )
    return found


async def _not_allowed_error(context: CommandContext, arguments: DeliveryArgs, action: str) -> UsageError:
    """Returns why this delivery cannot be resent or dropped in its present state."""
    delivery = await _find_delivery(context.store, arguments)
    why = {
        DeliveryStatus.PENDING: "waits to be sent already",
        DeliveryStatus.SENDING: "is being sent, or was when the host ended",
        DeliveryStatus.SENT: "was sent",
        DeliveryStatus.DROPPED: f"was dropped: {delivery.reason}",
    }.get(delivery.status, f"is {delivery.status}")
    session = delivery.queue.session_id
    return UsageError(
        f"delivery {short_number(delivery.seq)} of session {session} {why}; it cannot be {action}",
        hint=f"nanohost deliveries get {session} {short_number(delivery.seq)}",
    )


def _make_row(delivery: Delivery, names: ChatNames) -> dict[str, Json]:
    """Returns the row. `chat`: the name of its target; `place`: the target as TYPE:INSTANCE:ID."""
    queue = delivery.queue
    return {
        "session": queue.session_id,
        "seq": delivery.seq,
        "status": str(delivery.status),
        "chat": names.for_chat_key(queue.chat),
        "place": f"{queue.channel_type}:{queue.instance}:{queue.platform_id}" if queue.channel_type else None,
        "attempts": delivery.attempts,
        "since": to_json(delivery.created_at),
        "reason": delivery.reason,
    }


def _render_text(delivery: Delivery) -> str | None:
    with suppress(PayloadError):
        return render(delivery.kind, delivery.content)
    return None


def _render_rows(result: Json) -> str:
    rows = [result] if isinstance(result, Mapping) else result
    assert isinstance(rows, Sequence)
    shown = [with_short_number(row) for row in rows if isinstance(row, Mapping)]
    return render_result(shown[0] if isinstance(result, Mapping) else shown)


def _render_details(result: Json) -> str:
    assert isinstance(result, Mapping)
    return render_with_table(with_short_number(result), "tries", empty_text="not tried yet")


COMMANDS = (
    Command(
        words="deliveries list",
        help="list messages to people, those that changed last first",
        example="nanohost deliveries list --status dead",
        arguments=ListArgs,
        run=_list,
        render=_render_rows,
    ),
    Command(
        words="deliveries get",
        help="show one message to people with every try",
        example="nanohost deliveries get s4kq 7",
        arguments=DeliveryArgs,
        run=_get,
        render=_render_details,
        positional=("session", "seq"),
    ),
    Command(
        words="deliveries resend",
        help="send a message again that was given up, is held as unknown, or was dropped by command",
        example="nanohost deliveries resend s4kq 7",
        arguments=DeliveryArgs,
        run=_resend,
        render=_render_rows,
        positional=("session", "seq"),
    ),
    Command(
        words="deliveries drop",
        help="never send a message that waits, was given up, or is held as unknown",
        example='nanohost deliveries drop s4kq 7 --reason "they have it already"',
        arguments=DropArgs,
        run=_drop,
        render=_render_rows,
        positional=("session", "seq"),
    ),
)
