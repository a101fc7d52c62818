"""The runner with real files: messages in, answers out, whatever the provider does."""

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_runner.failures import SENTENCES
from agent_runner.loop import BUSY_PRUNE_THRESHOLD, IdleTimeouts
from agent_runner.mailbox import Mailbox
from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.outbound import OutboundReader, OutboundWriter
from nanohost_protocol.payloads import ChatIn, ChatOut, ControlIn, FileOut, QuestionOut, encode
from nanohost_protocol.rows import AckStatus, ErrorClass, InKind, NewMessageIn
from nanohost_protocol.times import to_text
from tests.runner.host_side import HOME, OFFICE, WAIT_TIMEOUT_S, SessionHost, make_chat_message, run_runner, wait_until


@pytest.fixture
def host(tmp_path: Path) -> SessionHost:
    return SessionHost(tmp_path / "session")


def state(host: SessionHost, key: str) -> str | None:
    """The content of session_state, once the runner has ended."""
    writer = OutboundWriter(host.layout.outbound_db, container_id="test", durable=False)
    try:
        return writer.state(key)
    finally:
        writer.close()


async def test_a_message_is_answered_in_its_chat(host: SessionHost) -> None:
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1")
    (row,) = host.sent()
    assert (host.texts(), row.destination, row.in_reply_to) == (["echo: hi"], None, "m1")


def deletion(id: str, of: str) -> NewMessageIn:
    """The row of the host when a message was deleted on the platform."""
    row = make_chat_message(id, "", trigger=False)
    assert row.origin is not None
    said = ChatIn(text="", sender="Ada", sender_id="u-Ada", event="deletion", refers_to=f"platform-{of}")
    return replace(row, content=encode(said), origin=replace(row.origin, platform_message_id=f"platform-{of}"))


@pytest.mark.behaviour("RT-14")
async def test_a_deleted_message_is_closed_unread_and_messages_with_it_are_answered(
    host: SessionHost,
) -> None:
    host.insert(make_chat_message("m1", "oops"), deletion("d1", "m1"), make_chat_message("m2", "hi"))
    async with run_runner(host):
        await host.wait_for_acks("m1", "d1", "m2")
    assert host.texts() == ["echo: hi"]


@pytest.mark.behaviour("RT-14")
async def test_when_all_waiting_messages_were_deleted_no_turn_runs(host: SessionHost) -> None:
    host.insert(make_chat_message("m1", "oops"), deletion("d1", "m1"))
    async with run_runner(host):
        await host.wait_for_acks("m1", "d1")
    assert (host.texts(), host.turns()) == ([], [])


async def test_a_fifo_signal_is_noticed_long_before_the_next_poll(host: SessionHost) -> None:
    async with run_runner(host, host.settings(poll_interval_s=3600)):
        for number in range(3):
            host.write_message(f"m{number}", "hi")
            await host.wait_for_acks(f"m{number}")


async def test_without_a_fifo_the_runner_polls(tmp_path: Path) -> None:
    host = SessionHost(tmp_path / "session", fifo=False)
    async with run_runner(host, host.settings(poll_interval_s=0.02)):
        host.write_message("m1", "hi")
        await host.wait_for_acks("m1")


async def test_a_message_is_claimed_when_it_becomes_due(host: SessionHost) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.2)
    host.insert(make_chat_message("m1", "later", process_after=due))
    async with run_runner(host, host.settings(poll_interval_s=3600)):
        ack = (await host.wait_for_acks("m1"))["m1"]
    assert ack.changed_at >= due


