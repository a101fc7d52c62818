"""Messages: what people wrote, the status of each, and why one was not answered."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.chat_names import CHAT_HELP, ChatNames, load_chat_names, resolve_chat
from nanohost.commands.context import CommandContext
from nanohost.commands.delivery_number import short_number
from nanohost.commands.message_status import (
    STATUS_DESCRIPTIONS,
    MessageOutcome,
    MessageStatus,
    agent_outcome,
    message_outcome,
)
from nanohost.commands.resource import GetVerb, ListArguments, ListVerb, Number, Resource, Row
from nanohost.commands.setup import MAIN_GROUP
from nanohost.commands.since import SINCE_HELP, parse_since
from nanohost.commands.status import wait_reason
from nanohost.commands.tables import UNKNOWN_COST, Json, render_with_table, to_json
from nanohost.containers.notices import notice_id
from nanohost.db import agent_groups, messages, messaging_groups, turn_failures, wirings
from nanohost.db.database import ReportReader
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.message_turns import TurnOutcome
from nanohost.db.messages import Message, MessageRoute, SentMessage, TurnKey
from nanohost.db.notice_numbers import NOTICES_PER_MESSAGE
from nanohost.db.routes import RouteOutcome
from nanohost.gateway.model_health import SET_KEY_COMMAND
from nanohost.model import EventId, SessionId
from nanohost_protocol.rows import ErrorClass

DEFAULT_LIMIT = 50
MAX_LIMIT = 1_000
MAX_ROUTES = 10 * MAX_LIMIT
MAX_STEP_CHARS = 1000
"""Characters of the description of a step, the last column."""

_STATUS_HELP = "; ".join(f"{status}: {meaning}" for status, meaning in STATUS_DESCRIPTIONS.items())


class MessageRow(Row):
    id: int = Field(description="its number")
    received: datetime = Field(description="when it came")
    chat: str = Field(description="the channel, and the chat's name")
    sender: str = Field(description="who wrote it")
    agent: str | None = Field(description="the folder of the agent group that the status is about; empty: none")
    status: MessageStatus = Field(description=f"its outcome, where agents differ the worst: {_STATUS_HELP}")
    cost_usd: float | str | None = Field(
        description="dollars that the turns over it took, with all that they answered; unknown: a model has no price"
    )
    why: str = Field(description="why, where the status does not say it all")
    text: str = Field(description="what was written")


class MessageDetails(MessageRow):
    kind: str = Field(description="message, edit or click: a change of an earlier message, or a press on a button")
    user: str = Field(description="who wrote it, as roles and rules name them: CHANNEL:HANDLE")
    place: str = Field(description="the chat as TYPE:INSTANCE:ID")
    thread: str | None = Field(description="the thread it was written in")
    written: datetime = Field(description="when it was written, by the platform")
    session: str | None = Field(description="the conversation that the status is about")
    turn: str | None = Field(description="the last turn over it there")
    steps: list[dict[str, object]] = Field(
        description="all that is on record of it, in order: when (empty: not kept) and what"
    )
    next: str = Field(description="what to type about it; empty: nothing")


class ListArgs(ListArguments):
    limit: Number | None = Field(
        DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description=f"at most so many, the latest first (default: {DEFAULT_LIMIT})"
    )
    chat: str | None = Field(None, description=f"only of this chat: {CHAT_HELP}")
    since: str | None = Field(None, description=SINCE_HELP)
    status: MessageStatus | None = Field(
        None, description=f"only such, among the last {MAX_LIMIT}: waiting, failed, undelivered, dropped, …"
    )


class MessageArgs(CommandArguments):
    id: Number = Field(description="the message's number, as nanohost messages list shows it")


@dataclass(frozen=True, slots=True, kw_only=True)
class _MessageRecords:
    """The records of some messages."""

    names: ChatNames
    routes_by_message: Mapping[EventId, Sequence[MessageRoute]]
    deliveries_by_turn: Mapping[TurnKey, Sequence[SentMessage]]
    host_replies: Mapping[tuple[SessionId, str], Sequence[SentMessage]]
    """The host's messages about a message, by session and the message's id there."""
    costs: Mapping[TurnKey, float | None]

    def routes(self, message: Message) -> list[tuple[MessageRoute, Sequence[SentMessage]]]:
        return [(one, self.deliveries_for(one)) for one in self.routes_by_message.get(message.id, ())]

    def deliveries_for(self, route: MessageRoute) -> Sequence[SentMessage]:
        """Returns the deliveries of its turn; without a turn, the host's replies."""
        if route.turn_key is not None:
            return self.deliveries_by_turn.get(route.turn_key, ())
        if route.session_id is None or route.message_id is None:
            return ()
        return self.host_replies.get((route.session_id, route.message_id), ())

    def cost(self, message: Message) -> float | str | None:
        keys = {key for one in self.routes_by_message.get(message.id, ()) if (key := one.turn_key) is not None}
        took = [self.costs[key] for key in sorted(keys) if key in self.costs]
        if not took:
            return None
        return UNKNOWN_COST if None in took else sum(one for one in took if one is not None)


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[MessageRow]:
    most = arguments.limit or DEFAULT_LIMIT
    found = await messages.latest(
        db,
        chat=None if arguments.chat is None else await resolve_chat(db, arguments.chat),
        since=None if arguments.since is None else parse_since(arguments.since, context),
        limit=MAX_LIMIT if arguments.status else most,
    )
    record = await _load_records(db, found, numbers=(0,))
    came = [(one, message_outcome(one, record.routes(one))) for one in found]
    shown = [(one, what) for one, what in came if arguments.status in (None, what.status)][:most]
    reasons = await _wait_reasons(context, db, [what for _, what in shown])
    return [_make_row(one, record, _with_session_reason(what, reasons)) for one, what in shown]


