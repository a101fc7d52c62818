"""The Claude provider with the real command line, against a stand-in of the Messages API behind a Unix socket."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions

from agent_runner.failures import (
    INPUT_TOO_LARGE,
    MODEL_NOT_FOUND,
    MODEL_REFUSED,
    MODEL_UNREACHABLE,
    OUTPUT_TOO_LONG,
    SENTENCES,
    TURN_LIMIT_REACHED,
)
from agent_runner.loop import IdleTimeouts
from agent_runner.providers import ProviderContext
from agent_runner.providers import claude as provider
from agent_runner.providers.claude import (
    classify_error,
    classify_failure,
    cli_environment,
    failure_detail,
    make_options,
    tool_timeout_s,
)
from agent_runner.settings import Settings
from agent_runner.tools import Toolbox
from agent_runner.tools.ask_user_question import MAX_WAIT_MINUTES
from agent_runner.turn import CONTEXT_FULL_NOTICE, NEW_CONVERSATION_NOTICE
from nanohost.gateway.api_error import MAX_BODY_BYTES
from nanohost_protocol.payloads import STOP
from nanohost_protocol.rows import AckStatus, ErrorClass, TurnError
from tests.runner.host_side import HOME, OFFICE, SessionHost, make_chat_message, run_runner, wait_until
from tests.runner.test_controls import control
from tests.runner.test_questions import answer, wait_for_question
from tests.support.messages_api import (
    OVERLOADED,
    UNAUTHORIZED,
    DroppedConnection,
    Failure,
    RecordedRequest,
    Reply,
    Rule,
    StubMessagesApi,
    Text,
    Tokens,
    ToolUse,
    rate_limited,
)
from tests.support.sample_files import make_photo, make_scanned_pdf


@asynccontextmanager
async def socket_to(base_url: str, path: Path) -> AsyncIterator[None]:
    """A Unix socket in front of a TCP port: where the container sees the gateway."""
    host, _, port = base_url.removeprefix("http://").partition(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, upstream_writer), copy(upstream_reader, writer))

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()


@pytest.fixture
async def api() -> AsyncIterator[StubMessagesApi]:
    async with StubMessagesApi() as api:
        yield api


@pytest.fixture
async def host(api: StubMessagesApi, tmp_path: Path) -> AsyncIterator[SessionHost]:
    host = SessionHost(tmp_path / "s", destinations=(HOME, OFFICE))
    (host.layout.agent_dir / "CLAUDE.md").write_text("Your favourite colour is vermilion.\n")
    async with socket_to(api.base_url, host.layout.gateway_socket):
        yield host


def claude(host: SessionHost, lease: str = "lease-1") -> Settings:
    return host.settings("claude", lease)


async def failed(host: SessionHost, id: str = "m1") -> TurnError:
    """Wait for the turn's failure."""
    error = (await host.wait_for_acks(id, status=AckStatus.FAILED))[id].error
    assert error is not None
    return error


async def test_a_turn_reads_a_folder_sends_a_message_by_a_tool_and_answers(
    host: SessionHost, api: StubMessagesApi
) -> None:
    arguments = {"text": "a moment", "to": "office"}
    api.replies.append(ToolUse("mcp__nanohost__send_message", arguments, text="Let me tell them."))
    api.replies.append(Text('<message to="home" re="2">Vermilion.</message>'))
    host.write_message("m1", "your colour?")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
    assert [(text, row.destination) for text, row in zip(host.texts(), host.sent(), strict=True)] == [
        ("a moment", "office"),
        ("Vermilion.", None),
    ]
    first = api.messages[0]
    assert '<message from="Ada" chat="home" id="2"' in first.user_text
    assert "vermilion" in json.dumps(first.body)
    assert "You are Nan," in json.dumps(first.body["system"])
    assert "mcp__nanohost__send_message" in first.tool_names
    assert not {"CronCreate", "SendMessage", "AskUserQuestion"} & set(first.tool_names)
    usage = host.turns()[0].usage
    assert (usage.tokens_in, usage.tokens_out, usage.cost_usd) == (20, 10, 0)


