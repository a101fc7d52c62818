"""Claude Code commands typed by a person: what counts as one, and that it is a turn of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_runner.claims import follow_ups, has_pending_command, next_batch
from agent_runner.commands import NO_MODEL, NOTHING_TO_COMPACT, parse_command
from agent_runner.providers.claude import command_reply
from nanohost_protocol.payloads import ChatIn, InPayload, TaskIn, encode
from nanohost_protocol.rows import Ack, AckStatus, InKind, MessageIn, Origin
from tests.runner.host_side import SessionHost, make_chat_message, run_runner

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OWN_ID = "p1"


def row(
    content: InPayload | str,
    seq: int = 2,
    *,
    kind: InKind = InKind.CHAT,
    trigger: bool = True,
    is_of_a_chat: bool = True,
) -> MessageIn:
    origin = Origin(channel_type="fake", instance="main", platform_id="c1", platform_message_id=OWN_ID)
    payload = ChatIn(text=content, sender="Ada", sender_id="u1") if isinstance(content, str) else content
    return MessageIn(
        seq=seq,
        id=f"m{seq}",
        kind=kind,
        timestamp=NOON,
        status="pending",
        process_after=None,
        tries=0,
        trigger=trigger,
        on_wake=False,
        origin=origin if is_of_a_chat else None,
        content=encode(payload),
    )


def chat_payload(
    text: str, *, event: str = "message", refers_to: str | None = None, answers: str | None = None
) -> ChatIn:
    return ChatIn(text=text, sender="Ada", sender_id="u1", event=event, refers_to=refers_to, answers=answers)


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/compact", "/compact"),
        (" /Compact@nan_bot  keep\n the names ", "/compact keep the names"),
        ("/context", "/context"),
        ("/cost", "/cost"),
        ("/compactor", None),
        ("/files", None),
        ("/login", None),
        ("please /compact", None),
        ("hi", None),
    ],
)
def test_a_command_is_a_text_that_begins_with_its_name(text: str, command: str | None) -> None:
    assert parse_command(row(text)) == command


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize(
    "other",
    [
        row(chat_payload("/compact", event="edit", refers_to="p0")),
        row(chat_payload("/compact", refers_to=OWN_ID)),  # a press: the agent chose the label
        row(chat_payload("/compact", answers="o1")),
        row("/compact", trigger=False),
        row("/compact", is_of_a_chat=False),
        row(TaskIn(prompt="/compact"), kind=InKind.TASK),
        row(TaskIn(prompt="/compact")),
    ],
)
def test_only_a_persons_text_is_a_command(other: MessageIn) -> None:
    assert parse_command(other) is None


def test_a_reply_can_be_a_command() -> None:
    assert parse_command(row(chat_payload("/compact", refers_to="p0"))) == "/compact"


@pytest.mark.behaviour("AC-06")
def test_a_command_is_alone_in_its_turn_and_keeps_its_position() -> None:
    rows = [row("one", 2), row("so", 4, trigger=False), row("/compact", 6), row("two", 8), row("/cost", 10)]
    batches = []
    while rows:
        batch = next_batch(rows, {})
        assert batch is not None
        batches.append([one.seq for one in batch.messages])
        rows = [one for one in rows if one not in batch.messages]
    assert batches == [[2, 4], [6], [8], [10]]


def test_context_before_a_command_waits_for_the_next_message() -> None:
    rows = [row("so", 2, trigger=False), row("/compact", 4), row("two", 6)]
    first = next_batch(rows, {})
    assert first is not None
    second = next_batch([rows[0], rows[2]], {})
    assert second is not None
    assert ([one.seq for one in first.messages], [one.seq for one in second.messages]) == ([4], [2, 6])


@pytest.mark.behaviour("AC-06")
def test_a_command_and_later_messages_do_not_join_a_running_turn() -> None:
    one, command, two = row("one", 2), row("/compact", 4), row("two", 6)
    assert follow_ups([one, command, two], {}) == (one,)
    assert follow_ups([command, two], {}) == ()
    assert has_pending_command([one, command], {})
    assert not has_pending_command([one, two], {})
    taken = Ack(
        message_id="m4",
        change=1,
        status=AckStatus.FAILED,
        container_id="l1",
        turn_id="t1",
        tries=0,
        changed_at=NOON,
        error=None,
    )
    assert not has_pending_command([command], {"m4": taken})


@pytest.mark.parametrize(
    ("text", "compacted", "words"),
    [
        ("", {"pre_tokens": 150_000, "post_tokens": 9_000}, "Compacted: from 150,000 tokens to 9,000."),
        ("", {}, "Compacted."),
        ("", {"pre_tokens": "many", "post_tokens": None}, "Compacted."),
        ("Error: No messages to compact", None, NOTHING_TO_COMPACT),
        ("Not enough messages to compact.", None, NOTHING_TO_COMPACT),
        ("Error during compaction: overloaded", None, "Error during compaction: overloaded"),
        ("", None, "Done."),
    ],
)
def test_a_person_is_told_the_result_of_a_command(text: str, compacted: dict[str, object] | None, words: str) -> None:
    assert command_reply(text, compacted) == words


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize("provider", ["scripted", "demo"])
async def test_without_a_model_there_is_nothing_to_compact(tmp_path: Path, provider: str) -> None:
    host = SessionHost(tmp_path / "session")
    host.insert(make_chat_message("c1", "/compact"), make_chat_message("m1", "hey"), make_chat_message("c2", "/cost"))
    async with run_runner(host, host.settings(provider)):
        await host.wait_for_acks("c1", "m1", "c2")
    assert host.texts() == [NOTHING_TO_COMPACT, "echo: hey" if provider == "scripted" else "You said: hey", NO_MODEL]
    assert [row.in_reply_to for row in host.sent()] == ["c1", "m1", "c2"]


@pytest.mark.behaviour("AC-06", "RU-08")
async def test_a_failed_command_is_retried_as_a_command(tmp_path: Path) -> None:
    host = SessionHost(tmp_path / "session")
    host.write_script({"match": "compact", "attempt": 1, "actions": [{"error": "overloaded"}]})
    host.insert(make_chat_message("c1", "/compact"))
    async with run_runner(host):
        acks = await host.wait_for_acks("c1", status=AckStatus.FAILED)
        host.retry(*acks.values(), extra_message=make_chat_message("m1", "hi"))
        await host.wait_for_acks("c1", "m1")
    assert host.texts() == [NOTHING_TO_COMPACT, "echo: hi"]


@pytest.mark.behaviour("AC-06")
async def test_no_message_joins_a_running_command(tmp_path: Path) -> None:
    host = SessionHost(tmp_path / "session")
    host.write_script({"match": "compact", "actions": [{"until_file": "go"}, {"answer": "done"}]})
    host.insert(make_chat_message("c1", "/compact"))
    async with run_runner(host, host.settings(poll_interval_s=0.05)):
        await host.wait_for_acks("c1", status=AckStatus.PROCESSING)
        host.insert(make_chat_message("m1", "hi"))
        (host.layout.agent_dir / "go").touch()
        await host.wait_for_acks("c1", "m1")
    assert [turn.message_ids for turn in host.turns()] == [("c1",), ("m1",)]
