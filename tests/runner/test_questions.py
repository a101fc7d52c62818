"""ask_user_question with real files: what waits, what ends the wait, and late answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_runner.loop import BUSY_PRUNE_THRESHOLD
from agent_runner.questions import NoAnswerReason, PendingQuestions
from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.crash_points import ENV_VARIABLE
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.outbound import OutboundReader
from nanohost_protocol.payloads import STOP, ChatIn, ControlIn, QuestionOut, SystemIn, TaskIn, encode
from nanohost_protocol.rows import AckStatus, DeliveryResult, InKind, MessageIn, MessageOut, NewMessageIn, OutKind
from tests.runner.host_side import (
    HOME,
    OFFICE,
    WAIT_TIMEOUT_S,
    SessionHost,
    make_chat_message,
    run_runner,
    wait_for_exit,
    wait_until,
)

QUESTION = {"question": "Which colour?", "options": ["Red", "Blue"]}
ASKS = {"tool": "ask_user_question", "arguments": QUESTION, "answer": "so: {result}"}
ASKS_BRIEFLY = ASKS | {"arguments": QUESTION | {"wait_minutes": 0.002}}
SHOWS = {"match": "Red", "actions": [{"answer": "{prompt}"}]}
SILENT = {"match": "Red", "actions": []}


@pytest.fixture
def host(tmp_path: Path) -> SessionHost:
    return SessionHost(tmp_path / "session", destinations=(HOME, OFFICE))


def answer(id: str, question: str, text: str = "Red") -> NewMessageIn:
    """The row of the host for a press, or for a typed answer."""
    said = ChatIn(text=text, sender="Bo", sender_id="u-Bo", answers=question)
    row = make_chat_message(id, "")
    return NewMessageIn(id=id, kind=InKind.CHAT, timestamp=row.timestamp, content=encode(said), origin=row.origin)


def other(id: str, kind: InKind, payload: SystemIn | TaskIn | ControlIn) -> NewMessageIn:
    return NewMessageIn(id=id, kind=kind, timestamp=datetime.now(UTC), content=encode(payload))


async def wait_for_question(host: SessionHost) -> MessageOut:
    """Wait for the question."""

    def look(outbound: OutboundReader) -> MessageOut | None:
        rows = [row for row in outbound.messages_after(0) if isinstance(row, MessageOut)]
        return next((row for row in rows if row.kind == OutKind.QUESTION), None)

    return await host.wait_for(look)


def write_delivery_result(host: SessionHost, message: MessageOut, status: str) -> None:
    """Write the delivery result of a message of the agent."""
    outcome = DeliveryResult(out_id=message.id, status=status, platform_message_ids=(), changed_at=datetime.now(UTC))
    with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
        inbound.record_delivery_results([outcome])


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


def questions(host: SessionHost) -> int:
    return sum(isinstance(one, QuestionOut) for one in host.payloads())


@pytest.mark.behaviour("AP-09")
async def test_the_answer_is_returned_to_the_call_and_closed_with_its_turn(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS, {"until_file": "go"}]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        host.insert(answer("a1", (await wait_for_question(host)).id))
        before = await host.wait_for_acks("a1", status=AckStatus.PROCESSING)
        (host.layout.agent_dir / "go").touch()
        acks = await host.wait_for_acks("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert before["m1"].status is AckStatus.PROCESSING
    assert (acks["m1"].turn_id, acks["m1"].changed_at) == (acks["a1"].turn_id, acks["a1"].changed_at)
    assert [turn.message_ids for turn in host.turns()] == [("m1", "a1")]
    assert [row.in_reply_to for row in host.sent()] == ["m1", "m1"]


async def test_an_answer_can_be_replied_to_and_does_not_change_the_reply_address(host: SessionHost) -> None:
    thanks = [{"tool": "send_message", "arguments": {"text": "noted", "re": number}} for number in (4, None)]
    host.write_script({"match": "ask", "actions": [ASKS, *thanks]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        elsewhere = replace(
            answer("a1", (await wait_for_question(host)).id),
            origin=make_chat_message("a1", "", platform_id="chat-2").origin,
        )
        host.insert(elsewhere)
        await host.wait_for_acks("m1", "a1")
    assert [row.in_reply_to for row in host.sent()] == ["m1", "a1", "m1", "m1"]


@pytest.mark.behaviour("AP-09", "SE-12")
async def test_a_question_written_while_its_turn_ended_is_not_waited_for() -> None:
    """A /stop came in between: otherwise the call would stay open for an hour."""
    questions = PendingQuestions()
    questions.close()
    async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
        assert await questions.wait("q1", scaled_timeout(3600)) is NoAnswerReason.TURN_ENDED
    assert not questions.has_open


@pytest.mark.behaviour("AP-09")
async def test_a_question_without_choices_is_answered_in_free_text(host: SessionHost) -> None:
    free = ASKS | {"arguments": {"question": "What is your name?"}}
    host.write_script({"match": "ask", "actions": [free]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
        host.insert(answer("a1", question.id, "Bo <the> First"))
        await host.wait_for_acks("m1", "a1")
    assert host.payloads()[0] == QuestionOut(text="What is your name?", options=())
    assert host.texts() == ['so: <answer from="Bo" id="4">Bo &lt;the&gt; First</answer>']


@pytest.mark.behaviour("AP-09")
async def test_the_first_answer_counts_and_a_second_is_a_message(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
        host.insert(answer("a1", question.id, "Red"), answer("a2", question.id, "Blue"))
        await host.wait_for_acks("m1", "a1", "a2")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>', "echo: Blue"]


@pytest.mark.behaviour("AP-09")
@pytest.mark.parametrize("platform_id", ["chat-1", "chat-2"])
async def test_a_message_that_comes_instead_of_an_answer_does_not_wait_behind_the_question(
    host: SessionHost, platform_id: str
) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
        host.insert(make_chat_message("m2", "never mind", platform_id=platform_id))
        await host.wait_for_acks("m1", "m2")
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("a1")
    instead, echo, late = host.texts()
    assert f"Asked as message {question.seq}. Nobody has answered. Something else came instead" in instead
    assert (echo, late) == ("echo: never mind", "echo: Red")


@pytest.mark.behaviour("AP-09")
async def test_a_due_task_ends_the_wait_for_an_answer_and_a_system_message_does_not(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]}, {"match": "note", "actions": []})
    host.write_message("m1", "ask")
    async with run_runner(host):
        await wait_for_question(host)
        host.insert(other("s1", InKind.SYSTEM, SystemIn(text="a note")))
        await host.wait_for_acks("s1", status=AckStatus.PROCESSING)
        assert host.texts() == []
        host.insert(other("t1", InKind.TASK, TaskIn(prompt="water")))
        await host.wait_for_acks("m1", "s1", "t1")
    assert "Something else came instead" in host.texts()[0]


@pytest.mark.behaviour("AP-09", "DL-16")
@pytest.mark.parametrize("status", ["dead", "dropped"])
async def test_an_undelivered_question_is_no_longer_waited_for(host: SessionHost, status: str) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host, host.settings(poll_interval_s=0.05)):
        question = await wait_for_question(host)
        write_delivery_result(host, question, "sent")
        await wait_until(lambda: host.progress().get("waiting") == "person")
        write_delivery_result(host, question, status)
        await host.wait_for_acks("m1")
    assert "The question did not arrive, so nobody will answer it." in host.texts()[0]


@pytest.mark.behaviour("AP-09", "RU-08", "DL-16")
async def test_a_repeated_turn_does_not_wait_for_an_undelivered_question(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
    write_delivery_result(host, question, "dead")
    async with run_runner(host, host.settings(lease="lease-2")):
        host.retry((await host.wait_for_acks("m1", status=AckStatus.ABANDONED))["m1"])
        await host.wait_for_acks("m1")
    assert "The question did not arrive" in host.texts()[0]
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09")
async def test_another_message_that_fails_does_not_end_the_wait_for_an_answer(host: SessionHost) -> None:
    says = {"tool": "send_message", "arguments": {"text": "one moment"}}
    host.write_script({"match": "ask", "actions": [says, ASKS]}, SILENT)
    host.write_message("m1", "ask")
    async with run_runner(host, host.settings(poll_interval_s=0.05)):
        question = await wait_for_question(host)
        write_delivery_result(host, host.sent()[0], "dead")
        write_delivery_result(host, question, "unknown")
        await wait_until(lambda: host.progress().get("waiting") == "person")
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("m1", "a1")
    assert host.texts()[-1] == 'so: <answer from="Bo" id="4">Red</answer>'


@pytest.mark.behaviour("AP-09", "AC-06")
async def test_a_claude_code_command_does_not_wait_behind_a_question(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        await wait_for_question(host)
        host.write_message("c1", "/compact")
        await host.wait_for_acks("m1", "c1")
    assert "Something else came instead" in host.texts()[0]
    assert host.texts()[1:] == ["Nothing to compact."]
    assert [turn.message_ids for turn in host.turns()] == [("m1",), ("c1",)]


async def test_context_alone_does_not_end_the_wait_for_an_answer(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
        host.insert(make_chat_message("c1", "chatter", trigger=False), answer("a1", question.id))
        await host.wait_for_acks("m1", "a1")
    assert "c1" not in host.acks()
    assert "Red" in host.texts()[0]


@pytest.mark.behaviour("AP-09")
async def test_an_answer_after_the_calls_timeout_is_a_message_that_shows_its_question(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS_BRIEFLY]}, SHOWS)
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
        await host.wait_for_acks("m1")
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("a1")
    gave_up, shown = host.texts()
    assert "There is no answer yet. The answer will come as a message" in gave_up
    assert f'about="{question.seq}" answers="Which colour?"' in shown
    assert [turn.message_ids for turn in host.turns()] == [("m1",), ("a1",)]


@pytest.mark.behaviour("AP-09")
async def test_an_answer_to_another_container_shows_its_question_even_after_pruning(
    host: SessionHost,
) -> None:
    host.write_script({"match": "ask", "actions": [ASKS_BRIEFLY]}, SHOWS)
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
        await host.wait_for_acks("m1")
    with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
        inbound.set_meta({"out_cursor": str(BUSY_PRUNE_THRESHOLD + 9)})
    host.write_message("m2", "hi")
    async with run_runner(host, host.settings(lease="lease-2")):
        await host.wait_for_acks("m2")
        await wait_until(lambda: questions(host) == 0)
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("a1")
    assert f'about="{question.seq}" answers="Which colour?"' in host.texts()[-1]


async def test_an_answer_to_an_unknown_question_is_an_ordinary_message(host: SessionHost) -> None:
    host.write_script(SHOWS)
    said = ChatIn(text="Red", sender="Bo", sender_id="u-Bo", answers="long-gone")
    row = make_chat_message("a1", "")
    host.insert(
        NewMessageIn(id="a1", kind=InKind.CHAT, timestamp=row.timestamp, content=encode(said), origin=row.origin)
    )
    async with run_runner(host):
        await host.wait_for_acks("a1")
    assert "answers=" not in host.texts()[0]
    assert ">Red</message>" in host.texts()[0]


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_repeated_turn_finds_the_answer_that_came_meanwhile(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]}, SILENT)
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
    host.retry(host.acks()["m1"], extra_message=answer("a1", question.id))
    async with run_runner(host, host.settings(lease="lease-2")):
        await host.wait_for_acks("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1
    assert [turn.message_ids for turn in host.turns()] == [("m1", "a1")]


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_repeated_turn_with_its_answer_does_not_ask_again(host: SessionHost) -> None:
    host.write_script(
        {"match": "ask", "attempt": 1, "actions": [ASKS, {"error": "overloaded"}]},
        {"match": "ask", "attempt": 2, "actions": [ASKS]},
        SILENT,
    )
    host.write_message("m1", "ask")
    async with run_runner(host):
        host.insert(answer("a1", (await wait_for_question(host)).id))
        acks = await host.wait_for_acks("m1", "a1", status=AckStatus.FAILED)
        host.retry(*acks.values())
        await host.wait_for_acks("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_an_answer_already_handled_in_its_own_turn_is_still_found(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
    host.insert(answer("a1", question.id))
    async with run_runner(host, host.settings(lease="lease-2")):
        await host.wait_for_acks("a1")
        host.retry(host.acks()["m1"])
        await host.wait_for_acks("m1")
    assert host.texts() == ["echo: Red", 'so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_repeated_turn_without_an_answer_keeps_waiting_and_does_not_ask_twice(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS, {"answer": "{prompt}"}]})
    host.write_message("m1", "ask")
    process = await host.start_runner(**{ENV_VARIABLE: "runner.said"})
    await wait_for_exit(process)
    question = await wait_for_question(host)
    async with run_runner(host, host.settings(lease="lease-2", poll_interval_s=0.05)):
        host.retry((await host.wait_for_acks("m1", status=AckStatus.ABANDONED))["m1"])
        await wait_until(lambda: host.progress().get("waiting") == "person")
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("m1", "a1")
    result, prompt = host.texts()
    assert result == 'so: <answer from="Bo" id="4">Red</answer>'
    assert "(a question: Which colour? ['Red', 'Blue'] Ask it again in these words to wait for its answer.)" in prompt
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_an_answer_that_comes_before_the_question_is_repeated_is_found(host: SessionHost) -> None:
    host.write_script(
        {"match": "ask", "attempt": 1, "actions": [ASKS]},
        {"match": "ask", "attempt": 2, "actions": [{"until_file": "go"}, ASKS]},
    )
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
    async with run_runner(host, host.settings(lease="lease-2", poll_interval_s=0.05)):
        host.retry(host.acks()["m1"])
        await wait_until(lambda: host.progress().get("state") == "turn")
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("a1", status=AckStatus.PROCESSING)
        (host.layout.agent_dir / "go").touch()
        await host.wait_for_acks("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>', "echo: Red"]
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "RU-08")
async def test_a_runner_killed_after_receiving_the_answer_does_not_ask_again(host: SessionHost) -> None:
    host.write_script(
        {"match": "ask", "attempt": 1, "actions": [ASKS, {"crash": True}]},
        {"match": "ask", "attempt": 2, "actions": [ASKS]},
        SILENT,
    )
    host.write_message("m1", "ask")
    process = await host.start_runner()
    host.insert(answer("a1", (await wait_for_question(host)).id))
    await wait_for_exit(process)
    async with run_runner(host, host.settings(lease="lease-2")):
        acks = await host.wait_for_acks("m1", "a1", status=AckStatus.ABANDONED)
        host.retry(*acks.values())
        await host.wait_for_acks("m1", "a1")
    assert host.texts() == ['so: <answer from="Bo" id="4">Red</answer>']
    assert questions(host) == 1


@pytest.mark.behaviour("AP-09", "SE-12")
async def test_stop_ends_the_wait_for_an_answer_at_once(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        question = await wait_for_question(host)
        host.insert(other("stop", InKind.CONTROL, ControlIn(command=STOP)))
        await host.wait_for_acks("m1", "stop")
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("a1")
    assert host.texts() == ["echo: Red"]


@pytest.mark.behaviour("AP-09")
async def test_a_stopping_runner_does_not_wait_for_an_answer(host: SessionHost) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    async with run_runner(host):
        await wait_for_question(host)
    assert host.acks()["m1"].status is AckStatus.ABANDONED


@pytest.mark.behaviour("AP-09", "SE-06")
async def test_the_host_sees_the_wait_for_a_person_and_the_runner_exits_idle_afterwards(
    host: SessionHost,
) -> None:
    host.write_script({"match": "ask", "actions": [ASKS]})
    host.write_message("m1", "ask")
    settings = host.settings(poll_interval_s=0.05)
    async with run_runner(host, settings):
        question = await wait_for_question(host)
        await wait_until(lambda: host.progress().get("waiting") == "person")
        assert host.progress()["tool"] == "ask_user_question"
        host.insert(answer("a1", question.id))
        await host.wait_for_acks("m1")
        await wait_until(lambda: "waiting" not in host.progress())


async def test_questions_wait_independently_and_a_late_answer_is_refused() -> None:
    looked: asyncio.Queue[None] = asyncio.Queue()
    waiting = PendingQuestions(lambda: looked.put_nowait(None))
    both = [asyncio.create_task(waiting.wait(id, scaled_timeout(60))) for id in ("o1", "o2")]
    async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
        for _ in both:
            await looked.get()
        assert (waiting.has_open, waiting.take_has_new(), waiting.take_has_new()) == (True, True, False)
        waiting.interrupt()
        waiting.close()
        assert await asyncio.gather(*both) == [NoAnswerReason.INTERRUPTED, NoAnswerReason.INTERRUPTED]
    assert not waiting.has_open
    assert not waiting.deliver_answer(row_of(answer("a1", "o1")))