async def test_with_tools_disabled_only_nanohost_tools_remain(host: SessionHost, api: StubMessagesApi) -> None:
    api.replies.append(Text('<message to="home">hi</message>'))
    host.write_message("m1", "hi")
    async with run_runner(host, replace(claude(host), tools="none")):
        await host.wait_for_acks("m1")
    ours = [
        "add_destination",
        "ask_user_question",
        "change_model",
        "change_task",
        "edit_message",
        "list_tasks",
        "react",
        "schedule_task",
        "send_file",
        "send_message",
    ]
    assert api.messages[0].tool_names == [f"mcp__nanohost__{name}" for name in ours]


@pytest.mark.behaviour("RU-06")
async def test_the_agent_is_told_in_the_same_turn_which_text_reached_nobody(
    host: SessionHost, api: StubMessagesApi
) -> None:
    api.replies.append(Text('bare <message to="nobody">one</message>'))
    api.replies.append(Text('<message to="home">two</message>'))
    host.write_message("m1", "hi")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
    assert host.texts() == ["two"]
    assert "There is no destination 'nobody'" in api.messages[1].user_text
    assert "Text outside of" in api.messages[1].user_text
    assert len(host.turns()) == 1


@pytest.mark.behaviour("RU-06")
async def test_an_agent_with_unaddressed_text_is_corrected_at_most_twice(
    host: SessionHost, api: StubMessagesApi
) -> None:
    api.default = Text("bare")
    host.write_message("m1", "hi")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
    assert len(api.messages) == 3
    assert host.sent() == []


@pytest.mark.behaviour("RU-02", "RU-03")
async def test_a_message_during_a_turn_is_pushed_into_it(host: SessionHost, api: StubMessagesApi) -> None:
    gate = asyncio.Event()
    api.replies.append(Text('<message to="home">first answer</message>', gate=gate))
    api.replies.append(Text('<message to="home">second answer</message>'))
    host.write_message("m1", "one")
    async with run_runner(host, claude(host)):
        await api.wait_for_requests(1)
        host.write_message("m2", "two")
        await host.wait_for_acks("m1", "m2", status=AckStatus.PROCESSING)
        gate.set()
        acks = await host.wait_for_acks("m1", "m2")
    assert acks["m1"].changed_at == acks["m2"].changed_at
    assert host.texts() == ["first answer", "second answer"]
    assert [row.in_reply_to for row in host.sent()] == ["m1", "m2"]


@pytest.mark.behaviour("RU-05")
async def test_the_conversation_continues_in_the_next_container(host: SessionHost, api: StubMessagesApi) -> None:
    api.default = Text('<message to="home">yes</message>')
    for number in range(2):
        host.write_message(f"m{number}", f"question {number}")
        async with run_runner(host, claude(host, f"lease-{number}")):
            await host.wait_for_acks(f"m{number}")
    assert "question 0" in json.dumps(api.messages[-1].body["messages"])
    first, second = host.turns()
    assert first.continuation == second.continuation
    assert (second.usage.tokens_in, second.usage.tokens_out) == (first.usage.tokens_in, first.usage.tokens_out)


@pytest.mark.behaviour("RU-05")
async def test_a_missing_transcript_begins_a_new_conversation(host: SessionHost, api: StubMessagesApi) -> None:
    api.default = Text('<message to="home">yes</message>')
    host.write_message("m1", "one")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
    for transcript in (host.layout.state_dir / ".claude" / "projects").rglob("*.jsonl"):
        transcript.unlink()
    host.write_message("m2", "two")
    async with run_runner(host, claude(host, "lease-2")):
        await host.wait_for_acks("m2")
    first, second = host.turns()
    assert first.continuation != second.continuation
    assert (second.attempt, second.outcome) == (1, "completed")


async def test_an_idle_claude_process_is_closed_and_started_again(host: SessionHost, api: StubMessagesApi) -> None:
    api.default = Text('<message to="home">yes</message>')
    settings = replace(claude(host), poll_interval_s=0.05)
    host.write_message("m1", "one")
    async with run_runner(host, settings, timeouts=IdleTimeouts(close_provider_s=0.1)):
        await host.wait_for_acks("m1")
        await wait_until(lambda: not _command_lines())
        host.write_message("m2", "two")
        await host.wait_for_acks("m2")
    assert "one" in json.dumps(api.messages[-1].body["messages"])


ASKS = ToolUse("mcp__nanohost__ask_user_question", {"question": "Which colour?", "options": ["Red", "Blue"]})


