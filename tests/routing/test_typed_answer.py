"""Which question a message answers: as a table of what people type."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.db.events import ChatKey
from nanohost.db.questions import OpenQuestion, Question, QuestionStatus
from nanohost.model import SessionId
from nanohost.routing.typed_answer import match_choice, match_typed_answer

pytestmark = pytest.mark.behaviour("AP-09")

WROTE = InboundEvent(
    platform_id="c1",
    platform_message_id="m9",
    sender=Sender(handle="u1", name="Ann"),
    text="1",
    sent_at=datetime(2026, 1, 2, 12, tzinfo=UTC),
)
IN_GROUP = replace(WROTE, is_group=True, thread_id="t1")


def open_question(*options: str, seq: int = 1, thread: str | None = "t1", session: str = "s1") -> OpenQuestion:
    question = Question(
        session_id=SessionId(session),
        seq=seq,
        out_id=f"q{seq}",
        chat=ChatKey("fake", "default", "c1"),
        thread_id=thread,
        status=QuestionStatus.OPEN,
    )
    return OpenQuestion(question=question, options=options, receipt=(f"p{seq}",))


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        ("Red", "Red"),
        ("red", "Red"),
        (" LIGHT\n  blue ", "Light blue"),
        ("1", "Red"),
        ("2.", "Light blue"),
        ("2)", "Light blue"),
        ("#2", "Light blue"),
        ("0", None),
        ("4", None),
        ("02", "Light blue"),
        ("²", None),
        ("٢", None),
        ("1 please", None),
        ("Red or blue", None),
        ("", None),
    ],
)
def test_a_choice_matches_by_its_text_or_its_number(typed: str, chosen: str | None) -> None:
    assert match_choice(["Red", "Light blue", "Green"], typed) == chosen


def test_a_numeric_choice_matches_its_own_text_before_a_position() -> None:
    assert match_choice(["2", "4", "1"], "2") == "2"
    assert match_choice(["2", "4", "1"], "#2") == "4"


def test_an_answer_is_for_the_latest_question_of_the_conversation() -> None:
    found = match_typed_answer(
        IN_GROUP, [open_question("A", "B", seq=5, thread="t2"), open_question("C", "D", seq=3), open_question("E", "F")]
    )
    assert found is not None
    assert (found.open_question.question.seq, found.text, found.is_explicit) == (3, "C", True)


def test_a_direct_chat_is_one_conversation_across_threads() -> None:
    found = match_typed_answer(WROTE, [open_question("A", "B", thread="t2")])
    assert found is not None
    assert found.text == "A"


def test_a_message_outside_threads_answers_a_question_asked_outside_threads() -> None:
    """On Slack each message in a channel begins a thread of its own."""
    line = replace(IN_GROUP, thread_id=IN_GROUP.platform_message_id)
    found = match_typed_answer(line, [open_question("A", "B", seq=3), open_question("C", "D", thread=None)])
    assert found is not None
    assert (found.open_question.question.seq, found.text) == (1, "C")
    assert match_typed_answer(IN_GROUP, [open_question("C", "D", thread=None)]) is None, (
        "in the thread of something else"
    )


def test_a_question_of_an_agent_closed_to_the_sender_hides_no_earlier_question() -> None:
    both = [open_question("A", "B", seq=3, session="s2"), open_question("C", "D", "E")]
    found = match_typed_answer(replace(WROTE, text="3"), both, denied_sessions=[SessionId("s2")])
    assert found is not None
    assert (found.open_question.question.seq, found.text) == (1, "E")
    assert match_typed_answer(WROTE, both[:1], denied_sessions=[SessionId("s2")]) is None
    reply = match_typed_answer(replace(WROTE, refers_to="p3"), both, denied_sessions=[SessionId("s2")])
    assert reply is not None
    assert reply.open_question.question.seq == 3, "a reply is for that one, whoever may hear it"


def test_a_number_out_of_range_for_the_latest_question_answers_no_earlier_one() -> None:
    assert (
        match_typed_answer(replace(WROTE, text="3"), [open_question("A", "B", seq=3), open_question("C", "D", "E")])
        is None
    )


@pytest.mark.parametrize("event", [replace(IN_GROUP, refers_to="p1"), replace(IN_GROUP, thread_id="p1")])
@pytest.mark.parametrize(("typed", "text"), [("2", "D"), ("why?", "why?")])
def test_a_reply_answers_the_question_it_replies_to(event: InboundEvent, typed: str, text: str) -> None:
    found = match_typed_answer(
        replace(event, text=typed), [open_question("A", "B", seq=3), open_question("C", "D", thread=None)]
    )
    assert found is not None
    assert (found.open_question.question.seq, found.text, found.is_explicit) == (1, text, True)


@pytest.mark.parametrize(
    ("event", "is_meant"),
    [(WROTE, True), (IN_GROUP, False), (replace(IN_GROUP, mentions_bot=True), True)],
)
def test_free_text_in_a_group_is_an_explicit_answer_only_when_addressed_to_the_bot(
    event: InboundEvent, is_meant: bool
) -> None:
    found = match_typed_answer(replace(event, text="anything"), [open_question()])
    assert found is not None
    assert (found.text, found.is_explicit) == ("anything", is_meant)


@pytest.mark.parametrize("event", [WROTE, replace(IN_GROUP, mentions_bot=True)])
def test_a_reply_to_another_message_of_the_conversation_answers_as_any_message_does(event: InboundEvent) -> None:
    found = match_typed_answer(replace(event, refers_to="p0"), [open_question("A", "B")])
    assert found is not None
    assert found.text == "A"


def test_a_reply_to_somebody_else_in_a_group_answers_no_question() -> None:
    assert match_typed_answer(replace(IN_GROUP, refers_to="what Bob wrote"), [open_question("A", "B")]) is None


@pytest.mark.parametrize(
    "event",
    [
        replace(WROTE, text="/stop"),
        replace(WROTE, text="/compact"),
        replace(WROTE, text="/login now"),
        replace(WROTE, text="  "),
        replace(WROTE, kind=EventKind.EDIT),
        replace(WROTE, kind=EventKind.REACTION),
        replace(WROTE, sender=Sender(handle="b", name="Bot", is_bot=True)),
        replace(IN_GROUP, thread_id="t2"),
    ],
)
def test_some_events_never_answer_a_question(event: InboundEvent) -> None:
    assert match_typed_answer(event, [open_question()]) is None


def test_a_path_is_not_a_command() -> None:
    found = match_typed_answer(replace(WROTE, text="/home/ann/notes"), [open_question()])
    assert found is not None
    assert found.text == "/home/ann/notes"