async def _wait_reasons(
    context: CommandContext, db: ReportReader, found: Sequence[MessageOutcome]
) -> Mapping[SessionId, str]:
    """Returns the reasons why sessions with waiting messages wait."""
    waiting = {id for one in found if (id := _waiting_session(one)) is not None}
    return {id: await wait_reason(context, db, id) for id in waiting}


def _waiting_session(outcome: MessageOutcome) -> SessionId | None:
    """Returns the session whose turn a message waits for; None if it waits for something else, or not at all."""
    route = outcome.route
    if outcome.status is not MessageStatus.WAITING or route is None or route.outcome is not RouteOutcome.WRITTEN:
        return None
    return route.session_id


def _with_session_reason(found: MessageOutcome, reasons: Mapping[SessionId, str]) -> MessageOutcome:
    session = _waiting_session(found)
    reason = "" if session is None else reasons[session]
    return replace(found, reason=f"{found.reason}; {reason}") if reason else found


async def _get(context: CommandContext, db: ReportReader, arguments: MessageArgs) -> MessageDetails | None:
    message = await messages.find(db, EventId(arguments.id))
    if message is None:
        return None
    record = await _load_records(db, [message], numbers=range(NOTICES_PER_MESSAGE))
    routes = [(route, [one for one in sent if _is_reply(route, one)]) for route, sent in record.routes(message)]
    found = message_outcome(message, routes)
    if found.status is MessageStatus.WAITING and found.route is not None:
        found = await _with_wait_reason(context, db, message, found)
    host_messages = await messages.list_sent_by_host(db, message)
    route = found.route
    return MessageDetails(
        **dict(_make_row(message, record, found)),
        kind=message.kind,
        user=message.chat.user_id_of(message.sender_handle),
        place=f"{message.chat.channel_type}:{message.chat.instance}:{message.chat.platform_id}",
        thread=message.thread_id,
        written=message.sent_at,
        session=None if route is None else route.session_id,
        turn=None if route is None or route.turn is None else route.turn.id,
        steps=[{"at": to_json(at), "what": what} for at, what in _sort_steps(_steps(message, record, host_messages))],
        next=await model_key_fix(db, found)
        or next_step(message, found, record.deliveries_for(route) if route else ())
        or await _wiring_hint(db, message, found),
    )


async def _with_wait_reason(
    context: CommandContext, db: ReportReader, message: Message, found: MessageOutcome
) -> MessageOutcome:
    """Adds the reason why a message waits, as in `nanohost status`."""
    route = found.route
    assert route is not None, "a message waits for an agent"
    reasons = [found.reason, await messages.late_reason(db, message.id, [route.message_id or ""])]
    if route.session_id is not None and route.outcome is RouteOutcome.WRITTEN:
        reasons.insert(1, await wait_reason(context, db, route.session_id))
    why = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    return MessageOutcome(status=found.status, reason=why, route=route)


