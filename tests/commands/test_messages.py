"""The outcome of a message: derived from recorded rows, found by chat and time, shown with the command to type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nanohost.channel_api import Attachment, EventKind, InboundEvent, Sender
from nanohost.commands.delivery_number import short_number
from nanohost.commands.message_status import STATUS_DESCRIPTIONS, MessageOutcome, MessageStatus, message_outcome
from nanohost.commands.messages import delivery_step, model_key_fix, next_step
from nanohost.db import agent_groups, deliveries, events, host_messages, messages, sessions, turn_failures
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.events import ChatKey
from nanohost.db.message_turns import TurnOutcome
from nanohost.db.messages import Message, MessageRoute, MessageTurn, SentMessage
from nanohost.db.notice_numbers import MESSAGE_NOTICES_START
from nanohost.db.routes import RouteOutcome
from nanohost.db.turn_failures import TurnFailures
from nanohost.errors import UsageError
from nanohost.model import HOST_SESSION_ID, ApprovalId, EventId, SessionId, WiringId
from nanohost.testing.manual_clock import START
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import ErrorClass, Origin
from tests.commands.conftest import Operator

pytestmark = pytest.mark.behaviour("OP-09")

MESSAGE = Message(
    id=EventId(1),
    chat=ChatKey("telegram", "default", "7"),
    platform_message_id="m1",
    kind="message",
    chat_name="Family",
    thread_id=None,
    sender_handle="1",
    sender_name="Ann",
    text="hello",
    files=0,
    sent_at=START,
    received_at=START,
    status="routed",
    reason=None,
    approval_id=None,
)
WRITTEN = MessageRoute(
    event_id=EventId(1),
    wiring_id=WiringId(1),
    agent_folder="main",
    outcome=RouteOutcome.WRITTEN,
    reason="",
    session_id=SessionId("s1"),
    message_id="i1",
    approval_id=None,
    decided_at=START,
    turn=None,
    is_at_rest=False,
)
RUNS = MessageTurn(id="t1", began_at=START, ended_at=None, outcome=None, error=None)


def ended_turn(how: TurnOutcome, error: str | None = None) -> MessageRoute:
    return replace(WRITTEN, turn=replace(RUNS, ended_at=START, outcome=how, error=error))


def sent(status: DeliveryStatus, reason: str | None = None) -> SentMessage:
    return SentMessage(
        session_id=SessionId("s1"),
        turn_id="t1",
        out_id="o1",
        seq=1,
        kind="chat",
        status=status,
        reason=reason,
        created_at=START,
        changed_at=START,
    )


DONE = ended_turn(TurnOutcome.COMPLETED)
CASES: list[tuple[Message, Sequence[tuple[MessageRoute, Sequence[SentMessage]]], str, str]] = [
    (replace(MESSAGE, status="new", reason="OSError: x"), (), "received", "OSError: x"),
    (replace(MESSAGE, status="held", approval_id=ApprovalId("k3")), (), "held", "it waits for approval k3"),
    (replace(MESSAGE, status="set_aside", reason="KeyError: x"), (), "set_aside", "KeyError: x"),
    (replace(MESSAGE, status="dropped", reason="no agent is here"), (), "dropped", "no agent is here"),
    (replace(MESSAGE, reason=events.REASON_FOR_HOST), (), "host", ""),
    (replace(MESSAGE, reason="one message with event 7"), (), "host", "one message with event 7"),
    (MESSAGE, [(WRITTEN, ())], "waiting", "its agent has not begun with it"),
    (MESSAGE, [(replace(WRITTEN, is_at_rest=True), ())], "stopped", "/stop or /clear in the chat ended it"),
    (MESSAGE, [(replace(WRITTEN, is_at_rest=True, decided_at=None), ())], "routed", ""),
    (MESSAGE, [(replace(WRITTEN, is_at_rest=True), [sent(DeliveryStatus.SENT)])], "answered", ""),
    (MESSAGE, [(replace(WRITTEN, outcome=RouteOutcome.WAITING, reason="full"), ())], "waiting", "full"),
    (MESSAGE, [(replace(WRITTEN, outcome=RouteOutcome.CONTEXT), ())], "context", ""),
    (MESSAGE, [(replace(WRITTEN, outcome=RouteOutcome.DENIED, reason="no role"), ())], "denied", "no role"),
    (MESSAGE, [(replace(WRITTEN, outcome=RouteOutcome.NOT_ENGAGED, reason="no"), ())], "ignored", "no"),
    (
        MESSAGE,
        [(replace(WRITTEN, outcome=RouteOutcome.HELD, approval_id=ApprovalId("k3")), ())],
        "held",
        "it waits for approval k3",
    ),
    (MESSAGE, [(replace(WRITTEN, turn=RUNS), [sent(DeliveryStatus.SENT)])], "working", ""),
    (
        MESSAGE,
        [(ended_turn(TurnOutcome.INTERRUPTED, "its container ended"), ())],
        "waiting",
        "its turn ended without an answer, and is tried again: its container ended",
    ),
    (MESSAGE, [(ended_turn(TurnOutcome.FAILED, "No key."), [sent(DeliveryStatus.SENT)])], "failed", "No key."),
    (MESSAGE, [(DONE, ())], "silent", ""),
    (MESSAGE, [(DONE, [sent(DeliveryStatus.SENT), sent(DeliveryStatus.PENDING, "down: x")])], "sending", "down: x"),
    (MESSAGE, [(DONE, [sent(DeliveryStatus.SENDING), sent(DeliveryStatus.DEAD, "refused")])], "undelivered", "refused"),
    (MESSAGE, [(DONE, [sent(DeliveryStatus.UNKNOWN, "lost")])], "undelivered", "lost"),
    (MESSAGE, [(DONE, [sent(DeliveryStatus.DROPPED, "nobody"), sent(DeliveryStatus.SENT)])], "answered", ""),
    (MESSAGE, [(DONE, [sent(DeliveryStatus.DROPPED, "nobody")])], "undelivered", "nobody"),
    # Of several agents, the one with a problem.
    (
        MESSAGE,
        [(DONE, [sent(DeliveryStatus.SENT)]), (ended_turn(TurnOutcome.FAILED, "No key."), ())],
        "failed",
        "No key.",
    ),
    (
        MESSAGE,
        [(replace(WRITTEN, outcome=RouteOutcome.NOT_ENGAGED, reason="no"), ()), (DONE, [sent(DeliveryStatus.SENT)])],
        "answered",
        "",
    ),
    # One agent's mailbox is damaged while the event is not settled: the status of the event counts.
    (replace(MESSAGE, status="new"), [(WRITTEN, ())], "received", ""),
]


@pytest.mark.parametrize(("message", "routes", "status", "why"), CASES)
def test_a_message_outcome_is_derived_from_the_recorded_rows(
    message: Message, routes: Sequence[tuple[MessageRoute, Sequence[SentMessage]]], status: str, why: str
) -> None:
    found = message_outcome(message, routes)
    assert (found.status, found.reason) == (status, why)


def test_every_status_is_covered_above_and_has_a_description() -> None:
    assert {status for _, _, status, _ in CASES} == set(MessageStatus) == set(STATUS_DESCRIPTIONS)


def typed_about(message: Message, routes: Sequence[tuple[MessageRoute, Sequence[SentMessage]]]) -> str:
    found = message_outcome(message, routes)
    return next_step(message, found, next((sent for route, sent in routes if route is found.route), ()))


@pytest.mark.parametrize(
    ("lost", "step"),
    [
        (sent(DeliveryStatus.DEAD), "nanohost deliveries resend s1 1"),
        (sent(DeliveryStatus.UNKNOWN), "nanohost deliveries resend s1 1"),
        (replace(sent(DeliveryStatus.DROPPED), is_dropped_by_operator=True), "nanohost deliveries resend s1 1"),
        (sent(DeliveryStatus.DROPPED), "nanohost deliveries get s1 1"),
    ],
)
def test_an_answer_that_did_not_arrive_is_offered_for_resending_where_possible(lost: SentMessage, step: str) -> None:
    assert typed_about(MESSAGE, [(DONE, [lost])]) == step


async def test_an_answer_dropped_by_the_operator_is_shown_as_such(operator: Operator) -> None:
    place = Origin(channel_type="telegram", instance="default", platform_id="7", platform_message_id="m1")
    await add_event(operator, "m1")
    async with operator.context.store.transaction() as tx:
        said = await host_messages.enqueue(tx, place, ChatOut(text="hi"), out_id="h1", now=START)
    reports = operator.context.store.reports
    ids = {(HOST_SESSION_ID, "h1"): "m1"}
    [before] = await messages.find_sent_by_ids(reports, ids, limit=9)
    async with operator.context.store.transaction() as tx:
        await deliveries.drop(tx, said, "not now", START)
    [after] = await messages.find_sent_by_ids(reports, ids, limit=9)
    [shown] = await messages.list_sent_by_host(reports, MESSAGE)
    assert (before.is_dropped_by_operator, after.is_dropped_by_operator, shown.is_dropped_by_operator) == (
        False,
        True,
        True,
    )


def test_the_page_about_missing_answers_names_the_commands_that_the_program_suggests() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "why-no-answer.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*?\|(.*?)\|$", page, re.MULTILINE)
    on_page = {status: set(re.findall(r"`(nanohost \w+(?: (?!SESSION)[a-z]+)?)", typed)) for status, typed in rows}
    said: dict[str, set[str]] = {status: set() for status in MessageStatus}
    for message, routes, status, _ in [*CASES, (MESSAGE, [(DONE, [sent(DeliveryStatus.DEAD)])], "undelivered", "")]:
        if step := re.match(r"nanohost \w+(?: (?!s1)[a-z]+)?", typed_about(message, routes)):
            said[status].add(step[0])
    said["failed"].add("nanohost model set")  # see model_key_fix
    said["dropped"].add("nanohost wirings create")  # where that chat has none
    assert on_page == said


# --- found by chat and time ---

FAMILY = ChatKey("telegram", "default", "7")


async def add_event(
    operator: Operator,
    text: str,
    *,
    chat: ChatKey = FAMILY,
    called: str = "Family",
    at: datetime = START,
    kind: EventKind = EventKind.MESSAGE,
    files: int = 0,
) -> None:
    event = InboundEvent(
        platform_id=chat.platform_id,
        platform_message_id=text or "m1",
        sender=Sender(handle="1", name="Ann"),
        text=text,
        sent_at=at,
        kind=kind,
        chat_name=called,
        attachments=tuple(Attachment(ref="x", name="a.jpg") for _ in range(files)),
    )
    async with operator.context.store.transaction() as tx:
        await events.add(tx, chat, event, now=at)


async def texts(operator: Operator, **filters: object) -> list[str]:
    return [row["text"] for row in await operator.run("messages list", **filters)]


async def refusal(operator: Operator, words: str, **arguments: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await operator.run(words, **arguments)
    return caught.value


async def test_the_message_list_begins_with_the_latest_and_can_be_limited_by_chat_and_time(operator: Operator) -> None:
    now = operator.context.clock.now()
    await add_event(operator, "old", at=now - timedelta(hours=5))
    await add_event(operator, "new", at=now - timedelta(hours=1))
    await add_event(operator, "elsewhere", chat=ChatKey("slack", "two", "C1"), called="general", at=now)
    await add_event(operator, "👍", kind=EventKind.REACTION, at=now)
    assert await texts(operator) == ["elsewhere", "new", "old"]
    assert await texts(operator, limit=1) == ["elsewhere"]
    assert await texts(operator, since="3h") == ["elsewhere", "new"]
    assert await texts(operator, since="3h", chat="Family") == ["new"]
    async with operator.context.store.transaction() as tx:
        await events.mark_dropped(tx, EventId(1), "no agent is wired to this chat")
    assert await texts(operator, status="dropped", limit=1) == ["old"]
    assert await texts(operator, status="received") == ["elsewhere", "new"]
    assert "lost" in str(await refusal(operator, "messages list", status="lost"))
    assert "is no time" in str(await refusal(operator, "messages list", since="lately"))
    assert [row["chat"] for row in await operator.run("messages list")][:2] == ["slack:two general", "telegram Family"]


async def test_a_message_without_text_shows_its_number_of_files(operator: Operator) -> None:
    await add_event(operator, "", files=2)
    assert await texts(operator) == ["[2 files]"]


@pytest.mark.parametrize(
    "typed", ["telegram Family", "TELEGRAM  family", "Family", "fam", "7", "telegram:7", "telegram:default:7", "1"]
)
async def test_a_chat_can_be_given_by_anything_shown_of_it(operator: Operator, typed: str) -> None:
    await operator.run("chats create", channel="telegram", chat="7", name="Family")
    await operator.run("chats create", channel="slack", chat="C1", name="general")
    await add_event(operator, "here")
    await add_event(operator, "elsewhere", chat=ChatKey("slack", "default", "C1"), called="general")
    assert await texts(operator, chat=typed) == ["here"]


@pytest.mark.parametrize("typed", ["telegram Family", "Family", "7", "telegram:7", "telegram:default:7"])
async def test_a_chat_that_was_never_set_up_is_found_by_its_events(operator: Operator, typed: str) -> None:
    await add_event(operator, "here")
    assert await texts(operator, chat=typed) == ["here"]


async def test_an_unknown_or_ambiguous_chat_is_refused_with_what_to_type(operator: Operator) -> None:
    for chat in ("7", "8"):
        await operator.run("chats create", channel="telegram", chat=chat, name="Family")
    error = await refusal(operator, "messages list", chat="Family")
    assert str(error) == "'Family' may be 2 chats: telegram Family (7), telegram Family (8)"
    assert error.hint == "--chat CHANNEL:ID names one"
    assert await operator.run("messages list", chat="telegram Family (8)") == []
    error = await refusal(operator, "messages list", chat="Work")
    assert (str(error), error.hint) == ("there is no chat 'Work'", "nanohost chats list")
    assert "no chat" in str(await refusal(operator, "messages list", chat=""))


@pytest.mark.parametrize(
    ("status", "error", "do"),
    [
        (MessageStatus.FAILED, ErrorClass.AUTH, "nanohost model set"),
        (MessageStatus.FAILED, ErrorClass.PERMANENT, ""),
        (MessageStatus.FAILED, None, ""),
        (MessageStatus.ANSWERED, ErrorClass.AUTH, ""),
    ],
)
async def test_a_refused_key_is_answered_with_the_command_that_sets_one(
    operator: Operator, status: MessageStatus, error: ErrorClass | None, do: str
) -> None:
    store = operator.context.store
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder="work", name="work", provider=None, model=None, now=START)
        session = await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=START)
        if error is not None:
            failures = TurnFailures(error_class=error, sentence="x", since=START, latest_at=START, count=1)
            await turn_failures.save(tx, session, failures)
    route = replace(ended_turn(TurnOutcome.FAILED), session_id=session)
    assert await model_key_fix(store.reports, MessageOutcome(status=status, reason="x", route=route)) == do


async def test_a_moved_chat_is_found_with_its_earlier_messages(operator: Operator) -> None:
    await operator.run("chats create", channel="telegram", chat="8", name="Family")
    await add_event(operator, "before")
    await add_event(operator, "since", chat=ChatKey("telegram", "default", "8"))
    async with operator.context.store.transaction() as tx:
        await tx.execute(
            "INSERT INTO moved_chats (channel_type, instance, platform_id, moved_to, moved_at)"
            " VALUES ('telegram', 'default', '7', '8', '2026-01-01T00:00:00.000Z')"
        )
    assert await texts(operator, chat="Family") == await texts(operator, chat="telegram:7") == ["since", "before"]


async def test_the_suggested_command_for_an_unrouted_message_can_be_typed(operator: Operator) -> None:
    """Also where the platform's id looks like an option, or like shell syntax."""
    await operator.run("agents create", folder="helper")
    await add_event(operator, "m1", chat=ChatKey("telegram", "default", "-100; reboot"))
    async with operator.context.store.transaction() as tx:
        await events.mark_dropped(tx, EventId(1), "no agent is wired to this chat")
    shown = await operator.run("messages get", id=1)
    assert shown["next"] == ("nanohost wirings create --channel telegram:default --chat '-100; reboot' --group helper")
    await operator.run("wirings create", channel="telegram:default", chat="-100; reboot", group="helper")
    assert (await operator.run("messages get", id=1))["next"] == ""


async def test_an_answer_of_the_host_is_one_of_the_steps(operator: Operator) -> None:
    await add_event(operator, "m1")
    place = Origin(channel_type="telegram", instance="default", platform_id="7", platform_message_id="m1")
    async with operator.context.store.transaction() as tx:
        await events.mark_settled(tx, EventId(1), events.REASON_FOR_HOST)
        said = await host_messages.enqueue(tx, place, ChatOut(text="hi"), out_id="h1", now=START)
    shown: Any = await operator.run("messages get", id=1)
    assert (shown["status"], shown["why"], shown["next"]) == ("host", "", "")
    assert (
        shown["steps"][-1]["what"]
        == f"pending: the host's message {short_number(said.seq)} of session {HOST_SESSION_ID} (chat)"
    )
    notice = replace(sent(DeliveryStatus.SENT), seq=MESSAGE_NOTICES_START + 448)
    assert delivery_step(notice)[1] == "sent: the host's message n448 of session s1 (chat)"
    text = await operator.render("messages get", id=1)
    assert "received from Ann in telegram Family" in text.splitlines()[-3]