@pytest.mark.behaviour("AP-09")
async def test_the_model_gets_the_answer_as_the_result_of_its_call(host: SessionHost, api: StubMessagesApi) -> None:
    api.replies.extend([ASKS, Text('<message to="home">Red it is.</message>')])
    host.write_message("m1", "paint it")
    async with run_runner(host, claude(host)):
        host.insert(answer("a1", (await wait_for_question(host)).id))
        await host.wait_for_acks("m1", "a1")
    assert api.messages[1].user_text == '<answer from="Bo" id="4">Red</answer>'
    assert host.texts() == ["Red it is."]
    assert len(host.turns()) == 1


@pytest.mark.behaviour("AP-09")
async def test_the_model_sees_a_message_that_came_instead_of_an_answer(host: SessionHost, api: StubMessagesApi) -> None:
    api.replies.append(ASKS)
    api.default = Text('<message to="home">As you like.</message>')
    host.write_message("m1", "paint it")
    async with run_runner(host, claude(host)):
        await wait_for_question(host)
        host.write_message("m2", "leave it as it is")
        await host.wait_for_acks("m1", "m2")
    seen = json.dumps(api.messages[-1].body["messages"])
    assert "Something else came instead" in seen
    assert "leave it as it is" in seen
    assert len(host.turns()) == 1


@pytest.mark.behaviour("AP-09", "SE-12")
async def test_stop_ends_a_pending_question_of_the_model(host: SessionHost, api: StubMessagesApi) -> None:
    api.replies.append(ASKS)
    api.default = Text('<message to="home">back</message>')
    host.write_message("m1", "paint it")
    async with run_runner(host, claude(host)):
        await wait_for_question(host)
        host.insert(control("stop", STOP))
        await host.wait_for_acks("m1")
        await host.wait_for_acks("stop")
        host.write_message("m2", "and now?")
        await host.wait_for_acks("m2")
    assert host.texts() == ["back"]


@pytest.mark.case("a /stop while a text comes out")
@pytest.mark.behaviour("SE-12")
@pytest.mark.parametrize("after", ["nothing", "a tool", "a message beside the stop"])
async def test_stop_discards_text_in_progress(host: SessionHost, api: StubMessagesApi, after: str) -> None:
    """Interrupted in a text, Claude Code emits the written part as if it were a message."""
    if after == "a tool":
        said = '<message to="home">I look into it.</message>'
        api.replies.append(ToolUse("Bash", {"command": "true"}, text=said))
    api.replies.append(Text('<message to="home">Half of what I', gate=asyncio.Event()))
    api.default = Text('<message to="home">back</message>')
    host.write_message("m1", "tell me all")
    async with run_runner(host, claude(host)):
        *_, streaming = await api.wait_for_requests(2 if after == "a tool" else 1)
        await streaming.started.wait()
        beside = [make_chat_message("m2", "and now?")] if after == "a message beside the stop" else []
        host.insert(control("stop", STOP), *beside)
        await host.wait_for_acks("m1", "stop")
        if not beside:
            host.write_message("m2", "and now?")
        await host.wait_for_acks("m2")
        host.write_message("m3", "and then?")
        await host.wait_for_acks("m3")
    assert host.texts() == ["back", "back"]
    assert [row.in_reply_to for row in host.sent()] == ["m2", "m3"]


@pytest.mark.behaviour("AC-06")
async def test_compact_runs_as_a_claude_code_command_in_a_turn_of_its_own(
    host: SessionHost, api: StubMessagesApi
) -> None:
    api.default = Text('<message to="home">yes</message>')
    async with run_runner(host, claude(host)):
        host.insert(make_chat_message("c0", "/compact"))
        await host.wait_for_acks("c0")
        assert (host.texts(), api.messages) == (["Nothing to compact."], [])
        host.insert(
            make_chat_message("m1", "one"),
            make_chat_message("c1", "/compact keep the names"),
            make_chat_message("m2", "two"),
        )
        await host.wait_for_acks("m1", "c1", "m2")
    _, first, compacted, last = host.texts()
    assert (first, last) == ("yes", "yes")
    assert re.fullmatch(r"Compacted: from [\d,]+ tokens to [\d,]+\.", compacted)
    assert [turn.message_ids for turn in host.turns()] == [("c0",), ("m1",), ("c1",), ("m2",)]
    assert [row.in_reply_to for row in host.sent()] == ["c0", "m1", "c1", "m2"]
    asked_for = [asked.user_text for asked in api.messages]
    assert any("keep the names" in text and "/compact" not in text for text in asked_for)
    assert "This session is being continued" in json.dumps(api.messages[-1].body["messages"])


