# /// script
# dependencies = ["claude-agent-sdk>=0.2.186"]
# [tool.nanohost]
# kind = "provider"
# api = 1
# unsandboxed = "without_tools"
# gateway = true
# ///
"""Runs Claude through the Claude Agent SDK and its bundled command line.

One connected client is kept between turns. The command line gets its settings by environment variables: the model is
reached only through the host's gateway, and the key in the environment is a dummy. Prompts are sent with the runner's
own ids, and a result names those it covers, so a message that is pushed during a turn is never counted twice.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLIConnectionError,
    Message,
    RateLimitEvent,
    ResultMessage,
    SdkMcpTool,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
    create_sdk_mcp_server,
)

from agent_runner import memory, transcript
from agent_runner.abilities import MEMORY_FOLDER
from agent_runner.commands import NOTHING_TO_COMPACT
from agent_runner.failures import (
    INPUT_TOO_LARGE,
    MODEL_NOT_FOUND,
    MODEL_REFUSED,
    MODEL_UNREACHABLE,
    OUTPUT_TOO_LONG,
    TURN_LIMIT_REACHED,
    Failure,
    ProviderFailed,
)
from agent_runner.log import log
from agent_runner.prompt import Prompt
from agent_runner.providers import (
    Answer,
    ConversationKnown,
    Finished,
    Provider,
    ProviderContext,
    Text,
    ToolEnded,
    ToolStarted,
    TurnEvent,
)
from agent_runner.tools import Tool, Toolbox, ToolRefused
from nanohost_protocol.rows import ErrorClass, Usage

MAX_RETRY_DELAY_S = 5.0
"""The longest pause before a retry that the command line may make itself. For longer ones the host waits, and tells the
person."""
MAX_RETRIES = 2
CONFIG_FOLDER = ".claude"
"""The command line's configuration folder in the session's state; it contains the record of the conversation."""
RECORD_CHECK_ATTEMPTS, RECORD_CHECK_INTERVAL_S = 10, 0.2
INTERRUPT_TIMEOUT_S = 1.0
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Bytes of a line that the command line prints, which contains every file that is read, in base64: more than a request
to the model may have (32 MB). The SDK's default, 1 MiB, would end a turn with a scanned letter."""
TOOL_TIMEOUT_S = 2 * 3600
"""Seconds for a call of one of the runner's tools: longer than a question may wait for its answer."""

DETACHED_TOOLS = (
    "CronCreate",
    "CronDelete",
    "CronList",
    "ScheduleWakeup",
    "Monitor",
    "Workflow",
    "ListAgents",
    "SendMessage",
    "EnterWorktree",
    "ExitWorktree",
    "AskUserQuestion",
)
"""Tools of the command line that wait for something after the turn, or for a person at its terminal."""
UNUSABLE_TOOLS = ("ReportFindings", "TaskStop", "Agent(statusline-setup)")
"""Tools whose output is shown only in other programs, or that end background work, which is disabled."""
WEB_TOOLS = ("WebFetch", "WebSearch")
"""Tools that need a network. The service itself would search, bypassing what the host can see and permit."""
DISABLED_SKILLS = ("fewer-permission-prompts", "keybindings-help", "plugin-authoring", "workflow-authoring")
"""Skills for the command line's own screen, for questions that it never asks here, and for a disabled tool."""