async def _load_records(db: ReportReader, found: Sequence[Message], *, numbers: Sequence[int]) -> _MessageRecords:
    """Loads the records. `numbers`: the numbers of the host's notices to look for."""
    reached = await messages.list_routes(db, [one.id for one in found], limit=MAX_ROUTES)
    routes = [route for one in reached.values() for route in one]
    turns = {key for route in routes if (key := route.turn_key) is not None}
    notices = {
        (route.session_id, notice_id(route.session_id, route.message_id, number)): route.message_id
        for route in routes
        if route.session_id is not None and route.message_id is not None
        for number in numbers
    }
    sent, answers = (
        defaultdict[TurnKey, list[SentMessage]](list),
        defaultdict[tuple[SessionId, str], list[SentMessage]](list),
    )
    for one in await messages.list_sent_in_turns(db, turns, limit=MAX_ROUTES):
        sent[one.session_id, one.turn_id or ""].append(one)
    for one in await messages.find_sent_by_ids(db, notices, limit=MAX_ROUTES):
        answers[one.session_id, notices[one.session_id, one.out_id]].append(one)
    took = await messages.turn_costs(db, turns)
    return _MessageRecords(
        names=await load_chat_names(db),
        routes_by_message=reached,
        deliveries_by_turn=sent,
        host_replies=answers,
        costs=took,
    )


def _is_reply(route: MessageRoute, one: SentMessage) -> bool:
    """Returns whether it is from the turn, or the host's reply to a command; other notices only report a state."""
    if route.turn is not None or route.session_id is None or route.message_id is None:
        return True
    return one.out_id == notice_id(route.session_id, route.message_id, 0)


def _make_row(message: Message, record: _MessageRecords, found: MessageOutcome) -> MessageRow:
    return MessageRow(
        id=message.id,
        received=message.received_at,
        chat=record.names.for_chat_key(message.chat, fallback_name=message.chat_name),
        sender=message.sender_name or message.sender_handle,
        agent=None if found.route is None else found.route.agent_folder,
        status=found.status,
        cost_usd=record.cost(message),
        why=found.reason,
        text=message.text or (f"[{message.files} files]" if message.files else ""),
    )


# --- what happened, in order ---

Step = tuple[datetime | None, str]


def _steps(message: Message, record: _MessageRecords, host_messages: Sequence[SentMessage]) -> Iterator[Step]:
    chat = record.names.for_chat_key(message.chat, fallback_name=message.chat_name)
    yield message.received_at, f"received from {message.sender_name or message.sender_handle} in {chat}"
    routes = record.routes_by_message.get(message.id, ())
    if not routes:
        found = message_outcome(message, ())
        yield None, f"{found.status}: {found.reason or STATUS_DESCRIPTIONS[found.status]}"
    for route in routes:
        yield route.decided_at, _describe_route(route)
        yield from _turn_steps(route, record)
        sent = [*record.deliveries_by_turn.get(route.turn_key, ())] if route.turn_key is not None else []
        if route.session_id is not None and route.message_id is not None:
            sent += record.host_replies.get((route.session_id, route.message_id), ())
        yield from map(delivery_step, sent)
    yield from map(delivery_step, host_messages)


def _describe_route(route: MessageRoute) -> str:
    found = agent_outcome(route, ())
    match route.outcome:
        case RouteOutcome.WRITTEN:
            return f"routed to {route.agent_folder}, session {route.session_id}"
        case RouteOutcome.CONTEXT:
            return f"routed to {route.agent_folder}, session {route.session_id}, to be read with the next message"
    return f"{found.status} for {route.agent_folder}: {found.reason or STATUS_DESCRIPTIONS[found.status]}"


def _turn_steps(route: MessageRoute, record: _MessageRecords) -> Iterator[Step]:
    turn, key = route.turn, route.turn_key
    if turn is None or key is None:
        return
    if turn.began_at is not None:
        yield turn.began_at, f"turn {turn.id} of {route.agent_folder} began"
    if turn.outcome is not None:
        took = record.costs.get(key, 0.0)
        cost = "" if key not in record.costs else f", {UNKNOWN_COST} cost" if took is None else f", ${took:.4f}"
        error = "" if turn.outcome is TurnOutcome.COMPLETED else f": {turn.error}"
        yield turn.ended_at, f"turn {turn.id} of {route.agent_folder} {turn.outcome}{cost}{error}"


def delivery_step(one: SentMessage) -> Step:
    """Returns the step of a delivery, with the number to type for it."""
    reason = f": {one.reason}" if one.reason and one.status is not DeliveryStatus.SENT else ""
    whose = "the host's message" if one.seq < 0 or one.turn_id is None else "message"
    return (
        one.changed_at,
        f"{one.status}: {whose} {short_number(one.seq)} of session {one.session_id} ({one.kind}){reason}",
    )


