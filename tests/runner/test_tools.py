"""The rows that the agent's tools write, and their results."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent_runner import tools
from agent_runner.mailbox import Mailbox
from agent_runner.outbox import MAX_TEXT_CHARS, Outbox
from agent_runner.prompt import PromptContext, make_batch_prompt
from agent_runner.questions import PendingQuestions
from agent_runner.tools import Toolbox, ToolRefused, load_tools
from nanohost_protocol.ids import task_id
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.payloads import (
    ChatOut,
    EditOut,
    FileOut,
    OutPayload,
    QuestionOut,
    ReactionOut,
    SystemIn,
    SystemOut,
    TaskOut,
    decode_out,
    encode,
)
from nanohost_protocol.rows import InKind, MessageOut, NewMessageIn, OutKind
from tests.runner.host_side import SessionHost, make_chat_message, run_runner

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SESSION = "s1"


@pytest.fixture
def host(tmp_path: Path) -> SessionHost:
    return SessionHost(tmp_path / "session")


@asynccontextmanager
async def answering(host: SessionHost, *, lease: str = "l1") -> AsyncIterator[Toolbox]:
    """A turn over one message that is interrupted; under another lease it is repeated."""
    mailbox = Mailbox(host.layout, lease=lease, durable=False)
    mailbox.abandon_stale_claims(NOW)
    for ack in host.acks().values():
        host.retry(ack)
    toolbox = Toolbox(load_tools())
    host.insert(make_chat_message("m1", "hi"), should_wake=False)
    try:
        news = await mailbox.poll(datetime.now(UTC))
        assert news is not None
        assert news.batch is not None
        begun = await mailbox.claim(news.batch, NOW)
        toolbox.outbox = Outbox(
            session=SESSION,
            turn_id=news.batch.turn_id,
            mailbox=mailbox,
            layout=host.layout,
            book=news.address_book,
            zone=ZoneInfo("Europe/Berlin"),
            now=lambda: NOW,
            questions=PendingQuestions(),
        )
        toolbox.outbox.sent_ids = {row.id for row in begun.sent_messages}
        toolbox.outbox.add_messages(news.batch.messages)
        yield toolbox
    finally:
        mailbox.close()


async def called(
    host: SessionHost, name: str, *, lease: str = "l1", **arguments: object
) -> tuple[str, list[MessageOut]]:
    """The result of a tool in a turn of its own, and its rows."""
    async with answering(host, lease=lease) as toolbox:
        said = await toolbox.call(name, arguments)
    return said, host.sent()


@pytest.mark.behaviour("TK-05")
async def test_a_task_is_requested_and_its_id_is_known_at_once(host: SessionHost) -> None:
    said, [row] = await called(host, "schedule_task", prompt="water", at="in 10 min", timezone="Asia/Tokyo")
    assert decode_out(row.kind, row.content) == TaskOut(prompt="water", due="in 10 min", timezone="Asia/Tokyo")
    assert row.in_reply_to == "m1"
    assert task_id(session=SESSION, request=row.id) in said


async def test_a_truncated_text_says_how_much_is_missing(host: SessionHost) -> None:
    _, [row] = await called(host, "send_message", text="a" * (MAX_TEXT_CHARS + 7))
    assert decode_out(row.kind, row.content) == ChatOut(text="a" * MAX_TEXT_CHARS + "\n[cut: 7 more characters]")


@pytest.mark.case("a reminder in the past")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("schedule_task", {"prompt": "water", "at": "2025-01-01T14:00"}),
        ("schedule_task", {"prompt": "water", "at": "2025-01-01T22:00", "timezone": "Asia/Tokyo"}),
        ("change_task", {"id": "j1", "change": "update", "at": "2025-01-01T14:00"}),
        ("send_message", {"text": "water", "at": "2025-01-01T14:00"}),
        ("send_message", {"text": "water", "at": "2025-01-01T14:00", "cron": "0 9 * * *"}),
    ],
)
async def test_a_time_in_the_past_is_refused_with_the_likely_intended_one(
    host: SessionHost, tool: str, arguments: dict[str, object]
) -> None:
    async with answering(host) as toolbox:
        with pytest.raises(ToolRefused, match="is in the past: it is Thursday, 2026-01-01") as refused:
            await toolbox.call(tool, arguments)
    assert f"probably meant 2026-01-01T{'22' if 'timezone' in arguments else '14'}:00" in str(refused.value)
    assert host.sent() == []


async def test_a_time_is_judged_as_past_in_its_own_time_zone(host: SessionHost) -> None:
    said, [_] = await called(host, "schedule_task", prompt="water", at="2026-01-01T09:00", timezone="America/New_York")
    assert said.startswith("Scheduled")
    assert "for 2026-01-01 09:00 (America/New_York)." in said


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("schedule_task", {"prompt": "p", "at": "2026-01-01T14:00"}, ", for 2026-01-01 14:00 (Europe/Berlin)."),
        ("schedule_task", {"prompt": "p", "cron": "0 9 * * *"}, ", by the clocks of Europe/Berlin."),
        ("schedule_task", {"prompt": "p", "cron": "0 9 * * *", "timezone": "Asia/Tokyo"}, "clocks of Asia/Tokyo."),
        ("send_message", {"text": "p", "at": "2026-01-01T14:00"}, "then: 2026-01-01 14:00 (Europe/Berlin)."),
        ("send_message", {"text": "p", "cron": "0 9 * * *"}, "by the clocks of Europe/Berlin"),
        (
            "change_task",
            {"id": "j", "change": "update", "at": "2026-01-01T14:00"},
            "for 2026-01-01 14:00 (Europe/Berlin).",
        ),
    ],
)
async def test_a_future_time_is_confirmed_with_its_time_zone(
    host: SessionHost, tool: str, arguments: dict[str, str], told: str
) -> None:
    async with answering(host) as toolbox:
        assert told in await toolbox.call(tool, arguments)


async def test_a_repeated_turn_requests_nothing_twice(host: SessionHost) -> None:
    first, _ = await called(host, "schedule_task", prompt="water", cron="0 9 * * *")
    again, rows = await called(host, "schedule_task", lease="l2", prompt="water", cron="0 9 * * *")
    assert (first, len(rows)) == (again, 1)


async def test_the_same_task_twice_in_one_turn_is_two_tasks(host: SessionHost) -> None:
    async with answering(host) as toolbox:
        said = [await toolbox.call("schedule_task", {"prompt": "water", "at": "+60"}) for _ in range(2)]
    assert len(set(said)) == len(host.sent()) == 2


@pytest.mark.behaviour("TK-07")
async def test_a_message_can_be_scheduled_or_repeated(host: SessionHost) -> None:
    async with answering(host) as toolbox:
        await toolbox.call("send_message", {"text": "now"})
        await toolbox.call("send_message", {"text": "later", "at": "2026-01-01T14:00"})
        said = await toolbox.call("send_message", {"text": "daily", "cron": "0 9 * * *", "at": "in 1 h"})
    now, later, daily = host.sent()
    assert (now.deliver_after, now.recurrence) == (None, None)
    assert (later.deliver_after, later.recurrence) == (NOW + timedelta(hours=1), None)
    assert (daily.deliver_after, daily.recurrence, daily.kind) == (NOW + timedelta(hours=1), "0 9 * * *", "chat")
    assert task_id(session=SESSION, request=daily.id) in said


@pytest.mark.behaviour("RU-08")
async def test_a_sent_message_keeps_its_number_when_the_turn_is_repeated(host: SessionHost) -> None:
    first, _ = await called(host, "send_message", text="working")
    again, [row] = await called(host, "send_message", lease="l2", text="working")
    assert first == f"Sent as message {row.seq}."
    assert f"as message {row.seq}; it was not sent again" in again


@pytest.mark.behaviour("RU-08")
@pytest.mark.parametrize(
    ("name", "arguments", "payload", "says"),
    [
        ("edit_message", {"message": 1, "text": "half"}, EditOut(message=1, text="half"), "Done."),
        ("react", {"message": 2, "emoji": " 👍"}, ReactionOut(message=2, emoji="👍"), "Done."),
        ("react", {"message": 1, "emoji": "👍"}, ReactionOut(message=1, emoji="👍"), "Done."),
        (
            "ask_user_question",
            {"question": "Which?", "options": ["Red", " Blue"], "to": "home", "re": 2, "wait_minutes": 0},
            QuestionOut(text="Which?", options=("Red", "Blue")),
            "Asked as message 3. The answer will come as a message of theirs; end your turn, unless there is something"
            " else to do.",
        ),
        (
            "send_file",
            {"path": "report.txt", "caption": "Here."},
            FileOut(name="report.txt", caption="Here."),
            "Sent as message 3.",
        ),
    ],
)
async def test_a_platform_feature_is_requested_once_even_when_the_turn_is_repeated(
    host: SessionHost, name: str, arguments: dict[str, object], payload: OutPayload, says: str
) -> None:
    (host.layout.agent_dir / "report.txt").write_text("all good")
    async with answering(host) as toolbox:
        said = await toolbox.call(name, arguments)
    [row] = host.sent()
    assert (said, decode_out(row.kind, row.content), row.in_reply_to) == (says, payload, "m1")
    async with answering(host, lease="l2") as toolbox:
        again = await toolbox.call(name, arguments)
    assert "before this turn was interrupted" in again
    assert host.sent() == [row]


async def test_a_message_can_be_edited_repeatedly(host: SessionHost) -> None:
    async with answering(host) as toolbox:
        await toolbox.call("send_message", {"text": "working"})
        for text in ("half", "nearly", "half"):
            assert await toolbox.call("edit_message", {"message": 3, "text": text}) == "Done."
    texts = [payload.text for payload in host.payloads() if isinstance(payload, EditOut)]
    assert texts == ["half", "nearly", "half"]


async def test_a_file_is_sent_as_it_is_at_the_call(host: SessionHost, tmp_path: Path) -> None:
    mine = host.layout.agent_dir / "out" / "a.txt"
    mine.parent.mkdir()
    mine.write_text("first")
    async with answering(host) as toolbox:
        for path in ("out/a.txt", str(mine), "out/../out/a.txt"):
            await toolbox.call("send_file", {"path": path})
            mine.write_text("second")
    copies = [(host.layout.out_dir / "outbox" / row.id / "a.txt").read_text() for row in host.sent()]
    assert copies == ["first", "second", "second"]


@pytest.mark.behaviour("RU-08")
async def test_a_file_that_could_not_be_read_at_first_is_still_sent_once(host: SessionHost) -> None:
    async with answering(host) as toolbox:
        with pytest.raises(ToolRefused, match="cannot be read"):
            await toolbox.call("send_file", {"path": "a.txt"})
        (host.layout.agent_dir / "a.txt").write_text("there")
        await toolbox.call("send_file", {"path": "a.txt"})
    (host.layout.agent_dir / "a.txt").unlink()
    again, rows = await called(host, "send_file", lease="l2", path="a.txt")
    assert "was not sent again" in again
    assert len(rows) == 1


@pytest.mark.behaviour("RU-08")
async def test_a_sent_file_is_not_copied_again_when_the_turn_restarts(host: SessionHost) -> None:
    """The host has it, and removes the folder once it is delivered."""
    (host.layout.agent_dir / "a.txt").write_text("there")
    async with answering(host) as toolbox:
        assert toolbox.outbox is not None
        await toolbox.call("send_file", {"path": "a.txt"})
        shutil.rmtree(host.layout.out_dir / "outbox")
        toolbox.outbox.reset_occurrences()
        assert "was not sent again" in await toolbox.call("send_file", {"path": "a.txt"})
    assert not (host.layout.out_dir / "outbox").exists()
    assert len(host.sent()) == 1


@pytest.mark.behaviour("SE-12")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("send_message", {"text": "late"}),
        ("send_file", {"path": "a.txt"}),
        ("ask_user_question", {"question": "Which?"}),
        ("schedule_task", {"prompt": "water", "at": "in 10 min"}),
    ],
)
async def test_a_call_unfinished_at_the_end_of_its_turn_has_no_effect(
    host: SessionHost, name: str, arguments: Mapping[str, object]
) -> None:
    (host.layout.agent_dir / "a.txt").write_text("there")
    async with answering(host) as toolbox:
        assert toolbox.outbox is not None
        toolbox.outbox.close()
        with pytest.raises(ToolRefused, match="The turn is over"):
            await toolbox.call(name, arguments)
    assert host.sent() == []
    assert not (host.layout.out_dir / "outbox").exists(), "nobody would ever clear it away"


@pytest.mark.behaviour("TK-05")
async def test_the_task_list_is_what_the_host_reports_at_that_moment(host: SessionHost) -> None:
    async with answering(host) as toolbox:
        assert await toolbox.call("list_tasks", {}) == "There are no tasks."
        tasks = [
            {"id": "j1", "prompt": "water", "kind": "agent", "next_due": "2026-07-01T07:00:00.000000Z", "cron": None},
            {"id": "j2", "prompt": '{"text":"up"}', "kind": "message", "next_due": None, "cron": "0 9 * * *"},
            {"id": "j3", "prompt": '{"text":"and ', "kind": "message", "next_due": None},
        ]
        stands = {"timezone": "UTC", "status": "paused"}
        with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
            inbound.set_meta({"tasks": json.dumps([task | stands for task in tasks])})
        said = await toolbox.call("list_tasks", {})
    assert said.splitlines() == [
        "j1 (paused, next 2026-07-01 09:00 (Europe/Berlin)): water",
        "j2 (paused, cron 0 9 * * * in UTC, a message that is sent as it is): up",
        'j3 (paused, a message that is sent as it is): {"text":"and ',
    ]


@pytest.mark.behaviour("TK-05")
@pytest.mark.parametrize(
    ("asked", "action", "arguments"),
    [
        ({"change": "pause"}, "tasks.pause", {"id": "j1"}),
        ({"change": "cancel", "prompt": ""}, "tasks.cancel", {"id": "j1"}),
        (
            {"change": "update", "prompt": "tea", "at": "+60", "cron": "0 9 * * *", "timezone": "UTC"},
            "tasks.update",
            {"id": "j1", "prompt": "tea", "due": "+60", "recurrence": "0 9 * * *", "timezone": "UTC"},
        ),
    ],
)
async def test_a_change_of_a_task_is_a_request_to_the_host(
    host: SessionHost, asked: Mapping[str, str], action: str, arguments: Mapping[str, str]
) -> None:
    _, [row] = await called(host, "change_task", id="j1", **asked)
    payload = decode_out(row.kind, row.content)
    assert isinstance(payload, SystemOut)
    assert (payload.action, json.loads(payload.arguments)) == (action, arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("send_message", {"text": "p", "re": "2"}, "re must be the id"),
        ("send_file", {}, "path must be a text"),
        ("send_file", {"path": "missing.txt"}, "'missing.txt' cannot be read: No such file"),
        ("send_file", {"path": "/etc/passwd"}, "neither in your folder nor in /tmp"),
        ("send_file", {"path": "../out/outbound.db/.."}, "not a bare file name"),
        ("send_file", {"path": "."}, "not a bare file name"),
        ("send_file", {"path": "a\0b"}, "is no path"),
        ("send_file", {"path": "script.json", "to": "nobody"}, "There is no destination"),
        ("edit_message", {"text": "p"}, "message must be the id"),
        ("edit_message", {"message": True, "text": "p"}, "message must be the id"),
        ("edit_message", {"message": 2, "text": "p"}, "Message 2 is not one of yours"),
        ("edit_message", {"message": 3, "text": " "}, "text must be a text"),
        ("react", {"message": 4, "emoji": "👍"}, "There is no message 4"),
        ("edit_message", {"message": 10**30 + 1, "text": "p"}, "is not one of yours"),
        ("react", {"message": 10**30, "emoji": "👍"}, "There is no message 1000"),
        ("react", {"message": 0, "emoji": "👍"}, "There is no message 0"),
        ("react", {"message": 2, "emoji": ":+1:"}, "one emoji"),
        ("react", {"emoji": "👍"}, "message must be the id"),
        ("ask_user_question", {"options": ["a", "b"]}, "question must be a text"),
        ("ask_user_question", {"question": "?", "options": "ab"}, "options must be 2 to 10"),
        ("ask_user_question", {"question": "?", "options": ["a"]}, "options must be 2 to 10"),
        ("ask_user_question", {"question": "?", "options": ["a", "a "]}, "different texts"),
        ("ask_user_question", {"question": "?", "options": ["a", ""]}, "different texts"),
        ("ask_user_question", {"question": "?", "options": ["a", 2]}, "different texts"),
        (
            "ask_user_question",
            {"question": "?", "options": [str(number) for number in range(11)]},
            "options must be 2 to 10",
        ),
        ("ask_user_question", {"question": "?", "wait_minutes": "1"}, "wait_minutes must be a number from 0 to 60"),
        ("ask_user_question", {"question": "?", "wait_minutes": True}, "wait_minutes must be a number"),
        ("ask_user_question", {"question": "?", "wait_minutes": 61}, "wait_minutes must be a number"),
        ("ask_user_question", {"question": "?", "wait_minutes": -1}, "wait_minutes must be a number"),
        ("ask_user_question", {"question": "?", "wait_minutes": float("nan")}, "wait_minutes must be a number"),
        ("schedule_task", {"prompt": "p"}, "Say when"),
        ("schedule_task", {"prompt": " ", "at": "+60"}, "prompt must be a text"),
        ("schedule_task", {"prompt": "p", "at": 60}, "at must be a text"),
        ("schedule_task", {"prompt": "p", "at": "tomorrow"}, "'tomorrow' is no time"),
        ("send_message", {"text": "p", "at": "tomorrow"}, "'tomorrow' is no time"),
        ("send_message", {"text": "p", "cron": 5}, "cron must be a text"),
        ("change_task", {"id": "j", "change": "burn"}, "one of update, pause, resume, cancel"),
        ("change_task", {"id": "j", "change": "update"}, "Say what is new"),
        ("change_task", {"id": "j", "change": "pause", "prompt": "p"}, "Say what is new"),
        ("change_task", {"id": "j", "change": "update", "at": "soon"}, "'soon' is no time"),
        ("change_task", {"change": "pause"}, "id must be a text"),
    ],
)
async def test_an_invalid_call_is_refused_at_once(
    host: SessionHost, name: str, arguments: dict[str, object], why: str
) -> None:
    async with answering(host) as toolbox:
        with pytest.raises(ToolRefused, match=why):
            await toolbox.call(name, arguments)
    assert host.sent() == []


async def test_the_demo_provider_schedules_a_reminder(host: SessionHost) -> None:
    host.write_message("m1", "remind me in 2 minutes to drink water")
    host.write_message("m2", "Remind me in 10s to stretch")
    host.write_message("m3", "remind me in due time to rest")
    async with run_runner(host, host.settings(provider="demo")):
        await host.wait_for_acks("m1", "m2", "m3")
    tasks = [decode_out(row.kind, row.content) for row in host.sent() if row.kind == OutKind.TASK]
    assert tasks == [TaskOut(prompt="drink water", due="in 120 s"), TaskOut(prompt="stretch", due="in 10 s")]
    assert host.texts() == [
        "I will remind you in 2 minutes: drink water",
        "I will remind you in 10s: stretch",
        "You said: remind me in due time to rest",
    ]


async def test_the_demo_provider_reports_a_refused_request(host: SessionHost) -> None:
    host.write_message("m1", "hi there")
    for id, about in (("a1", "o1"), ("a2", None)):
        host.insert(
            NewMessageIn(
                id=id,
                kind=InKind.SYSTEM,
                timestamp=NOW,
                content=encode(SystemIn(text="Your request was refused.", about=about)),
            )
        )
    async with run_runner(host, host.settings(provider="demo")):
        await host.wait_for_acks("m1", "a1", "a2")
    assert host.texts() == ["You said: hi there", "Your request was refused."]


async def test_a_repeated_turn_is_shown_its_earlier_requests(host: SessionHost) -> None:
    async with answering(host) as toolbox:
        await toolbox.call("schedule_task", {"prompt": "water", "at": "+60"})
        await toolbox.call("change_task", {"id": "j1", "change": "pause"})
        await toolbox.call("edit_message", {"message": 1, "text": "half"})
        await toolbox.call("react", {"message": 2, "emoji": "👍"})
    mailbox = Mailbox(host.layout, lease="l2", durable=False)
    try:
        mailbox.abandon_stale_claims(NOW)
        [ack] = host.acks().values()
        host.retry(ack)
        news = await mailbox.poll(datetime.now(UTC))
        assert news is not None
        assert news.batch is not None
        begun = await mailbox.claim(news.batch, NOW)
        view = PromptContext(now=NOW, zone=UTC, timezone="UTC", address_book=news.address_book)
        shown = make_batch_prompt(
            news.batch.messages, view, attempt=begun.attempt, sent_messages=begun.sent_messages
        ).text
    finally:
        mailbox.close()
    assert "(a task was scheduled, +60: water)" in shown
    assert "(the host was asked: tasks.pause" in shown
    assert "(message 1 was changed to: half)" in shown
    assert "(a reaction to message 2: 👍)" in shown


def test_an_installed_tool_is_added_and_cannot_replace_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools, "__path__", [*tools.__path__])
    source = "from agent_runner.tools import Tool\nTOOL = Tool(name={!r}, description='', schema={{}}, run=print)\n"
    for file, text in {
        "own": source.format("own"),
        "mean": source.format("send_message"),
        "twice": source.format("own"),
        "ends": "raise SystemExit",
        "odd": "TOOL = 1",
        "_helper": "1 / 0",
    }.items():
        (tmp_path / f"{file}.py").write_text(text)
    ours = load_tools()
    tools.add_search_folder(tmp_path)
    found = load_tools()
    assert found.keys() - ours.keys() == {"own"}
    assert found["send_message"] is ours["send_message"]
    said = [line.partition(" ")[2] for line in capfd.readouterr().err.splitlines()]  # behind the time
    assert [line.partition(" why=")[0] for line in said] == [
        f"tool_load_failed file={file}" for file in ("ends", "mean", "odd", "twice")
    ]
