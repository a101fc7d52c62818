"""ask_user_question with real files: who waits, what ends the waiting, what becomes of an answer that comes late."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_runner.loop import PRUNE_WHEN_BUSY
from agent_runner.questions import Questions, Unanswered
from nanohost.testing.limits import seconds
from nanohost_protocol.crash_points import VARIABLE
from nanohost_protocol.inbound import writing
from nanohost_protocol.outbound import OutboundReader
from nanohost_protocol.payloads import STOP, ChatIn, ControlIn, QuestionOut, SystemIn, TaskIn, encode
from nanohost_protocol.rows import AckStatus, Delivered, InKind, MessageIn, MessageOut, NewMessageIn, OutKind
from tests.runner.host_side import HOME, OFFICE, WAIT_S, HostSide, chat, ended, running, until

QUESTION = {"question": "Which colour?", "options": ["Red", "Blue"]}
ASKS = {"tool": "ask_user_question", "arguments": QUESTION, "answer": "so: {result}"}
ASKS_BRIEFLY = ASKS | {"arguments": QUESTION | {"wait_minutes": 0.002}}
SHOWS = {"match": "Red", "actions": [{"answer": "{prompt}"}]}
SILENT = {"match": "Red", "actions": []}


@pytest.fixture
def host(tmp_path: Path) -> HostSide:
    return HostSide(tmp_path / "session", destinations=(HOME, OFFICE))


def answer(id: str, question: str, text: str = "Red") -> NewMessageIn:
    """What the host makes of a press, or of an answer that somebody typed."""
    said = ChatIn(text=text, sender="Bo", sender_id="u-Bo", answers=question)
    row = chat(id, "")
    return NewMessageIn(id=id, kind=InKind.CHAT, timestamp=row.timestamp, content=encode(said), origin=row.origin)


def other(id: str, kind: InKind, payload: SystemIn | TaskIn | ControlIn) -> NewMessageIn:
    return NewMessageIn(id=id, kind=kind, timestamp=datetime.now(UTC), content=encode(payload))


async def asked(host: HostSide) -> MessageOut:
    """Wait for the question."""

    def look(outbound: OutboundReader) -> MessageOut | None:
        rows = [row for row in outbound.messages_after(0) if isinstance(row, MessageOut)]
        return next((row for row in rows if row.kind == OutKind.QUESTION), None)

    return await host.seen(look)


def tell(host: HostSide, message: MessageOut, status: str) -> None:
    """The host says what became of a message of the agent's."""
    outcome = Delivered(out_id=message.id, status=status, platform_message_ids=(), changed_at=datetime.now(UTC))
    with writing(host.layout.inbound_db, durable=False) as inbound:
        inbound.project_delivered([outcome])


def row_of(message: NewMessageIn) -> MessageIn:
    return MessageIn(
        seq=4,
        id=message.id,
        kind=message.kind,
        timestamp=message.timestamp,
        status="pending",
        process_after=None,
        tries=0,
        trigger=True,
        on_wake=False,
        origin=message.origin,
        content=message.content,
    )


def questions(host: HostSide) -> int:
    return sum(isinstance(one, QuestionOut) for one in host.payloads())


