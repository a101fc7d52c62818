"""Messages: what people wrote, and what became of each. Why one was not answered is the first question of all."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.chat_names import CHAT, ChatNames, chat_names, known_chat
from nanohost.commands.context import CommandContext
from nanohost.commands.delivery_number import short
from nanohost.commands.message_status import MEANINGS, MessageStatus, Outcome, of_agent, outcome
from nanohost.commands.resource import ListArguments, Listing, Look, Number, Resource, Row
from nanohost.commands.setup import MAIN
from nanohost.commands.show import UNKNOWN, Json, plain, show_with
from nanohost.commands.since import SINCE, since
from nanohost.commands.status import why_it_waits
from nanohost.gateway.health import SET_KEY
from nanohost.keeper.notices import notice_id
from nanohost.model import EventId, SessionId
from nanohost.store import agent_groups, messages, messaging_groups, turn_failures, wirings
from nanohost.store.database import Reports
from nanohost.store.deliveries import DeliveryStatus
from nanohost.store.message_turns import TurnOutcome
from nanohost.store.messages import Message, Reached, Sent, TurnKey
from nanohost.store.notice_numbers import NOTICES_A_MESSAGE
from nanohost.store.routes import RouteOutcome
from nanohost_protocol.rows import ErrorClass

MOST = 50
MOST_EVER = 1_000
MOST_ROUTES = 10 * MOST_EVER
WIDEST = 1000
"""Characters of what happened, at the end of its line."""

_STATUSES = "; ".join(f"{status}: {meaning}" for status, meaning in MEANINGS.items())


class MessageRow(Row):
    id: int = Field(description="its number")
    received: datetime = Field(description="when it came")
    chat: str = Field(description="the channel, and the chat's name")
    sender: str = Field(description="who wrote it")
    agent: str | None = Field(description="the folder of the agent group that the status is about; empty: none")
    status: MessageStatus = Field(description=f"what became of it, where agents differ the worst: {_STATUSES}")
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


class List(ListArguments):
    limit: Number | None = Field(
        MOST, ge=1, le=MOST_EVER, description=f"at most so many, the latest first (default: {MOST})"
    )
    chat: str | None = Field(None, description=f"only of this chat: {CHAT}")
    since: str | None = Field(None, description=SINCE)
    status: MessageStatus | None = Field(
        None, description=f"only such, among the last {MOST_EVER}: waiting, failed, undelivered, dropped, …"
    )


class One(Arguments):
    id: Number = Field(description="the message's number, as nanohost messages list shows it")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What is on record of some messages."""

    names: ChatNames
    reached: Mapping[EventId, Sequence[Reached]]
    sent: Mapping[TurnKey, Sequence[Sent]]
    answers: Mapping[tuple[SessionId, str], Sequence[Sent]]
    """What the host said of a message, by session and the message's id there."""
    took: Mapping[TurnKey, float | None]

    def routes(self, message: Message) -> list[tuple[Reached, Sequence[Sent]]]:
        return [(one, self.sent_for(one)) for one in self.reached.get(message.id, ())]

    def sent_for(self, route: Reached) -> Sequence[Sent]:
        """By its turn; of what had none, what the host answered."""
        if route.turn_key is not None:
            return self.sent.get(route.turn_key, ())
        if route.session_id is None or route.message_id is None:
            return ()
        return self.answers.get((route.session_id, route.message_id), ())

    def cost(self, message: Message) -> float | str | None:
        keys = {key for one in self.reached.get(message.id, ()) if (key := one.turn_key) is not None}
        took = [self.took[key] for key in sorted(keys) if key in self.took]
        if not took:
            return None
        return UNKNOWN if None in took else sum(one for one in took if one is not None)


async def _list(context: CommandContext, db: Reports, arguments: List) -> list[MessageRow]:
    most = arguments.limit or MOST
    found = await messages.latest(
        db,
        chat=None if arguments.chat is None else await known_chat(db, arguments.chat),
        since=None if arguments.since is None else since(arguments.since, context),
        limit=MOST_EVER if arguments.status else most,
    )
    record = await _record(db, found, numbers=(0,))
    came = [(one, outcome(one, record.routes(one))) for one in found]
    shown = [(one, what) for one, what in came if arguments.status in (None, what.status)][:most]
    reasons = await _reasons(context, db, [what for _, what in shown])
    return [_row(one, record, _explained(what, reasons)) for one, what in shown]


async def _reasons(context: CommandContext, db: Reports, found: Sequence[Outcome]) -> Mapping[SessionId, str]:
    """Why the sessions wait in which messages do."""
    waiting = {id for one in found if (id := _waits_in(one)) is not None}
    return {id: await why_it_waits(context, db, id) for id in waiting}


def _waits_in(found: Outcome) -> SessionId | None:
    """The session whose turn a message waits for; None: it waits for something else, or not at all."""
    route = found.of
    if found.status is not MessageStatus.WAITING or route is None or route.outcome is not RouteOutcome.WRITTEN:
        return None
    return route.session_id