@pytest.mark.behaviour("AC-06")
async def test_a_failed_compaction_is_reported_and_nothing_is_lost(host: SessionHost, api: StubMessagesApi) -> None:
    api.default = Text('<message to="home">yes</message>')
    async with run_runner(host, claude(host)):
        host.write_message("m1", "one")
        await host.wait_for_acks("m1")
        api.default = UNAUTHORIZED
        host.write_message("c1", "/compact")
        await host.wait_for_acks("c1")
        api.default = Text('<message to="home">still here</message>')
        host.write_message("m2", "two")
        await host.wait_for_acks("m2")
    assert [text.partition(":")[0] for text in host.texts()] == ["yes", "Error during compaction", "still here"]
    assert "one" in json.dumps(api.messages[-1].body["messages"])


async def test_context_and_cost_are_reported_by_claude_code(host: SessionHost, api: StubMessagesApi) -> None:
    async with run_runner(host, claude(host)):
        host.insert(make_chat_message("c1", "/context"), make_chat_message("c2", "/cost"))
        await host.wait_for_acks("c1", "c2")
    context, cost = host.texts()
    assert "Context Usage" in context
    assert "cost" in cost.casefold()
    assert api.messages == []


def _command_lines() -> list[str]:
    """The claude processes that are children of this process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [child for child in children if "claude" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize(
    ("reply", "error_class"),
    [
        (UNAUTHORIZED, ErrorClass.AUTH),
        (OVERLOADED, ErrorClass.OVERLOADED),
        (rate_limited(300), ErrorClass.RATE_LIMITED),
        (Failure(500, "api_error", "boom"), ErrorClass.TRANSIENT),
        (Failure(502, "api_error", "The gateway got no answer from it. Try again."), ErrorClass.OVERLOADED),
        (Failure(400, "invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"), ErrorClass.PERMANENT),
        (DroppedConnection(), ErrorClass.TRANSIENT),
    ],
)
async def test_a_refusal_of_the_model_is_a_failure_with_its_class(
    host: SessionHost,
    api: StubMessagesApi,
    reply: Failure | DroppedConnection,
    error_class: ErrorClass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent_runner.providers.claude.MAX_RETRIES", 1)  # each takes longer than the one before
    api.default = reply
    host.write_message("m1", "hi")
    async with run_runner(host, claude(host)):
        error = await failed(host)
    assert error.error_class is error_class
    assert host.sent() == []


@pytest.mark.behaviour("RU-04")
async def test_a_rate_limit_is_left_to_the_host(host: SessionHost, api: StubMessagesApi) -> None:
    api.default = rate_limited(30)
    host.write_message("m1", "hi")
    async with run_runner(host, claude(host)):
        error = await failed(host)
        changed = host.acks()["m1"].changed_at
        api.default = Text('<message to="home">now</message>')
        host.retry(host.acks()["m1"])
        await host.wait_for_acks("m1")
    assert error.error_class is ErrorClass.RATE_LIMITED
    assert error.retry_at is not None
    assert 25 < (error.retry_at - changed).total_seconds() < 45
    assert host.texts() == ["now"]


@pytest.mark.behaviour("RU-04")
async def test_a_claude_process_that_dies_during_a_turn_is_a_transient_failure(
    host: SessionHost, api: StubMessagesApi
) -> None:
    api.default = Text("never", gate=asyncio.Event())
    host.write_message("m1", "hi")
    async with run_runner(host, claude(host)):
        await api.wait_for_requests(1)
        _kill_command_lines()
        error = await failed(host)
        api.default = Text('<message to="home">back</message>')
        host.retry(host.acks()["m1"])
        await host.wait_for_acks("m1")
    assert error.error_class is ErrorClass.TRANSIENT
    assert host.texts() == ["back"]


async def test_a_claude_process_that_dies_between_turns_is_replaced(host: SessionHost, api: StubMessagesApi) -> None:
    api.default = Text('<message to="home">yes</message>')
    host.write_message("m1", "one")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
        _kill_command_lines()
        await wait_until(lambda: not _command_lines())
        host.write_message("m2", "two")
        await host.wait_for_acks("m2")
    assert [turn.attempt for turn in host.turns()] == [1, 1]
    assert "one" in json.dumps(api.messages[-1].body["messages"])


def _kill_command_lines() -> None:
    for child in _command_lines():
        os.kill(int(child), signal.SIGKILL)


async def test_a_stop_during_connecting_leaves_nothing_running(host: SessionHost) -> None:
    host.write_message("m1", "hi")
    async with run_runner(host, claude(host)):
        await wait_until(lambda: bool(_command_lines()))
    assert host.acks()["m1"].status is AckStatus.ABANDONED
    assert not _command_lines()


async def test_a_stop_interrupts_the_model(host: SessionHost, api: StubMessagesApi) -> None:
    api.default = Text("never", gate=asyncio.Event())
    host.write_message("m1", "hi")
    async with run_runner(host, claude(host)):
        await api.wait_for_requests(1)
    assert host.acks()["m1"].status is AckStatus.ABANDONED
    assert not _command_lines()


@pytest.mark.parametrize(
    ("status", "reason", "detail", "error_class"),
    [
        (401, "api_error", "", ErrorClass.AUTH),
        (403, "api_error", "", ErrorClass.AUTH),
        (429, "api_error", "", ErrorClass.RATE_LIMITED),
        (529, "api_error", "", ErrorClass.OVERLOADED),
        (500, "api_error", "", ErrorClass.TRANSIENT),
        (502, "api_error", "", ErrorClass.OVERLOADED),
        (404, "api_error", "", ErrorClass.PERMANENT),
        (400, "prompt_too_long", "", ErrorClass.CONTEXT_FULL),
        (413, "image_error", "", ErrorClass.CONTEXT_FULL),
        (None, "blocking_limit", "Prompt is too long", ErrorClass.CONTEXT_FULL),
        (400, "image_error", "", ErrorClass.PERMANENT),
        (422, "api_error", "", ErrorClass.PERMANENT),
        (400, "api_error", "Your credit balance is too low", ErrorClass.BUDGET),
        (None, None, "No conversation found with session ID: x", ErrorClass.INVALID_SESSION),
        (None, None, "exit code 1", ErrorClass.TRANSIENT),
    ],
)
def test_every_failure_has_a_class(
    status: int | None, reason: str | None, detail: str, error_class: ErrorClass
) -> None:
    assert classify_error(status, reason, detail) is error_class


def test_the_claude_process_gets_no_secret_and_only_the_gateway(tmp_path: Path) -> None:
    context = ProviderContext(
        model=None,
        tools="all",
        network="none",
        toolbox=Toolbox({}),
        system_prompt="",
        agent_dir=tmp_path,
        state_dir=tmp_path / "state",
        gateway_socket=tmp_path / "gateway.sock",
    )
    found = cli_environment(context)
    assert found["ANTHROPIC_UNIX_SOCKET"] == str(tmp_path / "gateway.sock")
    assert found["ANTHROPIC_BASE_URL"] == "http://localhost"
    assert int(found["MCP_TOOL_TIMEOUT"]) > MAX_WAIT_MINUTES * 60 * 1000  # longer than any question waits
    assert found["CLAUDE_CONFIG_DIR"] == str(tmp_path / "state" / ".claude")


def test_an_unknown_model_is_reported_as_a_permanent_error_for_the_operator() -> None:
    failure = classify_failure(404, "api_error", "model: no-such-model")
    assert (failure.error_class, failure.to_turn_error().sentence) == (ErrorClass.PERMANENT, MODEL_NOT_FOUND)


def test_a_line_above_the_limit_is_not_retried() -> None:
    detail = "CLIJSONDecodeError: JSON message exceeded maximum buffer size of 67108864 bytes"
    failure = classify_failure(None, None, detail)
    assert (failure.error_class, failure.to_turn_error().sentence) == (ErrorClass.PERMANENT, INPUT_TOO_LARGE)


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize(
    ("status", "detail"),
    [(502, "The gateway got no answer from example.org"), (None, "API Error: Connection error.")],
)
def test_an_unreachable_model_has_its_own_notice(status: int | None, detail: str) -> None:
    failure = classify_failure(status, "api_error", detail)
    assert failure.error_class is ErrorClass.OVERLOADED
    assert failure.to_turn_error().sentence == MODEL_UNREACHABLE


@pytest.mark.behaviour("SE-06")
def test_a_shell_call_reports_its_timeout() -> None:
    assert tool_timeout_s("Bash", {"command": "make", "timeout": 600_000}) == 600
    assert tool_timeout_s("Bash", {"command": "ls"}) is None
    assert tool_timeout_s("Bash", {"timeout": "long"}) is None
    assert tool_timeout_s("Read", {"timeout": 5}) is None


PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)


def _holds_picture(asked: RecordedRequest) -> bool:
    return '"type": "image"' in json.dumps(asked.body["messages"])


REFUSED = Failure(400, "invalid_request_error", "messages.3: this content cannot be processed")
"""Claude Code retries without pictures if the error names an image."""


async def test_a_picture_refused_in_the_first_turn_does_not_break_the_next(
    host: SessionHost, api: StubMessagesApi
) -> None:
    (host.layout.agent_dir / "cat.png").write_bytes(PICTURE)
    api.rules.append(Rule(_holds_picture, REFUSED))
    api.replies.append(ToolUse("Read", {"file_path": str(host.layout.agent_dir / "cat.png")}))
    api.default = Text('<message to="home">Yes.</message>')
    async with run_runner(host, claude(host)):
        host.write_message("m1", "look at the cat")
        assert (await failed(host)).error_class is ErrorClass.PERMANENT
        host.write_message("m2", "are you there?")
        await host.wait_for_acks("m2")
    assert host.texts() == [NEW_CONVERSATION_NOTICE, "Yes."]


def _is_not_begun_afresh(asked: RecordedRequest) -> bool:
    """Also a request by which Claude Code wants to shorten the conversation by itself."""
    return "earlier-conversation" not in json.dumps(asked.body["messages"])


SIGNATURE = Failure(400, "invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block")
NO_THOUGHT = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`"
PROMPT_TOO_LONG = Failure(400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum")
REQUEST_TOO_LARGE = Failure(413, "request_too_large", "Request exceeds the maximum size")
FLAGGED = Text("Some words", stop_reason="refusal")
ONE_PICTURE = "one picture, and nothing else"
REFUSALS: dict[str, tuple[Reply, str]] = {
    ONE_PICTURE: (REFUSED, NEW_CONVERSATION_NOTICE),
    "a picture": (Failure(400, "invalid_request_error", "Could not process image"), NEW_CONVERSATION_NOTICE),
    "a PDF": (
        Failure(400, "invalid_request_error", "messages.1.content.1.pdf: The PDF is not valid."),
        NEW_CONVERSATION_NOTICE,
    ),
    "a thought's signature": (SIGNATURE, NEW_CONVERSATION_NOTICE),
    "a thought that is missing": (Failure(400, "invalid_request_error", NO_THOUGHT), NEW_CONVERSATION_NOTICE),
    "anything": (REFUSED, NEW_CONVERSATION_NOTICE),
    "a service between": (Failure(422, "invalid_request_error", "Unprocessable"), NEW_CONVERSATION_NOTICE),
    "a safety check": (FLAGGED, NEW_CONVERSATION_NOTICE),
    "its size": (REQUEST_TOO_LARGE, CONTEXT_FULL_NOTICE),
    "its length": (PROMPT_TOO_LONG, CONTEXT_FULL_NOTICE),
    "a full window": (Text("Some words", stop_reason="model_context_window_exceeded"), CONTEXT_FULL_NOTICE),
}
"""Errors of the Messages API that refuse a conversation, and what the person is told."""


@pytest.mark.case("a history that is too large for the model")
@pytest.mark.parametrize("why", REFUSALS)
async def test_a_refused_history_is_reset_after_one_message_whatever_the_reason(
    host: SessionHost, api: StubMessagesApi, why: str
) -> None:
    refusal, told = REFUSALS[why]
    (host.layout.agent_dir / "cat.png").write_bytes(PICTURE)
    api.replies.append(ToolUse("Read", {"file_path": str(host.layout.agent_dir / "cat.png")}))
    api.replies.append(Text('<message to="home">A tabby cat.</message>', thinking="It has stripes."))
    api.default = Text('<message to="home">Yes.</message>')
    async with run_runner(host, claude(host)):
        host.write_message("m1", "look at the cat")
        await host.wait_for_acks("m1")
        api.rules.append(Rule(_holds_picture if why == ONE_PICTURE else _is_not_begun_afresh, refusal))
        host.write_message("m2", "is it yours?")
        await host.wait_for_acks("m2")
        host.write_message("m3", "and now?")
        await host.wait_for_acks("m3")
    assert host.texts() == ["A tabby cat.", told, "Yes.", "Yes."]
    carried = next(asked for asked in api.messages if "earlier-conversation" in asked.user_text).user_text
    assert [words for words in ("look at the cat", "A tabby cat.") if words not in carried] == []
    assert carried.count("is it yours?") == 1
    before, fresh, after = host.turns()
    assert before.continuation != fresh.continuation == after.continuation
    assert {turn.attempt for turn in host.turns()} == {1}


REFUSED_BY_ITSELF: dict[str, tuple[Reply, str]] = {
    "its size": (REQUEST_TOO_LARGE, INPUT_TOO_LARGE),
    "its length": (PROMPT_TOO_LONG, INPUT_TOO_LARGE),
    "a safety check": (FLAGGED, MODEL_REFUSED),
    "anything": (REFUSED, SENTENCES[ErrorClass.PERMANENT]),
}


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize("why", REFUSED_BY_ITSELF)
async def test_a_message_refused_for_its_own_content_is_not_retried_and_keeps_the_conversation(
    host: SessionHost, api: StubMessagesApi, why: str
) -> None:
    refusal, sentence = REFUSED_BY_ITSELF[why]
    api.default = Text('<message to="home">Yes.</message>')
    async with run_runner(host, claude(host)):
        host.write_message("m1", "one")
        await host.wait_for_acks("m1")
        api.rules.append(Rule(lambda _: True, refusal))
        host.write_message("m2", "two")
        error = await failed(host, "m2")
        asked = len(api.messages)
        api.rules.clear()
        host.write_message("m3", "three")
        await host.wait_for_acks("m3")
    assert len(api.messages) == asked + 1
    assert (error.error_class, error.sentence) == (ErrorClass.PERMANENT, sentence)
    assert host.texts() == ["Yes.", "Yes."]
    first, _, last = host.turns()
    assert first.continuation == last.continuation


@pytest.mark.case("an answer longer than the model may write")
@pytest.mark.behaviour("RU-04")
async def test_an_answer_above_the_output_limit_is_sent_as_far_as_it_came(
    host: SessionHost, api: StubMessagesApi
) -> None:
    api.default = Text('<message to="home">And on and on.</message>', stop_reason="max_tokens")
    host.write_message("m1", "tell me all")
    async with run_runner(host, claude(host)):
        error = await failed(host)
    assert (error.error_class, error.sentence) == (ErrorClass.PERMANENT, OUTPUT_TOO_LONG)
    assert {*host.texts()} == {"And on and on."}


@pytest.mark.parametrize(
    ("name", "make", "holds", "at_least"),
    [
        ("scan.pdf", lambda: make_scanned_pdf(3_000_000), "document", 3_000_000),
        ("scan.pdf", lambda: make_scanned_pdf(20_000_000), "document", 20_000_000),
        ("photo.jpg", make_photo, "image", 100_000),
        ("photo.jpg", lambda: make_photo(8000, 7600), "image", 100_000),
    ],
)
async def test_attachments_reach_the_model_whole_or_scaled_to_its_limit(
    host: SessionHost, api: StubMessagesApi, name: str, make: Callable[[], bytes], holds: str, at_least: int
) -> None:
    (host.layout.agent_dir / name).write_bytes(make())
    api.replies.append(ToolUse("Read", {"file_path": str(host.layout.agent_dir / name)}))
    api.replies.append(Text('<message to="home">A letter.</message>'))
    host.write_message("m1", "what is in it?")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
    assert host.texts() == ["A letter."]
    [(kind, content)] = api.messages[-1].files
    assert kind == holds
    assert len(content) > at_least


async def test_the_agent_is_told_of_a_pdf_too_large_for_the_model(host: SessionHost, api: StubMessagesApi) -> None:
    (host.layout.agent_dir / "scan.pdf").write_bytes(make_scanned_pdf(30_000_000))
    api.replies.append(ToolUse("Read", {"file_path": str(host.layout.agent_dir / "scan.pdf")}))
    api.replies.append(Text('<message to="home">It is too large for me.</message>'))
    host.write_message("m1", "what is in it?")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
    assert host.texts() == ["It is too large for me."]
    assert "exceeds maximum allowed size of 20MB" in api.messages[-1].user_text


async def test_two_files_too_large_for_one_request_are_read_and_answered(
    host: SessionHost, api: StubMessagesApi
) -> None:
    """Claude Code shortens the conversation by itself when it is told that it is too large."""
    (host.layout.agent_dir / "scan.pdf").write_bytes(make_scanned_pdf(14_000_000))
    reads = ToolUse("Read", {"file_path": str(host.layout.agent_dir / "scan.pdf")})
    api.rules.append(Rule(_is_too_large, REQUEST_TOO_LARGE))
    api.default = Text('<message to="home">A letter.</message>')
    async with run_runner(host, claude(host)):
        for number in range(2):
            api.replies.append(reads)
            host.write_message(f"m{number}", "what is in it?")
            await host.wait_for_acks(f"m{number}")
    assert host.texts() == ["A letter.", "A letter."]
    assert any(map(_is_too_large, api.messages))


def _is_too_large(asked: RecordedRequest) -> bool:
    return len(json.dumps(asked.body)) > MAX_BODY_BYTES


@pytest.mark.parametrize("size", [1_300_000, 5_000_000])
async def test_a_large_file_is_written(host: SessionHost, api: StubMessagesApi, size: int) -> None:
    written = host.layout.agent_dir / "book.txt"
    api.replies.append(ToolUse("Write", {"file_path": str(written), "content": "A word.\n" * (size // 8)}))
    api.replies.append(Text('<message to="home">Written.</message>'))
    host.write_message("m1", "write it down")
    async with run_runner(host, claude(host)):
        await host.wait_for_acks("m1")
    assert host.texts() == ["Written."]
    assert written.stat().st_size == size


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize(
    ("limit", "error_class", "sentence"),
    [
        ({"max_budget_usd": 0.001}, ErrorClass.BUDGET, SENTENCES[ErrorClass.BUDGET]),
        ({"max_turns": 1}, ErrorClass.PERMANENT, TURN_LIMIT_REACHED),
    ],
)
async def test_text_before_a_limit_is_sent_and_the_turn_is_not_retried(
    host: SessionHost,
    api: StubMessagesApi,
    monkeypatch: pytest.MonkeyPatch,
    limit: dict[str, Any],
    error_class: ErrorClass,
    sentence: str,
) -> None:
    def limited(*arguments: Any) -> ClaudeAgentOptions:
        return replace(make_options(*arguments), **limit)

    monkeypatch.setattr(provider, "make_options", limited)
    said, long = '<message to="home">I look into it.</message>', Tokens(input=100_000)
    api.replies.append(ToolUse("Bash", {"command": "true"}, text=said, tokens=long))
    host.write_message("m1", "look into it")
    async with run_runner(host, claude(host)):
        error = await failed(host)
    assert (error.error_class, error.sentence) == (error_class, sentence)
    assert host.texts() == ["I look into it."]


async def test_an_unsaved_conversation_is_reported_to_the_host(host: SessionHost, api: StubMessagesApi) -> None:
    """Claude Code does not report a folder that it cannot write to, and forgets everything at its end."""
    api.default = Text('<message to="home">Yes.</message>')
    folder = host.layout.state_dir / ".claude"
    async with run_runner(host, claude(host)):
        host.write_message("m1", "one")
        await host.wait_for_acks("m1")
        await wait_until(lambda: host.progress() == {})
        for transcript in (folder / "projects").rglob("*.jsonl"):
            transcript.unlink()
            transcript.mkdir()
        host.write_message("m2", "two")
        await host.wait_for_acks("m2")
        await wait_until(lambda: "not_kept" in host.progress())
    assert host.texts() == ["Yes.", "Yes."]


def test_a_refused_key_is_not_logged_as_success() -> None:
    assert failure_detail("success", "Invalid API key", []) == "Invalid API key"
    assert failure_detail("error_during_execution", None, ["401", ""]) == "error_during_execution 401"