class ClaudeProvider:
    """See providers.Provider."""

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._client: ClaudeSDKClient | None = None
        self._conversation_id = context.resume
        self._config_dir = context.state_dir / CONFIG_FOLDER
        self._record_size: tuple[str | None, int] = (None, 0)
        """The conversation whose record was measured last, and its bytes then."""
        self._tool_names: dict[str, str] = {}
        self._stderr: deque[str] = deque(maxlen=20)
        # Of the running turn: the prompts, the ids not answered yet, and how many were handed over.
        self._prompts: list[str] = []
        self._unanswered_ids: list[str] = []
        self._sent_count = 0
        self._is_new_client = False
        self._has_received = False
        self._held_text: list[str] = []
        self._command_seq: int | None = None
        """The number of the message that this turn's command came from."""
        self._compaction: Mapping[str, Any] | None = None
        self._retry_at: datetime | None = None

    async def begin(self, prompt: Prompt) -> None:
        self._prompts, self._has_received, self._is_new_client = [], False, False
        self._command_seq = prompt.messages[0].row.seq if prompt.is_command else None
        self._reset_turn()
        if self._client is None:
            await self._connect([])
        self._record_size = await self._measure_record()
        await self.push(prompt)

    async def _connect(self, texts: Sequence[str]) -> None:
        """Starts a command line, and hands it the prompts of this turn so far."""
        if self._context.tools == "all":
            await asyncio.to_thread(self._migrate_memory)
        context = replace(self._context, resume=self._conversation_id)
        client = ClaudeSDKClient(make_options(context, self._stderr.append))
        try:
            await client.connect()
        except Exception as error:
            raise ProviderFailed(self._crash_failure(error)) from error
        self._client, self._is_new_client = client, True
        self._reset_turn()
        for text in texts:
            await self._send_prompt(text)

    def _migrate_memory(self) -> None:
        try:
            memory.migrate_memory(self._config_dir, self._context.agent_dir / MEMORY_FOLDER)
        except OSError as error:  # perhaps a full disk: it is retried at the next start
            log("memory_migration_failed", error=error)

    def _reset_turn(self) -> None:
        self._unanswered_ids, self._sent_count, self._held_text, self._retry_at, self._compaction = (
            [],
            0,
            [],
            None,
            None,
        )

    async def push(self, prompt: Prompt) -> None:
        self._prompts.append(prompt.text)
        if self._client is not None:  # else it is being replaced, and the new one gets all prompts of the turn
            await self._send_prompt(prompt.text)

    async def _send_prompt(self, text: str) -> None:
        assert self._client is not None, "connected"
        identity = str(uuid4())
        self._unanswered_ids.append(identity)
        self._sent_count += 1
        with suppress(CLIConnectionError):  # it has ended: `events` notices and handles that
            await self._client.query(_make_user_message(identity, text))

    async def events(self) -> AsyncIterator[TurnEvent]:
        while True:
            try:
                async for event in self._receive_events():
                    yield event
            except Exception as error:
                if self._is_new_client or self._has_received:
                    raise ProviderFailed(self._crash_failure(error)) from error
                log("cli_exited", error=error)
            # A command line kept from an earlier turn has died since, perhaps out of memory. This turn has not begun,
            # so a new one can run it.
            await self.close()
            await self._connect(self._prompts)

    async def _receive_events(self) -> AsyncIterator[TurnEvent]:
        assert self._client is not None, "begin comes first"
        async for message in self._client.receive_messages():
            self._has_received = True
            for event in self._translate(message):
                yield await self._with_record_facts(event)
        raise CLIConnectionError("the command line has ended")

    async def _with_record_facts(self, event: TurnEvent) -> TurnEvent:
        """Returns the event with facts from the command line's record of the conversation."""
        if not isinstance(event, Finished):
            return event
        if event.failure is None:
            return (
                event
                if self._command_seq is not None
                else replace(event, is_unrecorded=not await self._has_record_grown())
            )
        if event.failure.history is None:
            return event
        words = await asyncio.to_thread(transcript.read_as_text, self._config_dir, self._conversation_id)
        return replace(event, failure=replace(event.failure, history=words))

    async def _has_record_grown(self) -> bool:
        """Returns whether the record has grown since the last call. It is written in parallel to the answer, so this
        may wait a moment."""
        before = self._record_size
        for _ in range(RECORD_CHECK_ATTEMPTS):
            self._record_size = await self._measure_record()
            if self._record_size[1] > (before[1] if before[0] == self._conversation_id else 0):
                return True
            await asyncio.sleep(RECORD_CHECK_INTERVAL_S)
        return False

    async def _measure_record(self) -> tuple[str | None, int]:
        return self._conversation_id, await asyncio.to_thread(
            transcript.record_size_bytes, self._config_dir, self._conversation_id
        )

    async def interrupt(self) -> None:
        if self._client is not None:
            await self._client.interrupt()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if self._unanswered_ids:  # during a turn it would keep working for seconds before it closes
            with suppress(Exception):
                async with asyncio.timeout(INTERRUPT_TIMEOUT_S):
                    await client.interrupt()
        await client.disconnect()

    def _translate(self, message: Message) -> Iterator[TurnEvent]:
        match message:
            case SystemMessage(subtype="init", data=data):
                yield from self._on_conversation_id(str(data.get("session_id") or ""))
            case SystemMessage(subtype="api_retry", data=data):
                yield from self._on_api_retry(data)
            case SystemMessage(subtype="compact_boundary", data=data):
                self._compaction = data.get("compact_metadata") or {}
            case RateLimitEvent(rate_limit_info=info) if info.status == "rejected" and info.resets_at is not None:
                self._retry_at = datetime.fromtimestamp(info.resets_at, UTC)
            case AssistantMessage(parent_tool_use_id=None, error=None, content=content):
                yield from self._on_assistant(content)
            case UserMessage(parent_tool_use_id=None, content=list(content)):
                yield from self._on_tool_results(content)
            case ResultMessage():
                yield from self._on_conversation_id(message.session_id)
                yield from self._on_result(message)

    def _on_conversation_id(self, conversation: str) -> Iterator[TurnEvent]:
        if conversation and conversation != self._conversation_id:
            self._conversation_id = conversation
            yield ConversationKnown(conversation)

    def _on_assistant(self, content: Sequence[object]) -> Iterator[TurnEvent]:
        """Handles a message of the agent. Text is held back until it is clear whether the agent keeps working."""
        for block in content:
            match block:
                case TextBlock(text=text):
                    self._held_text.append(text)
                case ToolUseBlock(id=use, name=name, input=arguments):
                    yield from self._flush_text(is_final=False)
                    self._tool_names[use] = name
                    yield ToolStarted(name, tool_timeout_s(name, arguments))

    def _on_tool_results(self, content: Sequence[object]) -> Iterator[TurnEvent]:
        for block in content:
            if isinstance(block, ToolResultBlock):
                yield ToolEnded(self._tool_names.pop(block.tool_use_id, ""))

    def _flush_text(self, *, is_final: bool) -> Iterator[TurnEvent]:
        held, self._held_text = self._held_text, []
        if held:
            yield Text(text="\n\n".join(held), final=is_final)

    def _on_api_retry(self, data: Mapping[str, Any]) -> Iterator[TurnEvent]:
        """Handles that the command line is about to retry a call. Ends the turn if the pause would be long."""
        pause_s = float(data.get("retry_delay_ms") or 0) / 1000
        status = data.get("error_status")
        log("model_call_retrying", status=status, pause_s=round(pause_s, 1))
        if pause_s > MAX_RETRY_DELAY_S:
            retry_at = datetime.now(UTC) + timedelta(seconds=pause_s)
            failure = classify_failure(status, None, str(data.get("error") or ""))
            yield Finished(prompts=0, failure=replace(failure, detail="asked to wait", retry_at=retry_at))

    def _on_result(self, result: ResultMessage) -> Iterator[TurnEvent]:
        self._mark_answered(result)
        if self._command_seq is None or result.is_error or self._unanswered_ids:
            yield from self._flush_text(is_final=True)
        else:
            held, self._held_text = self._held_text, []
            yield Answer(text=command_reply("\n\n".join(held), self._compaction), to_message=self._command_seq)
        yield Finished(
            prompts=self._sent_count - len(self._unanswered_ids),
            usage=self._extract_usage(result),
            failure=self._result_failure(result) if result.is_error else None,
        )

    def _mark_answered(self, result: ResultMessage) -> None:
        """Marks the prompts that this result answers. A result without ids answers the oldest prompt, unless it belongs
        to work that the command line began by itself."""
        named = {*(result.user_message_uuids or ()), result.user_message_uuid}
        rest = [identity for identity in self._unanswered_ids if identity not in named]
        own = result.origin is None or result.origin.get("kind") == "human"
        if len(rest) == len(self._unanswered_ids) and result.user_message_uuid is None and own:
            rest = self._unanswered_ids[1:]
        self._unanswered_ids = rest

    def _extract_usage(self, result: ResultMessage) -> Usage:
        counts = result.usage or {}
        # No dollars: the command line reports a running total that restarts with the process, and counts unknown models
        # as the most expensive one. The host counts at the gateway, which sees every call.
        return Usage(
            model=next(iter(result.model_usage or {}), None),
            tokens_in=_token_count(counts, "input_tokens") + _token_count(counts, "cache_creation_input_tokens"),
            tokens_out=_token_count(counts, "output_tokens"),
            tokens_cached=_token_count(counts, "cache_read_input_tokens"),
        )

    def _result_failure(self, result: ResultMessage) -> Failure:
        detail = failure_detail(result.subtype, result.result, result.errors or [])
        if result.stop_reason == "refusal":  # the cause may be an earlier message
            return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=MODEL_REFUSED, history="")
        reason = result.terminal_reason or result.subtype
        failure = classify_failure(result.api_error_status, reason, detail)
        limited = failure.error_class is ErrorClass.RATE_LIMITED
        return replace(failure, retry_at=self._retry_at) if limited else failure

    def _crash_failure(self, error: Exception) -> Failure:
        detail = " ".join([f"{type(error).__name__}: {error}", *self._stderr])
        return replace(classify_failure(None, None, detail), history=None)  # the history was not looked up


