"""Answers on their way to the asking session: a real database and mailbox, and a router opened repeatedly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nanohost.channel_api import EventKind
from nanohost.db import agent_groups, deliveries, dropped, events, messaging_groups, questions, roles, wirings
from nanohost.db.cards import button_value
from nanohost.db.database import open_store
from nanohost.db.deliveries import AttemptOutcome, Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.questions import MAX_QUESTION_CHARS, QuestionStatus
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import EngageMode, EventId, Role, SessionId, UnknownSender
from nanohost.routing.answers import HANDLED, NOT_ALLOWED_TO_ANSWER, AcceptedAnswer, AnswerProcessor
from nanohost.routing.routing_batch import OTHER_AGENTS_CARD
from nanohost_protocol.payloads import ChatIn, EditOut, QuestionOut, decode_in, decode_out, encode
from tests.routing.test_router import CHAT, NOON, World
from tests.support.interleaving import InterleavedStore
from tests.support.template_home import make_database

pytestmark = pytest.mark.behaviour("AP-09")


@asynccontextmanager
async def asking(
    folder: Path, *, text: str = "Which?", receipt: tuple[str, ...] = ("p1",), asked: bool = True
) -> AsyncIterator[World]:
    """A chat in which an agent has asked a question. Without a `receipt` its sending is not recorded yet."""
    database = folder / "nanohost.db"
    make_database(database)
    mailboxes = Mailboxes(folder / "sessions", durable=False)
    async with open_store(database, durable=False) as store, mailboxes.opened():
        world = World(store, mailboxes)
        await world.wire(await world.chat(), await world.agent("a"))
        await world.says("ask me")
        await world.route()
        if asked:
            await ask(world, QuestionOut(text=text, options=("Red", "Blue")), receipt=receipt)
        yield world


async def ask(
    world: World,
    content: QuestionOut,
    *,
    seq: int = 1,
    receipt: tuple[str, ...],
    at: datetime = NOON,
    folder: str = "a",
    thread: str | None = None,
    chat: str = "c1",
) -> None:
    """Have the session of an agent, in this thread, ask in a chat outside threads."""
    session = await world.session(folder, thread)
    question = Delivery(
        queue=DeliveryQueueKey(session.id, "fake", "main", chat),
        seq=seq,
        out_id=f"q{seq}",
        kind="question",
        thread_id=None,
        reply_to=None,
        content=encode(content),
        status=DeliveryStatus.PENDING,
        created_at=at,
    )
    async with world.store.transaction() as tx:
        await deliveries.add(tx, question)
        await questions.add(tx, question, at)
        await deliveries.begin_attempt(tx, question, at)
        if receipt:
            sent = AttemptOutcome(status=DeliveryStatus.SENT, code="sent", receipt=receipt)
            await deliveries.end_attempt(tx, question, sent, at)


async def mailbox_texts(world: World) -> list[tuple[str, str | None]]:
    """The mailbox: the texts, and the questions that they answer."""
    session = await world.session("a")
    rows = await world.mailboxes.read_inbound(session, lambda box: [box.find_by_seq(number) for number in (2, 4, 6)])
    found = [decode_in(row.kind, row.content) for row in rows if row is not None]
    return [(one.text, one.answers) for one in found if isinstance(one, ChatIn)]


async def edits(world: World) -> list[tuple[str, str | None]]:
    """The edits of the question's message, and their times if not at once."""
    rows = await world.store.fetch_all("SELECT content, not_before FROM deliveries WHERE kind = 'edit'")
    found = [(decode_out("edit", row["content"]), row["not_before"]) for row in rows]
    return [(one.text, later) for one, later in found if isinstance(one, EditOut)]