def _explained(found: Outcome, reasons: Mapping[SessionId, str]) -> Outcome:
    session = _waits_in(found)
    reason = "" if session is None else reasons[session]
    return replace(found, why=f"{found.why}; {reason}") if reason else found


async def _get(context: CommandContext, db: Reports, arguments: One) -> MessageDetails | None:
    message = await messages.find(db, EventId(arguments.id))
    if message is None:
        return None
    record = await _record(db, [message], numbers=range(NOTICES_A_MESSAGE))
    routes = [(route, [one for one in sent if _is_answer(route, one)]) for route, sent in record.routes(message)]
    found = outcome(message, routes)
    if found.status is MessageStatus.WAITING and found.of is not None:
        found = await _with_reason(context, db, message, found)
    said = await messages.said_by_host(db, message)
    route = found.of
    return MessageDetails(
        **dict(_row(message, record, found)),
        kind=message.kind,
        user=message.chat.user(message.sender_handle),
        place=f"{message.chat.channel_type}:{message.chat.instance}:{message.chat.platform_id}",
        thread=message.thread_id,
        written=message.sent_at,
        session=None if route is None else route.session_id,
        turn=None if route is None or route.turn is None else route.turn.id,
        steps=[{"at": plain(at), "what": what} for at, what in _in_order(_steps(message, record, said))],
        next=await what_mends(db, found)
        or next_step(message, found, record.sent_for(route) if route else ())
        or await _wiring_of(db, message, found),
    )


async def _with_reason(context: CommandContext, db: Reports, message: Message, found: Outcome) -> Outcome:
    """Why a message waits, as status tells it."""
    route = found.of
    assert route is not None, "a message waits for an agent"
    reasons = [found.why, await messages.why_late(db, message.id, [route.message_id or ""])]
    if route.session_id is not None and route.outcome is RouteOutcome.WRITTEN:
        reasons.insert(1, await why_it_waits(context, db, route.session_id))
    why = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    return Outcome(status=found.status, why=why, of=route)


async def _record(db: Reports, found: Sequence[Message], *, numbers: Sequence[int]) -> _Record:
    """`numbers`: of the host's notices about a message, those that are looked for."""
    reached = await messages.reached(db, [one.id for one in found], most=MOST_ROUTES)
    routes = [route for one in reached.values() for route in one]
    turns = {key for route in routes if (key := route.turn_key) is not None}
    notices = {
        (route.session_id, notice_id(route.session_id, route.message_id, number)): route.message_id
        for route in routes
        if route.session_id is not None and route.message_id is not None
        for number in numbers
    }
    sent, answers = defaultdict[TurnKey, list[Sent]](list), defaultdict[tuple[SessionId, str], list[Sent]](list)
    for one in await messages.sent_in(db, turns, most=MOST_ROUTES):
        sent[one.session_id, one.turn_id or ""].append(one)
    for one in await messages.known_as(db, notices, most=MOST_ROUTES):
        answers[one.session_id, notices[one.session_id, one.out_id]].append(one)
    took = await messages.took(db, turns)
    return _Record(names=await chat_names(db), reached=reached, sent=sent, answers=answers, took=took)


def _is_answer(route: Reached, one: Sent) -> bool:
    """Whether it is from its turn, or the host's answer to a command: other notices only say how it stands."""
    if route.turn is not None or route.session_id is None or route.message_id is None:
        return True
    return one.out_id == notice_id(route.session_id, route.message_id, 0)


def _row(message: Message, record: _Record, found: Outcome) -> MessageRow:
    return MessageRow(
        id=message.id,
        received=message.received_at,
        chat=record.names.of_place(message.chat, called=message.chat_name),
        sender=message.sender_name or message.sender_handle,
        agent=None if found.of is None else found.of.group,
        status=found.status,
        cost_usd=record.cost(message),
        why=found.why,
        text=message.text or (f"[{message.files} files]" if message.files else ""),
    )


# --- what happened, in order ---

Step = tuple[datetime | None, str]


def _steps(message: Message, record: _Record, said: Sequence[Sent]) -> Iterator[Step]:
    chat = record.names.of_place(message.chat, called=message.chat_name)
    yield message.received_at, f"received from {message.sender_name or message.sender_handle} in {chat}"
    routes = record.reached.get(message.id, ())
    if not routes:
        found = outcome(message, ())
        yield None, f"{found.status}: {found.why or MEANINGS[found.status]}"
    for route in routes:
        yield route.decided_at, _routed(route)
        yield from _turn(route, record)
        sent = [*record.sent.get(route.turn_key, ())] if route.turn_key is not None else []
        if route.session_id is not None and route.message_id is not None:
            sent += record.answers.get((route.session_id, route.message_id), ())
        yield from map(went, sent)
    yield from map(went, said)