def create(context: ProviderContext) -> Provider:
    """Creates the provider; see `providers.ProviderFactory`."""
    return ClaudeProvider(context)


def make_options(context: ProviderContext, on_stderr: Callable[[str], None]) -> ClaudeAgentOptions:
    """Returns the options for starting the command line."""
    return ClaudeAgentOptions(
        model=context.model,
        cwd=context.agent_dir,
        resume=context.resume,
        permission_mode="bypassPermissions",
        system_prompt={
            "type": "preset",
            "preset": "claude_code",
            "append": context.system_prompt,
            "snapshot": False,  # or a conversation would always show the state at its beginning
        },
        setting_sources=["project"],
        tools=[] if context.tools == "none" else None,
        disallowed_tools=disallowed_tools(context.network),
        settings=json.dumps(cli_settings(context)),
        mcp_servers={"nanohost": create_sdk_mcp_server("nanohost", tools=_sdk_tools(context.toolbox))},
        strict_mcp_config=True,
        env=cli_environment(context),
        stderr=on_stderr,
        max_buffer_size=MAX_LINE_BYTES,
    )


def disallowed_tools(network: str) -> list[str]:
    """Returns the command line's own tools that cannot work here, with a network (open) or without (none)."""
    return [*DETACHED_TOOLS, *UNUSABLE_TOOLS, *(WEB_TOOLS if network == "none" else ())]