async def test_a_message_due_while_the_file_is_unreadable_is_found_later_without_busy_waiting(
    host: SessionHost,
) -> None:
    """As when the host was killed in the middle of a commit: nothing can be read before the next one."""
    now = datetime.now(UTC)
    host.insert(make_chat_message("m1", "later", process_after=now + timedelta(hours=1)))
    later = now + timedelta(hours=2)
    with closing(Mailbox(host.layout, lease="l1", durable=False)) as mailbox:
        await mailbox.poll(now)
        due = mailbox.next_due
        assert due == now + timedelta(hours=1)
        with closing(sqlite3.connect(host.layout.inbound_db, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert await mailbox.poll(later) is None
            assert mailbox.next_due is None, "who waits for it would look again and again without a pause"
        news = await mailbox.poll(later)
    assert news is not None
    assert news.batch is not None


async def test_a_message_due_while_the_file_is_missing_is_found_later_without_busy_waiting(
    host: SessionHost,
) -> None:
    now = datetime.now(UTC)
    host.insert(make_chat_message("m1", "later", process_after=now + timedelta(hours=1)))
    later, aside = now + timedelta(hours=2), host.layout.inbound_db.with_suffix(".aside")
    with closing(Mailbox(host.layout, lease="l1", durable=False)) as mailbox:
        await mailbox.poll(now)
        host.layout.inbound_db.rename(aside)
        assert await mailbox.poll(later) is None
        assert mailbox.next_due is None
        aside.rename(host.layout.inbound_db)
        news = await mailbox.poll(later)
    assert news is not None
    assert news.batch is not None


async def test_context_is_claimed_with_the_message_that_triggers(host: SessionHost) -> None:
    host.insert(make_chat_message("c1", "chatter", trigger=False))
    async with run_runner(host):
        host.write_message("m1", "hi")
        await host.wait_for_acks("c1", "m1")
    assert host.texts() == ["echo: hi"]
    assert host.turns()[0].message_ids == ("c1", "m1")


async def test_a_wake_message_is_read_only_by_a_fresh_container(host: SessionHost) -> None:
    host.insert(make_chat_message("w1", "you were restarted", on_wake=True))
    async with run_runner(host):
        await host.wait_for_acks("w1")
        host.insert(make_chat_message("w2", "too late", on_wake=True))
        host.write_message("m1", "hi")
        await host.wait_for_acks("m1")
    assert "w2" not in host.acks()


@pytest.mark.behaviour("RU-02", "RU-03")
async def test_messages_during_a_turn_join_it_and_are_closed_with_it(host: SessionHost) -> None:
    host.write_script({"match": "^wait", "actions": [{"until_file": "go"}, {"answer": "done"}]})
    host.write_message("m1", "wait")
    async with run_runner(host):
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        host.write_message("m2", "and this")
        acks = await host.wait_for_acks("m2", status=AckStatus.PROCESSING)
        assert acks["m1"].status is AckStatus.PROCESSING
        (host.layout.agent_dir / "go").touch()
        acks = await host.wait_for_acks("m1", "m2")
    assert acks["m1"].turn_id == acks["m2"].turn_id
    assert acks["m1"].changed_at == acks["m2"].changed_at
    assert host.texts() == ["done", "echo: and this"]
    assert [row.in_reply_to for row in host.sent()] == ["m1", "m2"]
    (turn,) = host.turns()
    assert turn.message_ids == ("m1", "m2")


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize("error_class", list(ErrorClass))
async def test_a_failed_turn_is_never_completed_and_has_a_sentence(host: SessionHost, error_class: ErrorClass) -> None:
    host.write_script({"match": "", "actions": [{"answer": "half"}, {"error": error_class, "retry_in_s": 60}]})
    host.write_message("m1", "hi")
    async with run_runner(host):
        acks = await host.wait_for_acks("m1", status=AckStatus.FAILED)
    error = acks["m1"].error
    assert error is not None
    assert (error.error_class, error.sentence) == (error_class, SENTENCES[error_class])
    assert error.retry_at is not None
    assert host.sent() == []
    assert host.turns()[0].outcome == error_class


@pytest.mark.behaviour("RU-04")
async def test_a_turn_that_fails_after_an_answer_sends_nothing_of_it(host: SessionHost) -> None:
    """All of it is retried, so its messages would be sent twice."""
    host.write_script(
        {"match": "^wait", "actions": [{"until_file": "go"}, {"answer": "done"}]},
        {"match": "^and", "attempt": 1, "actions": [{"error": "overloaded"}]},
    )
    host.write_message("m1", "wait")
    async with run_runner(host):
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        host.write_message("m2", "and this")
        await host.wait_for_acks("m2", status=AckStatus.PROCESSING)
        (host.layout.agent_dir / "go").touch()
        acks = await host.wait_for_acks("m1", "m2", status=AckStatus.FAILED)
        assert host.texts() == []
        host.retry(*acks.values())
        await host.wait_for_acks("m1", "m2")
    assert host.texts() == ["done", "echo: and this"]


@pytest.mark.behaviour("RU-04")
async def test_a_provider_that_raises_is_a_transient_failure(host: SessionHost) -> None:
    (host.layout.agent_dir / "script.json").write_text("no json")
    host.write_message("m1", "hi")
    async with run_runner(host):
        acks = await host.wait_for_acks("m1", status=AckStatus.FAILED)
    error = acks["m1"].error
    assert error is not None
    assert error.error_class is ErrorClass.TRANSIENT


@pytest.mark.behaviour("RU-08", "RU-09")
async def test_a_retry_keeps_its_batch_and_repeats_no_message(host: SessionHost) -> None:
    say = {"tool": "send_message", "arguments": {"text": "working on {text}"}}
    host.write_script(
        {"match": "first", "attempt": 1, "actions": [say, {"error": "overloaded"}]},
        {"match": "first", "attempt": 2, "actions": [say, say, {"answer": "done"}]},
    )
    host.insert(make_chat_message("m1", "first"), make_chat_message("m2", "second"))
    async with run_runner(host):
        acks = await host.wait_for_acks("m1", "m2", status=AckStatus.FAILED)
        assert host.texts() == ["working on first"]
        host.retry(*acks.values(), extra_message=make_chat_message("m3", "third"))
        await host.wait_for_acks("m1", "m2", "m3")
    # The second "working on first" of attempt 2 is new: the first attempt sent it only once.
    assert host.texts() == ["working on first", "working on first", "done", "echo: second", "echo: third"]
    first, second = host.turns()
    assert (first.attempt, first.message_ids[:2], second.attempt) == (2, ("m1", "m2"), 1)


async def test_equal_answers_to_two_people_are_two_messages(host: SessionHost) -> None:
    host.insert(make_chat_message("m1", "hi", sender="Ada"), make_chat_message("m2", "hi", sender="Bob"))
    async with run_runner(host):
        await host.wait_for_acks("m1", "m2")
    assert [(text, row.in_reply_to) for text, row in zip(host.texts(), host.sent(), strict=True)] == [
        ("echo: hi", "m1"),
        ("echo: hi", "m2"),
    ]


@pytest.mark.behaviour("RU-06")
async def test_only_addressed_text_is_sent(tmp_path: Path) -> None:
    host = SessionHost(tmp_path / "session", destinations=(HOME, OFFICE))
    text = '<internal>hm</internal><message to="home">one</message><message to="office">two</message>'
    host.write_script({"match": "", "actions": [{"narration": "thinking"}, {"text": text}]})
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1")
    sent = [(payload, row.destination) for payload, row in zip(host.payloads(), host.sent(), strict=True)]
    assert sent == [(ChatOut(text="one"), None), (ChatOut(text="two"), "office")]


@pytest.mark.behaviour("RU-06")
async def test_unaddressed_text_goes_to_the_only_destination_and_narration_does_not(host: SessionHost) -> None:
    host.write_script({"match": "", "actions": [{"narration": "let me see"}, {"text": "here you are"}]})
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1")
    assert host.texts() == ["here you are"]


async def test_sequence_numbers_of_both_files_interleave(host: SessionHost) -> None:
    async with run_runner(host):
        for number in range(3):
            host.write_message(f"m{number}", "hi")
            await host.wait_for_acks(f"m{number}")
    assert [row.seq for row in host.sent()] == [3, 5, 7]


async def test_a_failing_tool_reports_an_error_and_the_turn_continues(host: SessionHost) -> None:
    refused = {"tool": "send_message", "arguments": {"text": "hm", "to": "nobody"}}
    host.write_script({"match": "", "actions": [refused, {"tool": "no_such_tool"}, {"answer": "done"}]})
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1")
    assert host.texts() == ["done"]


@pytest.mark.behaviour("RU-05")
async def test_the_conversation_is_saved_at_once_and_resumed_by_the_next_container(host: SessionHost) -> None:
    host.write_script({"match": "first", "actions": [{"conversation": "abc"}, {"hang": True}]})
    host.write_message("m1", "first")
    async with run_runner(host):
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        await wait_until(lambda: b"abc" in host.layout.outbound_db.read_bytes())
    assert state(host, "conversation:scripted") == "abc"
    host.write_script({"match": "second", "actions": [{"expect_resume": "abc"}, {"answer": "still here"}]})
    host.write_message("m2", "second")
    async with run_runner(host, host.settings(lease="lease-2")):
        await host.wait_for_acks("m2")
    assert host.texts() == ["still here"]


@pytest.mark.behaviour("RU-05")
async def test_a_stale_conversation_is_dropped_and_the_turn_restarted(host: SessionHost) -> None:
    writer = OutboundWriter(host.layout.outbound_db, container_id="old", durable=False)
    writer.set_state("conversation:scripted", "stale")
    writer.close()
    rule = {"match": "", "actions": [{"expect_resume": None}, {"conversation": "new"}, {"answer": "afresh"}]}
    host.write_script(rule)
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1")
    assert (host.texts(), host.turns()[0].attempt) == (["afresh"], 1)
    assert state(host, "conversation:scripted") == "new"


@pytest.mark.behaviour("RU-08")
async def test_a_turn_that_loses_its_conversation_does_not_repeat_sent_messages(
    host: SessionHost,
) -> None:
    writer = OutboundWriter(host.layout.outbound_db, container_id="old", durable=False)
    writer.set_state("conversation:scripted", "stale")
    writer.close()
    say = {"tool": "send_message", "arguments": {"text": "working"}}
    host.write_script({"match": "", "actions": [say, {"expect_resume": None}, say, {"answer": "done"}]})
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1")
    assert host.texts() == ["working", "working", "done"]


@pytest.mark.behaviour("RU-08")
async def test_an_answer_from_a_lost_conversation_is_not_sent_beside_the_new_one(
    host: SessionHost,
) -> None:
    writer = OutboundWriter(host.layout.outbound_db, container_id="old", durable=False)
    writer.set_state("conversation:scripted", "stale")
    writer.close()
    host.write_script(
        {"match": "^wait", "actions": [{"until_file": "go"}, {"answer": "{prompt}"}]},
        {"match": "^and", "actions": [{"expect_resume": None}, {"answer": "this"}]},
    )
    host.write_message("m1", "wait")
    async with run_runner(host):
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        host.write_message("m2", "and this")
        await host.wait_for_acks("m2", status=AckStatus.PROCESSING)
        (host.layout.agent_dir / "go").touch()
        await host.wait_for_acks("m1", "m2")
    first, second = host.texts()
    assert "and this" in first, "the new conversation was shown both"
    assert second == "this"


@pytest.mark.behaviour("RU-05")
async def test_the_conversation_of_another_provider_is_left_alone(host: SessionHost) -> None:
    writer = OutboundWriter(host.layout.outbound_db, container_id="old", durable=False)
    writer.set_state("conversation:claude", "theirs")
    writer.close()
    host.write_script(
        {"match": "", "actions": [{"expect_resume": None}, {"conversation": "ours"}, {"answer": "hello"}]}
    )
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1")
    assert (state(host, "conversation:claude"), state(host, "conversation:scripted")) == ("theirs", "ours")
    assert host.texts() == ["hello"]


async def test_a_stop_signal_during_a_turn_releases_it(host: SessionHost) -> None:
    host.write_script({"match": "", "actions": [{"answer": "half"}, {"hang": True}]})
    host.write_message("m1", "hi")
    async with run_runner(host):
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
    assert host.acks()["m1"].status is AckStatus.ABANDONED
    assert host.sent() == []


async def test_a_long_turn_reports_its_activity_until_it_ends(host: SessionHost) -> None:
    host.write_script({"match": "slow", "actions": [{"until_file": "go"}]})
    async with run_runner(host, host.settings(poll_interval_s=0.05)):
        host.write_message("m1", "slow")
        await wait_until(lambda: host.progress().get("state") == "turn")
        (host.layout.agent_dir / "go").touch()
        await host.wait_for_acks("m1")
        await wait_until(lambda: not host.progress())


async def test_control_messages_are_closed_and_never_shown(host: SessionHost) -> None:
    content = encode(ControlIn(command="dance"))
    host.insert(NewMessageIn(id="k1", kind=InKind.CONTROL, timestamp=datetime.now(UTC), content=content))
    async with run_runner(host):
        await host.wait_for_acks("k1")
    assert host.sent() == []


async def test_rows_that_the_host_has_processed_are_pruned_when_idle(host: SessionHost) -> None:
    host.write_message("m1", "hi")
    async with run_runner(host, host.settings(poll_interval_s=0.02), timeouts=IdleTimeouts(prune_s=0.1)):
        ack = (await host.wait_for_acks("m1"))["m1"]
        with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
            inbound.close("m1", "completed")
            inbound.set_meta({"out_cursor": str(host.sent()[0].seq), "ack_cursor": str(ack.change)})

        def pruned(outbound: OutboundReader) -> bool | None:
            return (not outbound.messages_after(0) and not outbound.acks_after(0)) or None

        await host.wait_for(pruned)
        host.write_message("m2", "again")
        await host.wait_for_acks("m2")
    assert [row.seq for row in host.sent()] == [5]


async def test_a_runner_that_is_never_idle_still_prunes(host: SessionHost) -> None:
    async with run_runner(host, host.settings(poll_interval_s=60.0)):
        host.write_message("m1", "hi")
        await host.wait_for_acks("m1")
        with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
            inbound.close("m1", "completed")
            inbound.set_meta({"out_cursor": "0", "ack_cursor": str(BUSY_PRUNE_THRESHOLD)})
        host.write_message("m2", "again")
        await host.wait_for(lambda outbound: all(ack.message_id != "m1" for ack in outbound.acks_after(0)) or None)


async def test_a_deleted_session_folder_ends_its_runner(host: SessionHost) -> None:
    async with run_runner(
        host, host.settings(poll_interval_s=0.02), timeouts=IdleTimeouts(session_missing_s=0.1)
    ) as life:
        host.write_message("m1", "hi")
        await host.wait_for_acks("m1")
        host.layout.inbound_db.unlink()
        async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
            assert await asyncio.shield(life) == 0


async def test_the_demo_provider_explains_itself_sends_a_file_and_asks(host: SessionHost) -> None:
    async with run_runner(host, host.settings("demo")):
        for number, text in enumerate(["hello", "send a file", "ask me"]):
            host.write_message(f"m{number}", text)
            await host.wait_for_acks(f"m{number}")
    assert [type(one) for one in host.payloads()] == [ChatOut, FileOut, QuestionOut]
    row = host.sent()[1]
    assert (host.layout.out_dir / "outbox" / row.id / "hello.txt").read_text() == "Hello from the demo.\n"
    async with run_runner(host, host.settings("demo", lease="lease-2")):
        host.write_message("m7", "2")
        await host.wait_for_acks("m7")
        host.write_message("m8", "2")
        await host.wait_for_acks("m8")
    assert host.texts()[1:] == ["You chose Green.", "You said: 2"]


async def test_an_idle_runner_does_not_busy_wait(host: SessionHost) -> None:
    async with run_runner(host, host.settings(poll_interval_s=0.05)):
        host.write_message("m1", "hi")
        await host.wait_for_acks("m1")
        before = os.times()
        await asyncio.sleep(0.3)
        spent = os.times().user + os.times().system - before.user - before.system
    assert spent < 0.15


@pytest.mark.behaviour("SE-06")
async def test_a_running_tool_reports_its_timeout_and_whether_it_waits_for_a_person(host: SessionHost) -> None:
    asking = {"tool": "react", "until_file": "reacted", "timeout_s": 600, "for_person": True}
    host.write_script({"match": "slow", "actions": [asking, {"until_file": "go"}]})
    async with run_runner(host, host.settings(poll_interval_s=0.05)):
        host.write_message("m1", "slow")
        await wait_until(lambda: host.progress().get("waiting") == "person")
        assert (host.progress()["tool"], host.progress()["tool_timeout_s"]) == ("react", "600")
        (host.layout.agent_dir / "reacted").touch()
        await wait_until(lambda: host.progress().get("state") == "turn" and "tool" not in host.progress())
        assert "waiting" not in host.progress()
        (host.layout.agent_dir / "go").touch()
        await host.wait_for_acks("m1")


@pytest.mark.behaviour("SE-06", "RU-04")
async def test_the_end_of_a_rate_limit_is_reported_between_turns(host: SessionHost) -> None:
    host.write_script({"match": "", "attempt": 1, "actions": [{"error": "rate_limited", "retry_in_s": 60}]})
    host.write_message("m1", "hi")
    async with run_runner(host, host.settings(poll_interval_s=0.05)):
        acks = await host.wait_for_acks("m1", status=AckStatus.FAILED)
        error = acks["m1"].error
        assert error is not None
        assert error.retry_at is not None
        wanted = to_text(error.retry_at)
        await wait_until(lambda: host.progress() == {"rate_limited_until": wanted})