def _routed(route: Reached) -> str:
    found = of_agent(route, ())
    match route.outcome:
        case RouteOutcome.WRITTEN:
            return f"routed to {route.group}, session {route.session_id}"
        case RouteOutcome.CONTEXT:
            return f"routed to {route.group}, session {route.session_id}, to be read with the next message"
    return f"{found.status} for {route.group}: {found.why or MEANINGS[found.status]}"


def _turn(route: Reached, record: _Record) -> Iterator[Step]:
    turn, key = route.turn, route.turn_key
    if turn is None or key is None:
        return
    if turn.began_at is not None:
        yield turn.began_at, f"turn {turn.id} of {route.group} began"
    if turn.outcome is not None:
        took = record.took.get(key, 0.0)
        cost = "" if key not in record.took else f", {UNKNOWN} cost" if took is None else f", ${took:.4f}"
        error = "" if turn.outcome is TurnOutcome.COMPLETED else f": {turn.error}"
        yield turn.ended_at, f"turn {turn.id} of {route.group} {turn.outcome}{cost}{error}"


def went(one: Sent) -> Step:
    """What became of something that was said, by the number that is typed about it."""
    reason = f": {one.reason}" if one.reason and one.status is not DeliveryStatus.SENT else ""
    whose = "the host's message" if one.seq < 0 or one.turn_id is None else "message"
    return one.at, f"{one.status}: {whose} {short(one.seq)} of session {one.session_id} ({one.kind}){reason}"


def _in_order(steps: Iterator[Step]) -> list[Step]:
    """By time; one of which that is not known stays behind the one it came after."""
    found, last = [], ""
    for at, what in steps:
        last = last if at is None else at.isoformat()
        found.append((last, at, what))
    return [(at, what) for _, at, what in sorted(found, key=lambda one: one[0])]


# --- what to do about it ---


def next_step(message: Message, found: Outcome, sent: Sequence[Sent]) -> str:
    """What to type about it, as far as that is known without a look at more; empty: nothing. `sent`: for it."""
    chat, route = message.chat, found.of
    session = "" if route is None else route.session_id or ""
    match found.status:
        case MessageStatus.SET_ASIDE:
            return f"nanohost events retry {message.id}"
        case MessageStatus.UNDELIVERED:
            return _about_lost(sent)
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
            user = chat.user(message.sender_handle)
            return shlex.join(["nanohost", "members", "create", user, "--group", route.group])
        case MessageStatus.IGNORED | MessageStatus.CONTEXT if route is not None:
            return f"nanohost wirings update {route.wiring_id} --engage always"
    return ""


def _about_lost(sent: Sequence[Sent]) -> str:
    """What is to be typed about an answer that did not arrive: what may never be sent is only looked at."""
    bad, dropped = (DeliveryStatus.DEAD, DeliveryStatus.UNKNOWN), DeliveryStatus.DROPPED
    if (lost := next((one for one in sent if one.status in bad or one.is_dropped_by_word), None)) is not None:
        return f"nanohost deliveries resend {lost.session_id} {short(lost.seq)}"
    lost = next((one for one in sent if one.status is dropped), None)
    return "" if lost is None else f"nanohost deliveries show {lost.session_id} {short(lost.seq)}"


async def what_mends(db: Reports, found: Outcome) -> str:
    """What mends the key of the model, where that is why a turn failed and none has come to an end since."""
    if found.status is not MessageStatus.FAILED or found.of is None or found.of.session_id is None:
        return ""
    failures = await turn_failures.find(db, found.of.session_id)
    return SET_KEY if failures is not None and failures.error_class is ErrorClass.AUTH else ""


async def _wiring_of(db: Reports, message: Message, found: Outcome) -> str:
    """What puts an agent into the chat of a message that was for none; empty where there is one."""
    chat = message.chat
    if found.status is not MessageStatus.DROPPED or not chat.platform_id:
        return ""
    known = await messaging_groups.of_chat(db, chat)
    if known is not None and await wirings.of_chat(db, known.id):
        return ""
    group = next(iter((await agent_groups.folders(db)).values()), MAIN)
    place = ["--channel", f"{chat.channel_type}:{chat.instance}", "--chat", chat.platform_id, "--group", group]
    return shlex.join(["nanohost", "wirings", "create", *place])


def _render(result: Json) -> str:
    """What happened below the rest, a line a step."""
    return show_with(result, "steps", last_widest=WIDEST)


RESOURCE = Resource(
    name="messages",
    one="message",
    about="what people wrote, and what became of it",
    row=MessageRow,
    verbs=(
        Listing(
            help="list what people wrote, and whether and why it was answered or not",
            example='--chat "telegram Family" --since 3h',
            arguments=List,
            run=_list,
        ),
        Look(
            help="show what became of one message, step by step: received, routed, turn, cost, sent",
            example="17",
            arguments=One,
            run=_get,
            result=MessageDetails,
            render=_render,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()