def cli_settings(context: ProviderContext) -> dict[str, object]:
    """Returns settings of the command line that take precedence over its files.

    Its memory belongs to the agent, not to the conversation; without tools it is off, since nothing could be written.
    """
    return {
        "autoMemoryEnabled": context.tools == "all",
        "autoMemoryDirectory": str(context.agent_dir / MEMORY_FOLDER),
        "skillOverrides": dict.fromkeys(DISABLED_SKILLS, "off"),
    }


def cli_environment(context: ProviderContext) -> dict[str, str]:
    """Returns the command line's environment. It holds no secret: the gateway adds the key."""
    found = {
        "ANTHROPIC_BASE_URL": "http://localhost",
        "ANTHROPIC_UNIX_SOCKET": str(context.gateway_socket),
        "ANTHROPIC_API_KEY": "the-gateway-has-it",
        "CLAUDE_CONFIG_DIR": str(context.state_dir / CONFIG_FOLDER),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_CRON": "1",
        # The host retries a failed turn and tells the person; the command line would be silent for minutes.
        "CLAUDE_CODE_MAX_RETRIES": str(MAX_RETRIES),
        "CLAUDE_AGENT_SDK_SKIP_VERSION_CHECK": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ENABLE_TOOL_SEARCH": "false",  # or the runner's tools would be hidden behind a search
        "MCP_TOOL_TIMEOUT": str(TOOL_TIMEOUT_S * 1000),
    }
    if os.getuid() == 0:
        found["IS_SANDBOX"] = "1"  # as root it refuses to bypass permissions otherwise
    return found


def command_reply(text: str, compaction: Mapping[str, Any] | None) -> str:
    """Returns the reply about a command's outcome. `compaction`: the command line's report of a compaction, for which
    it prints no text."""
    if compaction is not None:
        before, after = compaction.get("pre_tokens"), compaction.get("post_tokens")
        known = isinstance(before, int) and isinstance(after, int)
        return f"Compacted: from {before:,} tokens to {after:,}." if known else "Compacted."
    if "messages to compact" in text:
        return NOTHING_TO_COMPACT
    return text or "Done."


def failure_detail(subtype: str, text: str | None, errors: Sequence[str]) -> str:
    """Returns the detail of a failed call for the log. The command line reports even a refused key as `success`."""
    return " ".join(part for part in ("" if subtype == "success" else subtype, text, *errors) if part)


def tool_timeout_s(tool: str, arguments: Mapping[str, object]) -> float | None:
    """Returns the time limit that the call of a tool states: the shell's does, in milliseconds."""
    timeout_ms = arguments.get("timeout") if tool == "Bash" else None
    return timeout_ms / 1000 if isinstance(timeout_ms, (int, float)) and timeout_ms > 0 else None