async def test_an_answer_waits_for_a_damaged_mailbox_and_stays_an_answer(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        broken = world.mailboxes.layout(await world.session("a")).inbound_db
        sound = broken.read_bytes()
        broken.write_bytes(b"garbage" * 1000)
        await world.says("2")
        await world.route()
        assert (await world.outcomes())[-1] == ("2", "waiting")
        broken.write_bytes(sound)
        await world.says("1")
        async with world.routing():
            await world.until(lambda: _is_written(world))
        assert await mailbox_texts(world) == [("ask me", None), ("Blue", "q1"), ("1", None)]


async def test_the_first_of_two_answers_in_one_batch_counts(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        await world.says("red", "2")
        await world.route()
        assert await mailbox_texts(world) == [("ask me", None), ("Red", "q1"), ("2", None)]


@pytest.mark.parametrize("later", [timedelta(minutes=5), timedelta(hours=-1)])
async def test_an_answer_is_for_the_latest_question_also_after_the_clock_was_set_back(
    tmp_path: Path, later: timedelta
) -> None:
    async with asking(tmp_path) as world:
        await ask(world, QuestionOut(text="When?", options=("Now", "Never")), seq=3, receipt=("p3",), at=NOON + later)
        await world.says("2", "2")
        await world.route()
        assert await mailbox_texts(world) == [("ask me", None), ("Never", "q3"), ("Blue", "q1")]


async def test_a_question_of_an_agent_closed_to_the_sender_does_not_hide_one_of_an_open_agent(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path) as world:
        [chat] = await messaging_groups.list_all(world.store)
        await world.wire(chat, await world.agent("b"))
        await world.says("ask me, too")
        await world.route()
        when = QuestionOut(text="When?", options=("Now", "Never"))
        await ask(world, when, receipt=("p2",), folder="b", at=NOON + timedelta(minutes=5))
        async with world.store.transaction() as tx:
            await messaging_groups.set_unknown_sender(tx, chat.id, UnknownSender.STRICT)
        found = await agent_groups.find(world.store, "a")
        await world.grant("fake:u1", Role.MEMBER, found)
        await world.says("2")
        await world.route()
        assert await mailbox_texts(world) == [("ask me", None), ("ask me, too", None), ("Blue", "q1")]


@pytest.mark.parametrize(("line", "answers"), [("Blue", "q1"), ("@nan green", "q1"), ("I go shopping", None)])
async def test_an_explicit_answer_in_a_new_thread_reaches_a_question_asked_outside_threads(
    tmp_path: Path, line: str, answers: str | None
) -> None:
    """A question outside threads does not make the agent engage with everything written there."""
    async with asking(tmp_path, asked=False) as world:
        chat = await world.chat("g1", is_group=True)
        await world.wire(chat, await world.agent("b"), engage=EngageMode.MENTION_STICKY)
        await world.says("@nan", chat="g1", is_group=True, mentions=True, thread="2")
        await world.route()
        options = ("Red", "Blue") if line == "Blue" else ()
        await ask(
            world, QuestionOut(text="Which?", options=options), receipt=("p1",), folder="b", thread="2", chat="g1"
        )
        await world.says(line, chat="g1", is_group=True, mentions=line.startswith("@"), thread="3")
        await world.route()
        [asked] = await world.store.fetch_all("SELECT status, answer FROM questions")
        assert tuple(asked) == (("answered", line) if answers else ("open", None))


@pytest.mark.parametrize("receipt", [("p1",), ("p1", "p2")])
async def test_an_answered_question_is_edited_to_show_the_answer(tmp_path: Path, receipt: tuple[str, ...]) -> None:
    long = "word " * 1000 + "Which?"
    async with asking(tmp_path, text=long, receipt=receipt) as world:
        await world.says("2")
        await world.route()
        [(text, later)] = await edits(world)
    assert later is None
    assert text.endswith("Which?\n\nAnswered by Ada: Blue")
    assert text.startswith("word word") == (len(receipt) == 1), "of several messages it is the last one that is changed"
    assert len(receipt) == 1 or len(text) < 600


@pytest.mark.parametrize(
    ("name", "shown"),
    [("\u202eevil\u2066\n# *Ada*", "evil # \\*Ada\\*"), ("\u202e", "u1"), ("", "u1"), ("x" * 200, "x" * 59 + "…")],
)
async def test_a_respondents_name_takes_one_line_of_the_question(tmp_path: Path, name: str, shown: str) -> None:
    async with asking(tmp_path) as world:
        await world.says("2", name=name)
        await world.route()
        [(text, _)] = await edits(world)
    assert text == f"Which?\n\nAnswered by {shown}: Blue"


async def test_a_nameless_respondent_is_called_somebody(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        await world.says("2", sender="u3", name="")
        await world.says("", kind=EventKind.CLICK, value=button_value(*await _question_key(world), 1), sender="u2")
        await world.route()
        [told] = await world.store.fetch_all("SELECT content FROM deliveries WHERE session_id = 'host'")
    assert "Somebody answered already: Blue" in told["content"]


async def test_a_press_of_somebody_who_may_not_talk_to_the_agent_is_not_an_answer(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        [chat] = await messaging_groups.list_all(world.store)
        async with world.store.transaction() as tx:
            await messaging_groups.set_unknown_sender(tx, chat.id, UnknownSender.STRICT)
        await world.grant("fake:u1", Role.MEMBER)
        for sender in ("eve", "eve", "u1"):
            await world.says(
                "", kind=EventKind.CLICK, value=button_value(*await _question_key(world), 1), sender=sender
            )
        await world.route()
        assert await mailbox_texts(world) == [("ask me", None), ("Red", "q1")]
        [asked] = await world.store.fetch_all("SELECT answered_by FROM questions")
        [told] = await world.store.fetch_all("SELECT content FROM deliveries WHERE session_id = 'host'")
    assert asked["answered_by"] == "fake:u1"
    assert NOT_ALLOWED_TO_ANSWER in told["content"]


async def test_a_press_from_another_chat_than_the_questions_is_not_an_answer(tmp_path: Path) -> None:
    """Somebody who knows the value of a button could answer from any chat, under its rules."""
    async with asking(tmp_path) as world:
        found = await agent_groups.find(world.store, "a")
        assert found is not None
        await world.wire(await world.chat("c2"), found)
        await world.says("", chat="c2", kind=EventKind.CLICK, value=button_value(*await _question_key(world), 1))
        await world.route()
        [asked] = await world.store.fetch_all("SELECT status, answer FROM questions")
        assert tuple(asked) == ("open", None)


@pytest.mark.behaviour("RT-10")
@pytest.mark.parametrize("listens", [True, False])
async def test_a_press_on_a_card_of_an_unwired_agent_is_dropped_on_record(tmp_path: Path, listens: bool) -> None:
    async with asking(tmp_path) as world:
        value = button_value(*await _question_key(world), 1)
        [chat] = await messaging_groups.list_all(world.store)
        await world.wire(chat, await world.agent("b"))
        if not listens:
            async with world.store.transaction() as tx:
                await wirings.delete(tx, (await wirings.list_for_chat(tx, chat.id))[0].id)
        await world.says("", kind=EventKind.CLICK, value=value)
        await world.route()
        lost = [(one.agent_group, one.reason) for one in await dropped.latest(world.store.reports, limit=9)]
        assert lost == ([] if listens else [("b", OTHER_AGENTS_CARD)])


async def test_an_answered_question_without_a_receipt_yet_is_edited_later(tmp_path: Path) -> None:
    async with asking(tmp_path, receipt=()) as world:
        await world.says("2")
        await world.route()
        [(_, later)] = await edits(world)
    assert later is not None


async def test_a_question_that_was_never_delivered_cannot_be_answered(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        async with world.store.transaction() as tx:
            await tx.execute("UPDATE deliveries SET status = 'dead' WHERE seq = 1")
        await world.says("2")
        await world.route()
        assert await mailbox_texts(world) == [("ask me", None), ("2", None)]


async def test_an_oversized_question_is_not_matched_against_each_message(tmp_path: Path) -> None:
    """Hundreds of thousands of choices would be compared at every message, and block the host."""
    async with asking(tmp_path, text="word " * MAX_QUESTION_CHARS) as world:
        assert await questions.list_open_in_chat(world.store, CHAT) == []
        await world.says("2")
        await world.route()
        assert await mailbox_texts(world) == [("ask me", None), ("2", None)]


async def test_an_answered_question_is_kept_until_its_retention_ends(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        [open_one] = await questions.list_open_in_chat(world.store, CHAT)
        later = NOON + timedelta(days=40)
        async with world.store.transaction() as tx:
            assert await questions.delete_old(tx, before=later, limit=9) == 0, "it is open"
            assert await questions.close_all(tx, open_one.question.session_id) == 1
            assert not await questions.claim(
                tx, open_one.question, answer="Red", user="fake:u1", event=EventId(7), now=later
            )
            assert await questions.delete_old(tx, before=later, limit=9) == 1


async def _is_written(world: World) -> bool:
    waiting = await world.store.fetch_one("SELECT 1 FROM routes WHERE outcome = 'waiting'")
    return waiting is None and await world.nothing_new()


async def test_handling_an_event_again_changes_nothing(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        [first] = [await events.get(world.store, EventId(1))]
        world.answered.clear()
        answers = AnswerProcessor(store=world.store, clock=world.clock)
        await world.says("2", "1")
        await world.route()
        winner, loser = [await events.get(world.store, EventId(number)) for number in (2, 3)]
        assert isinstance(await answers.process(winner), AcceptedAnswer)
        again = replace(
            loser, event=replace(loser.event, kind=EventKind.CLICK, value=button_value(*await _question_key(world), 1))
        )
        assert await answers.process(again) is HANDLED, "a press that was refused"
        assert await answers.process(first) is None
        assert await mailbox_texts(world) == [("ask me", None), ("Blue", "q1"), ("1", None)]
        assert world.answered == [DeliveryQueueKey((await world.session("a")).id, "fake", "main", "c1")]


async def _question_key(world: World) -> tuple[SessionId, str]:
    return (await world.session("a")).id, "q1"


async def test_a_sender_who_loses_access_while_answering_does_not_answer(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        async with world.store.transaction() as tx:
            await tx.execute("UPDATE messaging_groups SET unknown_sender = 'strict'")
            await roles.grant(tx, user_id="fake:u1", role=Role.MEMBER, agent_group=None, now=NOON)
        store, lost = InterleavedStore(world.store), list[bool]()

        async def loses_it() -> None:
            async with world.store.transaction() as tx:
                lost.append(await roles.revoke(tx, user_id="fake:u1", role=Role.MEMBER, agent_group=None))

        await world.says("2")
        stored = await events.get(world.store, EventId(2))
        store.before_write = loses_it
        assert await AnswerProcessor(store=store, clock=world.clock).process(stored) is None
        assert lost == [True], "it would have been taken"
        question = await questions.find(world.store, *await _first(world))
        assert question is not None
        assert (question.status, question.answer) == (QuestionStatus.OPEN, None)


async def _first(world: World) -> tuple[SessionId, int]:
    return (await world.session("a")).id, 1