def _sort_steps(steps: Iterator[Step]) -> list[Step]:
    """Sorts steps by time; a step without a time stays after the one before it."""
    found, last = [], ""
    for at, what in steps:
        last = last if at is None else at.isoformat()
        found.append((last, at, what))
    return [(at, what) for _, at, what in sorted(found, key=lambda one: one[0])]


# --- what to do about it ---


def next_step(message: Message, found: MessageOutcome, sent: Sequence[SentMessage]) -> str:
    """Returns what to type next, as far as these records show; empty if nothing. `sent`: the messages sent for it."""
    chat, route = message.chat, found.route
    session = "" if route is None else route.session_id or ""
    match found.status:
        case MessageStatus.SET_ASIDE:
            return f"nanohost events retry {message.id}"
        case MessageStatus.UNDELIVERED:
            return _lost_delivery_hint(sent)
        case MessageStatus.FAILED:
            return f"nanohost logs {session}"
        case MessageStatus.WAITING | MessageStatus.RECEIVED | MessageStatus.SENDING:
            return "nanohost status"
        case MessageStatus.HELD:
            approval = message.approval_id if route is None else route.approval_id
            return f"nanohost approvals get {approval}"
        case MessageStatus.SILENT | MessageStatus.WORKING:
            return f"nanohost logs {session}"
        case MessageStatus.DENIED if route is not None:
            user = chat.user_id_of(message.sender_handle)
            return shlex.join(["nanohost", "roles", "create", user, "member", "--group", route.agent_folder])
        case MessageStatus.IGNORED | MessageStatus.CONTEXT if route is not None:
            return f"nanohost wirings update {route.wiring_id} --engage always"
    return ""


def _lost_delivery_hint(sent: Sequence[SentMessage]) -> str:
    """Returns what to type about an answer that did not arrive; one that must not be resent is only shown."""
    bad, dropped = (DeliveryStatus.DEAD, DeliveryStatus.UNKNOWN), DeliveryStatus.DROPPED
    if (lost := next((one for one in sent if one.status in bad or one.is_dropped_by_operator), None)) is not None:
        return f"nanohost deliveries resend {lost.session_id} {short_number(lost.seq)}"
    lost = next((one for one in sent if one.status is dropped), None)
    return "" if lost is None else f"nanohost deliveries get {lost.session_id} {short_number(lost.seq)}"


async def model_key_fix(db: ReportReader, outcome: MessageOutcome) -> str:
    """Returns the command that fixes the model's key, if a turn failed for it and none has succeeded since."""
    if outcome.status is not MessageStatus.FAILED or outcome.route is None or outcome.route.session_id is None:
        return ""
    failures = await turn_failures.find(db, outcome.route.session_id)
    return SET_KEY_COMMAND if failures is not None and failures.error_class is ErrorClass.AUTH else ""


async def _wiring_hint(db: ReportReader, message: Message, found: MessageOutcome) -> str:
    """Returns the command that wires an agent to the message's chat; empty if one is wired."""
    chat = message.chat
    if found.status is not MessageStatus.DROPPED or not chat.platform_id:
        return ""
    known = await messaging_groups.find_by_chat(db, chat)
    if known is not None and await wirings.list_for_chat(db, known.id):
        return ""
    group = next(iter((await agent_groups.list_folders(db)).values()), MAIN_GROUP)
    place = ["--channel", f"{chat.channel_type}:{chat.instance}", "--chat", chat.platform_id, "--group", group]
    return shlex.join(["nanohost", "wirings", "create", *place])


def _render(result: Json) -> str:
    """Renders the message, and below it one line per step."""
    return render_with_table(result, "steps", last_column_max_chars=MAX_STEP_CHARS)


RESOURCE = Resource(
    name="messages",
    singular="message",
    description="messages from people, and their outcome",
    row=MessageRow,
    verbs=(
        ListVerb(
            help="list what people wrote, and whether and why it was answered or not",
            example='--chat "telegram Family" --since 3h',
            arguments=ListArgs,
            run=_list,
        ),
        GetVerb(
            help="show the outcome of one message, step by step: received, routed, turn, cost, sent",
            example="17",
            arguments=MessageArgs,
            run=_get,
            result=MessageDetails,
            render=_render,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()