def classify_failure(status: int | None, reason: str | None, detail: str) -> Failure:
    """Classifies a failed call of the model, with a sentence for failures of the connection."""
    if status in UNREACHABLE_STATUSES or (
        status is None and any(words in detail.casefold() for words in _CONNECTION_ERROR_PHRASES)
    ):
        return Failure(error_class=ErrorClass.OVERLOADED, detail=detail, sentence=MODEL_UNREACHABLE)
    if status == NOT_FOUND:
        return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=MODEL_NOT_FOUND)
    if reason in _BUDGET_REASONS:
        return Failure(error_class=ErrorClass.BUDGET, detail=detail, should_keep_text=True)
    if reason in _TURN_LIMIT_REASONS:
        return Failure(
            error_class=ErrorClass.PERMANENT, detail=detail, sentence=TURN_LIMIT_REACHED, should_keep_text=True
        )
    words = detail.casefold()
    if _OUTPUT_LIMIT_PHRASE in words:
        return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=OUTPUT_TOO_LONG, should_keep_text=True)
    if _LINE_LIMIT_PHRASE in words:
        return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=INPUT_TOO_LARGE)
    error_class = classify_error(status, reason, detail)
    # The refused content may be in the conversation, and then the model would refuse all later messages.
    refused = error_class is ErrorClass.PERMANENT and (status in _CONTENT_REJECTED_STATUSES or reason == "image_error")
    is_for_history = refused or error_class is ErrorClass.CONTEXT_FULL
    return Failure(error_class=error_class, detail=detail, history="" if is_for_history else None)


NOT_FOUND = 404
"""The status of a service for an unknown model, and of a wrong address for any request."""
UNREACHABLE_STATUSES = {502, 504}
"""The statuses of the gateway, and of proxies, if the service does not answer."""
_BUDGET_REASONS = {"budget_exhausted", "error_max_budget_usd"}
"""Limits of the command line itself, in terminal_reason or subtype: the next attempt would end the same way."""
_TURN_LIMIT_REASONS = {"max_turns", "error_max_turns"}
_CONTENT_REJECTED_STATUSES = {400, 422}
"""422 comes from services in between that validate requests."""
_OUTPUT_LIMIT_PHRASE = "output token maximum"
"""The command line had the model continue three times, and the answer was still not complete."""
_LINE_LIMIT_PHRASE = "exceeded maximum buffer size"
"""The SDK's error for a line above MAX_LINE_BYTES. The line would be as long the next time."""
_CONNECTION_ERROR_PHRASES = ("api error: connection error", "econnrefused", "unable to connect to api")


def classify_error(status: int | None, reason: str | None, detail: str) -> ErrorClass:
    """Returns the error class by the HTTP status, the reason why the command line ended, and its text."""
    words = detail.casefold()
    if "no conversation found" in words:
        return ErrorClass.INVALID_SESSION
    if reason == "prompt_too_long" or status == 413 or any(phrase in words for phrase in _CONTEXT_FULL_PHRASES):
        return ErrorClass.CONTEXT_FULL
    if "credit balance is too low" in words or status == 402:
        return ErrorClass.BUDGET
    if status in _ERROR_CLASS_BY_STATUS:
        return _ERROR_CLASS_BY_STATUS[status]
    if status is not None and 400 <= status < 500 and status not in {408, 409}:
        return ErrorClass.PERMANENT
    return ErrorClass.TRANSIENT


_CONTEXT_FULL_PHRASES = ("prompt is too long", "reached its context window limit")
_ERROR_CLASS_BY_STATUS = {
    401: ErrorClass.AUTH,
    403: ErrorClass.AUTH,
    429: ErrorClass.RATE_LIMITED,
    502: ErrorClass.OVERLOADED,
    503: ErrorClass.OVERLOADED,
    504: ErrorClass.OVERLOADED,
    529: ErrorClass.OVERLOADED,
}


def _sdk_tools(toolbox: Toolbox) -> list[SdkMcpTool[Any]]:
    return [_sdk_tool(tool, toolbox) for tool in toolbox.tools.values()]


def _sdk_tool(tool: Tool, toolbox: Toolbox) -> SdkMcpTool[Any]:
    async def call(arguments: dict[str, object]) -> dict[str, Any]:
        try:
            words, refused = await toolbox.call(tool.name, arguments), False
        except ToolRefused as refusal:
            words, refused = str(refusal), True
        return {"content": [{"type": "text", "text": words}], "is_error": refused}

    return SdkMcpTool(name=tool.name, description=tool.description, input_schema=tool.schema, handler=call)


async def _make_user_message(identity: str, text: str) -> AsyncIterator[dict[str, Any]]:
    message = {"role": "user", "content": text}
    yield {"type": "user", "message": message, "parent_tool_use_id": None, "uuid": identity}


def _token_count(counts: Mapping[str, Any], name: str) -> int:
    return int(counts.get(name) or 0)