@pytest.mark.behaviour("AP-09")
async def test_the_answer_goes_to_the_call_and_closes_with_its_turn(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS, {"until_file": "go"}]})
    host.say("m1", "ask")
    async with running(host):
        host.put(answer("a1", (await asked(host)).id))
        before = await host.acked("a1", status=AckStatus.PROCESSING)
        (host.layout.agent_dir / "go").touch()
        acks = await host.acked("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert before["m1"].status is AckStatus.PROCESSING
    assert (acks["m1"].turn_id, acks["m1"].changed_at) == (acks["a1"].turn_id, acks["a1"].changed_at)
    assert [turn.message_ids for turn in host.turns()] == [("m1", "a1")]
    assert [row.in_reply_to for row in host.sent()] == ["m1", "m1"]


async def test_an_answer_can_be_replied_to_and_changes_nothing_of_where_answers_go(host: HostSide) -> None:
    thanks = [{"tool": "send_message", "arguments": {"text": "noted", "re": number}} for number in (4, None)]
    host.script({"match": "ask", "actions": [ASKS, *thanks]})
    host.say("m1", "ask")
    async with running(host):
        elsewhere = replace(answer("a1", (await asked(host)).id), origin=chat("a1", "", platform_id="chat-2").origin)
        host.put(elsewhere)
        await host.acked("m1", "a1")
    assert [row.in_reply_to for row in host.sent()] == ["m1", "a1", "m1", "m1"]


@pytest.mark.behaviour("AP-09", "SE-12")
async def test_nobody_waits_for_an_answer_in_a_turn_that_ended_while_the_question_was_written() -> None:
    """A /stop came in between: the call would be open for an hour, and nothing would end it."""
    questions = Questions()
    questions.close()
    async with asyncio.timeout(seconds(WAIT_S)):
        assert await questions.wait("q1", seconds(3600)) is Unanswered.OVER
    assert not questions.are_open


@pytest.mark.behaviour("AP-09")
async def test_a_question_without_choices_is_answered_in_words(host: HostSide) -> None:
    free = ASKS | {"arguments": {"question": "What is your name?"}}
    host.script({"match": "ask", "actions": [free]})
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
        host.put(answer("a1", question.id, "Bo <the> First"))
        await host.acked("m1", "a1")
    assert host.payloads()[0] == QuestionOut(text="What is your name?", options=())
    assert host.texts() == ['so: <answer from="Bo" id="4">Bo &lt;the&gt; First</answer>']


@pytest.mark.behaviour("AP-09")
async def test_the_first_answer_is_the_answer_and_a_second_one_is_a_message(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
        host.put(answer("a1", question.id, "Red"), answer("a2", question.id, "Blue"))
        await host.acked("m1", "a1", "a2")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>', "echo: Blue"]


@pytest.mark.behaviour("AP-09")
@pytest.mark.parametrize("platform_id", ["chat-1", "chat-2"])
async def test_a_message_that_comes_instead_is_not_kept_behind_the_question(host: HostSide, platform_id: str) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
        host.put(chat("m2", "never mind", platform_id=platform_id))
        await host.acked("m1", "m2")
        host.put(answer("a1", question.id))
        await host.acked("a1")
    instead, echo, late = host.texts()
    assert f"Asked as message {question.seq}. Nobody has answered. Something else came instead" in instead
    assert (echo, late) == ("echo: never mind", "echo: Red")


@pytest.mark.behaviour("AP-09")
async def test_a_task_that_falls_due_ends_the_waiting_and_a_note_of_the_host_does_not(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]}, {"match": "note", "actions": []})
    host.say("m1", "ask")
    async with running(host):
        await asked(host)
        host.put(other("s1", InKind.SYSTEM, SystemIn(text="a note")))
        await host.acked("s1", status=AckStatus.PROCESSING)
        assert host.texts() == []
        host.put(other("t1", InKind.TASK, TaskIn(prompt="water")))
        await host.acked("m1", "s1", "t1")
    assert "Something else came instead" in host.texts()[0]


@pytest.mark.behaviour("AP-09", "DL-16")
@pytest.mark.parametrize("status", ["dead", "dropped"])
async def test_a_question_that_reaches_nobody_is_waited_for_no_longer(host: HostSide, status: str) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host, host.settings(poll_interval_s=0.05)):
        question = await asked(host)
        tell(host, question, "sent")
        await until(lambda: host.progress().get("waiting") == "person")
        tell(host, question, status)
        await host.acked("m1")
    assert "The question did not arrive, so nobody will answer it." in host.texts()[0]


