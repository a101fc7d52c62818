"""Control messages: /stop and /clear, during a turn and between turns; wake messages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_runner.claims import eligible
from nanohost_protocol.inbound import inbound_snapshot, inbound_transaction
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn, encode
from nanohost_protocol.rows import Ack, AckStatus, InKind, NewMessageIn
from tests.runner.host_side import SessionHost, make_chat_message, run_runner, wait_until

WORKS = {"match": "long", "actions": [{"narration": '<message to="home">half</message>'}, {"hang": True}]}
HANGS = {"actions": [{"tool": "look", "takes_s": 600}]}
REMEMBERS = {"match": "remember", "actions": [{"conversation": "abc"}, {"answer": "noted"}]}
RESUMES = {"match": "resume", "actions": [{"expect_resume": "abc"}, {"answer": "I know you"}]}


def control(id: str, command: str) -> NewMessageIn:
    return NewMessageIn(
        id=id, kind=InKind.CONTROL, timestamp=datetime.now(UTC), content=encode(ControlIn(command=command))
    )


@pytest.mark.behaviour("SE-12")
async def test_stop_completes_the_turn_and_sends_nothing_of_it(tmp_path: Path) -> None:
    host = SessionHost(tmp_path)
    host.write_script(WORKS)
    async with run_runner(host):
        host.write_message("m1", "long")
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        host.insert(control("stop", STOP))
        await host.wait_for_acks("m1", "stop")
        host.write_message("m2", "hi")
        await host.wait_for_acks("m2")
    assert host.texts() == ["echo: hi"]


@pytest.mark.behaviour("SE-12")
async def test_stop_sends_nothing_of_a_turn_that_had_answered_some_messages(tmp_path: Path) -> None:
    host = SessionHost(tmp_path)
    host.write_script(
        {"match": "^wait", "actions": [{"until_file": "go"}, {"answer": "done"}]}, {"match": "long", **HANGS}
    )
    async with run_runner(host):
        host.write_message("m1", "wait")
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        host.write_message("m2", "long")
        await host.wait_for_acks("m2", status=AckStatus.PROCESSING)
        (host.layout.agent_dir / "go").touch()
        await wait_until(lambda: host.progress().get("tool") == "look")
        host.insert(control("stop", STOP))
        await host.wait_for_acks("m1", "m2", "stop")
    assert host.texts() == []


@pytest.mark.behaviour("SE-12")
async def test_after_stop_nothing_is_sent_even_by_an_unresponsive_provider(tmp_path: Path) -> None:
    host = SessionHost(tmp_path)
    one, other = ({"tool": "send_message", "arguments": {"text": text}} for text in ("before", "after"))
    host.write_script({"match": "long", "actions": [one, {"deaf": True}, other]})
    async with run_runner(host):
        host.write_message("m1", "long")
        await wait_until(lambda: host.texts() == ["before"])
        host.insert(control("stop", STOP))
        await host.wait_for_acks("m1", "stop")
    assert host.texts() == ["before"]


@pytest.mark.behaviour("SE-12")
async def test_stop_keeps_the_conversation_and_clear_deletes_it(tmp_path: Path) -> None:
    host = SessionHost(tmp_path)
    host.write_script(REMEMBERS, RESUMES)
    async with run_runner(host):
        host.write_message("m1", "remember")
        await host.wait_for_acks("m1")
        host.insert(control("stop", STOP))
        await host.wait_for_acks("stop")
        host.write_message("m2", "resume")
        await host.wait_for_acks("m2")
        host.insert(control("clear", CLEAR))
        await host.wait_for_acks("clear")
        host.write_message("m3", "resume")
        await host.wait_for_acks("m3", status=AckStatus.FAILED)  # there is no conversation to resume
    assert host.texts() == ["noted", "I know you"]


@pytest.mark.behaviour("SE-12")
async def test_messages_written_with_a_stop_run_in_a_turn_of_their_own(tmp_path: Path) -> None:
    host = SessionHost(tmp_path)
    host.write_script(WORKS)
    async with run_runner(host):
        host.write_message("m1", "long")
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        host.insert(control("stop", STOP), make_chat_message("m2", "after"))
        await host.wait_for_acks("m1", "stop", "m2")
    assert host.texts() == ["echo: after"]


@pytest.mark.behaviour("SE-12")
async def test_an_unknown_control_message_ends_no_turn_and_is_closed_after_it(tmp_path: Path) -> None:
    host = SessionHost(tmp_path)
    host.write_script({"match": "slow", "actions": [{"until_file": "go"}, {"answer": "done"}]})
    async with run_runner(host):
        host.write_message("m1", "slow")
        await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
        host.insert(control("c1", "of a later version"))
        (host.layout.agent_dir / "go").touch()
        await host.wait_for_acks("m1", "c1")
    assert host.texts() == ["done"]


@pytest.mark.behaviour("SE-13")
async def test_a_failed_wake_message_is_retried_by_the_container_that_claimed_it(tmp_path: Path) -> None:
    path = tmp_path / "inbound.db"
    with inbound_transaction(path, durable=False) as box:
        box.insert(make_chat_message("w1", "hello", on_wake=True))
        box.retry("w1", tries=0, process_after=datetime.now(UTC))
    with inbound_snapshot(path) as reader:
        rows = list(reader.due(datetime.now(UTC)))
    taken = Ack(
        message_id="w1",
        change=1,
        status=AckStatus.FAILED,
        container_id="l1",
        turn_id="t1",
        tries=0,
        changed_at=datetime.now(UTC),
        error=None,
    )
    assert eligible(rows, {}, is_first_poll=False) == []
    assert eligible(rows, {"w1": taken}, is_first_poll=False) == rows