@pytest.mark.behaviour("AP-09", "RU-08", "DL-16")
async def test_a_turn_that_is_run_again_does_not_wait_for_a_question_that_reached_nobody(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
    tell(host, question, "dead")
    async with running(host, host.settings(lease="lease-2")):
        host.retry((await host.acked("m1", status=AckStatus.ABANDONED))["m1"])
        await host.acked("m1")
    assert "The question did not arrive" in host.texts()[0]
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09")
async def test_a_message_beside_it_that_reaches_nobody_ends_no_waiting(host: HostSide) -> None:
    says = {"tool": "send_message", "arguments": {"text": "one moment"}}
    host.script({"match": "ask", "actions": [says, ASKS]}, SILENT)
    host.say("m1", "ask")
    async with running(host, host.settings(poll_interval_s=0.05)):
        question = await asked(host)
        tell(host, host.sent()[0], "dead")
        tell(host, question, "unknown")
        await until(lambda: host.progress().get("waiting") == "person")
        host.put(answer("a1", question.id))
        await host.acked("m1", "a1")
    assert host.texts()[-1] == 'so: <answer from="Bo" id="4">Red</answer>'


@pytest.mark.behaviour("AP-09", "AC-06")
async def test_a_command_of_the_command_line_is_not_kept_behind_a_question(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        await asked(host)
        host.say("c1", "/compact")
        await host.acked("m1", "c1")
    assert "Something else came instead" in host.texts()[0]
    assert host.texts()[1:] == ["Nothing to compact."]
    assert [turn.message_ids for turn in host.turns()] == [("m1",), ("c1",)]


async def test_context_alone_waits_for_a_message_and_does_not_end_the_waiting(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
        host.put(chat("c1", "chatter", trigger=False), answer("a1", question.id))
        await host.acked("m1", "a1")
    assert "c1" not in host.acks()
    assert "Red" in host.texts()[0]


@pytest.mark.behaviour("AP-09")
async def test_an_answer_after_the_call_gave_up_is_a_message_that_shows_what_it_answers(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS_BRIEFLY]}, SHOWS)
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
        await host.acked("m1")
        host.put(answer("a1", question.id))
        await host.acked("a1")
    gave_up, shown = host.texts()
    assert "There is no answer yet. The answer will come as a message" in gave_up
    assert f'about="{question.seq}" answers="Which colour?"' in shown
    assert [turn.message_ids for turn in host.turns()] == [("m1",), ("a1",)]


@pytest.mark.behaviour("AP-09")
async def test_an_answer_to_another_container_shows_what_it_answers_though_the_question_is_pruned(
    host: HostSide,
) -> None:
    host.script({"match": "ask", "actions": [ASKS_BRIEFLY]}, SHOWS)
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
        await host.acked("m1")
    with writing(host.layout.inbound_db, durable=False) as inbound:
        inbound.set_meta({"out_cursor": str(PRUNE_WHEN_BUSY + 9)})
    host.say("m2", "hi")
    async with running(host, host.settings(lease="lease-2")):
        await host.acked("m2")
        await until(lambda: questions(host) == 0)
        host.put(answer("a1", question.id))
        await host.acked("a1")
    assert f'about="{question.seq}" answers="Which colour?"' in host.texts()[-1]


async def test_an_answer_to_a_question_that_nobody_knows_is_a_plain_message(host: HostSide) -> None:
    host.script(SHOWS)
    said = ChatIn(text="Red", sender="Bo", sender_id="u-Bo", answers="long-gone")
    row = chat("a1", "")
    host.put(NewMessageIn(id="a1", kind=InKind.CHAT, timestamp=row.timestamp, content=encode(said), origin=row.origin))
    async with running(host):
        await host.acked("a1")
    assert "answers=" not in host.texts()[0]
    assert ">Red</message>" in host.texts()[0]


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_turn_that_is_run_again_finds_the_answer_that_came_meanwhile(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]}, SILENT)
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
    host.retry(host.acks()["m1"], beside=answer("a1", question.id))
    async with running(host, host.settings(lease="lease-2")):
        await host.acked("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1
    assert [turn.message_ids for turn in host.turns()] == [("m1", "a1")]


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_turn_that_is_run_again_with_its_answer_does_not_ask_again(host: HostSide) -> None:
    host.script(
        {"match": "ask", "attempt": 1, "actions": [ASKS, {"error": "overloaded"}]},
        {"match": "ask", "attempt": 2, "actions": [ASKS]},
        SILENT,
    )
    host.say("m1", "ask")
    async with running(host):
        host.put(answer("a1", (await asked(host)).id))
        acks = await host.acked("m1", "a1", status=AckStatus.FAILED)
        host.retry(*acks.values())
        await host.acked("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_an_answer_that_a_turn_of_its_own_has_dealt_with_is_found_all_the_same(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
    host.put(answer("a1", question.id))
    async with running(host, host.settings(lease="lease-2")):
        await host.acked("a1")
        host.retry(host.acks()["m1"])
        await host.acked("m1")
    assert host.texts() == ["echo: Red", 'so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_turn_that_is_run_again_without_an_answer_waits_on_and_asks_nobody_twice(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS, {"answer": "{prompt}"}]})
    host.say("m1", "ask")
    process = await host.start(**{VARIABLE: "runner.said"})
    await ended(process)
    question = await asked(host)
    async with running(host, host.settings(lease="lease-2", poll_interval_s=0.05)):
        host.retry((await host.acked("m1", status=AckStatus.ABANDONED))["m1"])
        await until(lambda: host.progress().get("waiting") == "person")
        host.put(answer("a1", question.id))
        await host.acked("m1", "a1")
    result, prompt = host.texts()
    assert result == 'so: <answer from="Bo" id="4">Red</answer>'
    assert "(a question: Which colour? ['Red', 'Blue'] Ask it again in these words to wait for its answer.)" in prompt
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_an_answer_that_comes_before_the_question_is_asked_again_is_found(host: HostSide) -> None:
    host.script(
        {"match": "ask", "attempt": 1, "actions": [ASKS]},
        {"match": "ask", "attempt": 2, "actions": [{"until_file": "go"}, ASKS]},
    )
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
    async with running(host, host.settings(lease="lease-2", poll_interval_s=0.05)):
        host.retry(host.acks()["m1"])
        await until(lambda: host.progress().get("state") == "turn")
        host.put(answer("a1", question.id))
        await host.acked("a1", status=AckStatus.PROCESSING)
        (host.layout.agent_dir / "go").touch()
        await host.acked("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>', "echo: Red"]
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_runner_that_is_killed_with_the_answer_in_hand_asks_nobody_again(host: HostSide) -> None:
    host.script(
        {"match": "ask", "attempt": 1, "actions": [ASKS, {"crash": True}]},
        {"match": "ask", "attempt": 2, "actions": [ASKS]},
        SILENT,
    )
    host.say("m1", "ask")
    process = await host.start()
    host.put(answer("a1", (await asked(host)).id))
    await ended(process)
    async with running(host, host.settings(lease="lease-2")):
        acks = await host.acked("m1", "a1", status=AckStatus.ABANDONED)
        host.retry(*acks.values())
        await host.acked("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "SE-12")
async def test_stop_ends_the_waiting_at_once(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        question = await asked(host)
        host.put(other("stop", InKind.CONTROL, ControlIn(command=STOP)))
        await host.acked("m1", "stop")
        host.put(answer("a1", question.id))
        await host.acked("a1")
    assert host.texts() == ["echo: Red"]


@pytest.mark.behaviour("AP-09")
async def test_a_runner_that_is_to_stop_does_not_wait_for_an_answer(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    async with running(host):
        await asked(host)
    assert host.acks()["m1"].status is AckStatus.ABANDONED


@pytest.mark.behaviour("AP-09", "SE-06")
async def test_the_host_sees_that_a_person_is_waited_for_and_an_idle_runner_leaves_afterwards(host: HostSide) -> None:
    host.script({"match": "ask", "actions": [ASKS]})
    host.say("m1", "ask")
    settings = host.settings(poll_interval_s=0.05)
    async with running(host, settings):
        question = await asked(host)
        await until(lambda: host.progress().get("waiting") == "person")
        assert host.progress()["tool"] == "ask_user_question"
        host.put(answer("a1", question.id))
        await host.acked("m1")
        await until(lambda: "waiting" not in host.progress())


async def test_questions_wait_side_by_side_and_an_answer_that_comes_too_late_is_refused() -> None:
    looked: asyncio.Queue[None] = asyncio.Queue()
    waiting = Questions(lambda: looked.put_nowait(None))
    both = [asyncio.create_task(waiting.wait(id, seconds(60))) for id in ("o1", "o2")]
    async with asyncio.timeout(seconds(WAIT_S)):
        for _ in both:
            await looked.get()
        assert (waiting.are_open, waiting.take_unseen(), waiting.take_unseen()) == (True, True, False)
        waiting.interrupt()
        waiting.close()
        assert await asyncio.gather(*both) == [Unanswered.INTERRUPTED, Unanswered.INTERRUPTED]
    assert not waiting.are_open
    assert not waiting.answer(row_of(answer("a1", "o1")))
