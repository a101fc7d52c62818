# /// script
# dependencies = ["claude-agent-sdk>=0.2.186"]
# [tool.nanohost]
# kind = "provider"
# api = 1
# unsandboxed = "without_tools"
# gateway = true
# ///
"""Claude, through the Claude Agent SDK and the command line it carries.

One connected client is kept between turns. What the command line needs to know is in its environment: the model is
reached through the host's gateway only, and the key it is given is worth nothing. Prompts are sent with ids of our
own, and a result says which of them it covers, so a message that is pushed in the middle is never counted twice.
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
    DECLINED,
    NO_SUCH_MODEL,
    TOO_LONG_AN_ANSWER,
    TOO_MANY_TURNS,
    TOO_MUCH,
    UNREACHABLE,
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

PATIENCE_S = 5.0
"""A pause that the command line wants to make before it asks again. Above this the host does the waiting, and the
person is told."""
RETRIES = 2
CONFIG_FOLDER = ".claude"
"""Of the command line, in the session's state: its record of the conversation is below it."""
RECORD_LOOKS, RECORD_PAUSE_S = 10, 0.2
INTERRUPT_WITHIN_S = 1.0
LONGEST_LINE_BYTES = 64 * 1024 * 1024
"""Of what the command line prints, which holds every file that is read, in base64: more than a request to the model may
have (32 MB). The SDK's own limit, 1 MiB, ends a turn over a scanned letter."""
TOOL_TIMEOUT_S = 2 * 3600
"""For a call of one of our tools: more than a question may wait for its answer."""

OUTLIVING_A_TURN = (
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
"""Tools of the command line that wait for something after the turn, or for someone at its terminal: nobody is there."""
ACTING_ON_NOTHING = ("ReportFindings", "TaskStop", "Agent(statusline-setup)")
"""What shows in a program that we are not, or ends work in the background, which is switched off."""
OF_THE_WEB = ("WebFetch", "WebSearch")
"""They need a network. The service itself would search, beside the one way that a host can see and permit."""
SKILLS_WITHOUT_USE = ("fewer-permission-prompts", "keybindings-help", "plugin-authoring", "workflow-authoring")
"""Skills of the command line for its own screen, for questions that it never asks here, and for a tool from above."""


class Claude:
    """See providers.Provider."""

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._client: ClaudeSDKClient | None = None
        self._known = context.resume
        self._config_dir = context.state_dir / CONFIG_FOLDER
        self._record: tuple[str | None, int] = (None, 0)
        """The conversation whose record was looked at last, and its bytes then."""
        self._tool_names: dict[str, str] = {}
        self._stderr: deque[str] = deque(maxlen=20)
        # Of the turn that runs: what was asked, the ids not answered yet, and how many were handed over.
        self._prompts: list[str] = []
        self._open: list[str] = []
        self._begun = 0
        self._fresh = False
        self._heard = False
        self._held: list[str] = []
        self._command: int | None = None
        """The number of the message that this turn's command came from."""
        self._compacted: Mapping[str, Any] | None = None
        self._retry_at: datetime | None = None

    async def begin(self, prompt: Prompt) -> None:
        self._prompts, self._heard, self._fresh = [], False, False
        self._command = prompt.messages[0].row.seq if prompt.is_command else None
        self._clear()
        if self._client is None:
            await self._connect([])
        self._record = await self._look_at_record()
        await self.push(prompt)

    async def _connect(self, texts: Sequence[str]) -> None:
        """Start a command line, and hand it what this turn has been asked so far."""
        if self._context.tools == "all":
            await asyncio.to_thread(self._move_memory)
        context = replace(self._context, resume=self._known)
        client = ClaudeSDKClient(options(context, self._stderr.append))
        try:
            await client.connect()
        except Exception as error:
            raise ProviderFailed(self._crash(error)) from error
        self._client, self._fresh = client, True
        self._clear()
        for text in texts:
            await self._hand_over(text)

    def _move_memory(self) -> None:
        try:
            memory.move_in(self._config_dir, self._context.agent_dir / MEMORY_FOLDER)
        except OSError as error:  # a full disk, perhaps: it is tried again at the next start
            log("memory_not_moved", error=error)

    def _clear(self) -> None:
        self._open, self._begun, self._held, self._retry_at, self._compacted = [], 0, [], None, None

    async def push(self, prompt: Prompt) -> None:
        self._prompts.append(prompt.text)
        if self._client is not None:  # else it is being replaced, and gets all of this turn's prompts
            await self._hand_over(prompt.text)

    async def _hand_over(self, text: str) -> None:
        assert self._client is not None, "connected"
        identity = str(uuid4())
        self._open.append(identity)
        self._begun += 1
        with suppress(CLIConnectionError):  # it is gone: `events` hears of that, and knows what to do
            await self._client.query(_one(identity, text))

    async def events(self) -> AsyncIterator[TurnEvent]:
        while True:
            try:
                async for event in self._listened():
                    yield event
            except Exception as error:
                if self._fresh or self._heard:
                    raise ProviderFailed(self._crash(error)) from error
                log("command_line_gone", error=error)
            # A command line kept from an earlier turn has died since, of memory perhaps. Nothing of this turn has
            # begun, so another one can take it over.
            await self.close()
            await self._connect(self._prompts)

    async def _listened(self) -> AsyncIterator[TurnEvent]:
        assert self._client is not None, "begin comes first"
        async for message in self._client.receive_messages():
            self._heard = True
            for event in self._translated(message):
                yield await self._looked_up(event)
        raise CLIConnectionError("the command line has ended")

    async def _looked_up(self, event: TurnEvent) -> TurnEvent:
        """The event with what the command line's record of the conversation has to say about it."""
        if not isinstance(event, Finished):
            return event
        if event.failure is None:
            return event if self._command is not None else replace(event, unkept=not await self._has_grown())
        if event.failure.history is None:
            return event
        words = await asyncio.to_thread(transcript.in_words, self._config_dir, self._known)
        return replace(event, failure=replace(event.failure, history=words))

    async def _has_grown(self) -> bool:
        """Whether the record holds more than when this was last asked. It is written beside the answer, so that a
        moment may pass."""
        before = self._record
        for _ in range(RECORD_LOOKS):
            self._record = await self._look_at_record()
            if self._record[1] > (before[1] if before[0] == self._known else 0):
                return True
            await asyncio.sleep(RECORD_PAUSE_S)
        return False

    async def _look_at_record(self) -> tuple[str | None, int]:
        return self._known, await asyncio.to_thread(transcript.size, self._config_dir, self._known)

    async def interrupt(self) -> None:
        if self._client is not None:
            await self._client.interrupt()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if self._open:  # in the middle of a turn it would go on for seconds before it looks up
            with suppress(Exception):
                async with asyncio.timeout(INTERRUPT_WITHIN_S):
                    await client.interrupt()
        await client.disconnect()

    def _translated(self, message: Message) -> Iterator[TurnEvent]:
        match message:
            case SystemMessage(subtype="init", data=data):
                yield from self._conversation(str(data.get("session_id") or ""))
            case SystemMessage(subtype="api_retry", data=data):
                yield from self._api_retry(data)
            case SystemMessage(subtype="compact_boundary", data=data):
                self._compacted = data.get("compact_metadata") or {}
            case RateLimitEvent(rate_limit_info=info) if info.status == "rejected" and info.resets_at is not None:
                self._retry_at = datetime.fromtimestamp(info.resets_at, UTC)
            case AssistantMessage(parent_tool_use_id=None, error=None, content=content):
                yield from self._assistant(content)
            case UserMessage(parent_tool_use_id=None, content=list(content)):
                yield from self._tool_results(content)
            case ResultMessage():
                yield from self._conversation(message.session_id)
                yield from self._result(message)

    def _conversation(self, conversation: str) -> Iterator[TurnEvent]:
        if conversation and conversation != self._known:
            self._known = conversation
            yield ConversationKnown(conversation)

    def _assistant(self, content: Sequence[object]) -> Iterator[TurnEvent]:
        """Text is held back until it is clear whether the agent goes on working after it."""
        for block in content:
            match block:
                case TextBlock(text=text):
                    self._held.append(text)
                case ToolUseBlock(id=use, name=name, input=arguments):
                    yield from self._said(final=False)
                    self._tool_names[use] = name
                    yield ToolStarted(name, timeout_of(name, arguments))

    def _tool_results(self, content: Sequence[object]) -> Iterator[TurnEvent]:
        for block in content:
            if isinstance(block, ToolResultBlock):
                yield ToolEnded(self._tool_names.pop(block.tool_use_id, ""))

    def _said(self, *, final: bool) -> Iterator[TurnEvent]:
        held, self._held = self._held, []
        if held:
            yield Text(text="\n\n".join(held), final=final)

    def _api_retry(self, data: Mapping[str, Any]) -> Iterator[TurnEvent]:
        """The command line is about to ask again. A long pause is not slept through here."""
        pause_s = float(data.get("retry_delay_ms") or 0) / 1000
        status = data.get("error_status")
        log("model_retry", status=status, pause_s=round(pause_s, 1))
        if pause_s > PATIENCE_S:
            retry_at = datetime.now(UTC) + timedelta(seconds=pause_s)
            failure = failure_of_call(status, None, str(data.get("error") or ""))
            yield Finished(prompts=0, failure=replace(failure, detail="asked to wait", retry_at=retry_at))

    def _result(self, result: ResultMessage) -> Iterator[TurnEvent]:
        self._cover(result)
        if self._command is None or result.is_error or self._open:
            yield from self._said(final=True)
        else:
            held, self._held = self._held, []
            yield Answer(text=answer_of_command("\n\n".join(held), self._compacted), to_message=self._command)
        yield Finished(
            prompts=self._begun - len(self._open),
            usage=self._usage(result),
            failure=self._failure(result) if result.is_error else None,
        )

    def _cover(self, result: ResultMessage) -> None:
        """Cross off the prompts this result answers. One that names none answers the oldest, unless it belongs to
        something the command line began by itself."""
        named = {*(result.user_message_uuids or ()), result.user_message_uuid}
        rest = [identity for identity in self._open if identity not in named]
        own = result.origin is None or result.origin.get("kind") == "human"
        if len(rest) == len(self._open) and result.user_message_uuid is None and own:
            rest = self._open[1:]
        self._open = rest

    def _usage(self, result: ResultMessage) -> Usage:
        counts = result.usage or {}
        # No dollars: the command line's are a running total that begins anew with a killed process, and models that it
        # does not know are billed as the dearest one. The host counts at the gateway, which sees every call.
        return Usage(
            model=next(iter(result.model_usage or {}), None),
            tokens_in=_count(counts, "input_tokens") + _count(counts, "cache_creation_input_tokens"),
            tokens_out=_count(counts, "output_tokens"),
            tokens_cached=_count(counts, "cache_read_input_tokens"),
        )

    def _failure(self, result: ResultMessage) -> Failure:
        detail = detail_of(result.subtype, result.result, result.errors or [])
        if result.stop_reason == "refusal":  # it may be for what was said before
            return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=DECLINED, history="")
        reason = result.terminal_reason or result.subtype
        failure = failure_of_call(result.api_error_status, reason, detail)
        limited = failure.error_class is ErrorClass.RATE_LIMITED
        return replace(failure, retry_at=self._retry_at) if limited else failure

    def _crash(self, error: Exception) -> Failure:
        detail = " ".join([f"{type(error).__name__}: {error}", *self._stderr])
        return replace(failure_of_call(None, None, detail), history=None)  # nobody looked up what was said


def create(context: ProviderContext) -> Provider:
    """See providers.Create."""
    return Claude(context)


def options(context: ProviderContext, on_stderr: Callable[[str], None]) -> ClaudeAgentOptions:
    """How the command line is started."""
    return ClaudeAgentOptions(
        model=context.model,
        cwd=context.agent_dir,
        resume=context.resume,
        permission_mode="bypassPermissions",
        system_prompt={
            "type": "preset",
            "preset": "claude_code",
            "append": context.system_prompt,
            "snapshot": False,  # or a conversation would be told for ever what was so when it began
        },
        setting_sources=["project"],
        tools=[] if context.tools == "none" else None,
        disallowed_tools=withheld(context.network),
        settings=json.dumps(settings(context)),
        mcp_servers={"nanohost": create_sdk_mcp_server("nanohost", tools=_sdk_tools(context.toolbox))},
        strict_mcp_config=True,
        env=environment(context),
        stderr=on_stderr,
        max_buffer_size=LONGEST_LINE_BYTES,
    )


def withheld(network: str) -> list[str]:
    """The command line's own tools that cannot work here, with a network (open) or without (none)."""
    return [*OUTLIVING_A_TURN, *ACTING_ON_NOTHING, *(OF_THE_WEB if network == "none" else ())]


def settings(context: ProviderContext) -> dict[str, object]:
    """Settings of the command line that go before all that it finds in files. Its memory is the agent's and not the
    conversation's; without tools there is none, since nothing could be written there."""
    return {
        "autoMemoryEnabled": context.tools == "all",
        "autoMemoryDirectory": str(context.agent_dir / MEMORY_FOLDER),
        "skillOverrides": dict.fromkeys(SKILLS_WITHOUT_USE, "off"),
    }


def environment(context: ProviderContext) -> dict[str, str]:
    """What the command line finds in its environment. No secret: the gateway puts in the key."""
    found = {
        "ANTHROPIC_BASE_URL": "http://localhost",
        "ANTHROPIC_UNIX_SOCKET": str(context.gateway_socket),
        "ANTHROPIC_API_KEY": "the-gateway-has-it",
        "CLAUDE_CONFIG_DIR": str(context.state_dir / CONFIG_FOLDER),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_CRON": "1",
        # The host tries a failed turn again, and tells the person; the command line would be silent for minutes.
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
        "CLAUDE_AGENT_SDK_SKIP_VERSION_CHECK": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ENABLE_TOOL_SEARCH": "false",  # or our tools would be hidden behind a search
        "MCP_TOOL_TIMEOUT": str(TOOL_TIMEOUT_S * 1000),
    }
    if os.getuid() == 0:
        found["IS_SANDBOX"] = "1"  # as root it refuses to bypass permissions otherwise
    return found


def answer_of_command(said: str, compacted: Mapping[str, Any] | None) -> str:
    """What a person is told of a command's outcome. `compacted`: what the command line says of a compaction it made,
    for it says nothing else then."""
    if compacted is not None:
        before, after = compacted.get("pre_tokens"), compacted.get("post_tokens")
        known = isinstance(before, int) and isinstance(after, int)
        return f"Compacted: from {before:,} tokens to {after:,}." if known else "Compacted."
    if "messages to compact" in said:
        return NOTHING_TO_COMPACT
    return said or "Done."


def detail_of(subtype: str, said: str | None, errors: Sequence[str]) -> str:
    """What the log says of a failed call. The command line calls a refused key, too, a `success`."""
    return " ".join(part for part in ("" if subtype == "success" else subtype, said, *errors) if part)


def timeout_of(tool: str, arguments: Mapping[str, object]) -> float | None:
    """Seconds that a call of a tool may take, where the call says so: the shell's does, in milliseconds."""
    said = arguments.get("timeout") if tool == "Bash" else None
    return said / 1000 if isinstance(said, (int, float)) and said > 0 else None


def failure_of_call(status: int | None, reason: str | None, detail: str) -> Failure:
    """A failed call of the model, with words for one that never got there."""
    if status in NOT_REACHED or (status is None and any(words in detail.casefold() for words in _NO_WAY)):
        return Failure(error_class=ErrorClass.OVERLOADED, detail=detail, sentence=UNREACHABLE)
    if status == NO_SUCH_WAY:
        return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=NO_SUCH_MODEL)
    if reason in _SPENT:
        return Failure(error_class=ErrorClass.BUDGET, detail=detail, keeps_text=True)
    if reason in _TOO_MANY_TURNS:
        return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=TOO_MANY_TURNS, keeps_text=True)
    words = detail.casefold()
    if _ANSWER_TOO_LONG in words:
        return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=TOO_LONG_AN_ANSWER, keeps_text=True)
    if _LINE_TOO_LONG in words:
        return Failure(error_class=ErrorClass.PERMANENT, detail=detail, sentence=TOO_MUCH)
    error_class = error_class_of(status, reason, detail)
    # What the model refuses may be in the conversation, which would make it refuse all that comes after it.
    refused = error_class is ErrorClass.PERMANENT and (status in _REFUSES_CONTENT or reason == "image_error")
    is_for_history = refused or error_class is ErrorClass.CONTEXT_FULL
    return Failure(error_class=error_class, detail=detail, history="" if is_for_history else None)


NO_SUCH_WAY = 404
"""What a service says of a model that it does not have, and a wrong address of everything."""
NOT_REACHED = {502, 504}
"""What the gateway says when it gets no answer, and so do proxies on the way."""
_SPENT = {"budget_exhausted", "error_max_budget_usd"}
"""Limits of the command line's own, as terminal_reason or as subtype says: the next try would end the same way."""
_TOO_MANY_TURNS = {"max_turns", "error_max_turns"}
_REFUSES_CONTENT = {400, 422}
"""422: of services between, which check what they pass on."""
_ANSWER_TOO_LONG = "output token maximum"
"""The command line has had the model go on three times, and it has not come to an end."""
_LINE_TOO_LONG = "exceeded maximum buffer size"
"""Of the SDK, about LONGEST_LINE_BYTES. It would be as long the next time."""
_NO_WAY = ("api error: connection error", "econnrefused", "unable to connect to api")


def error_class_of(status: int | None, reason: str | None, detail: str) -> ErrorClass:
    """The class of a failure, from the HTTP status, why the command line ended, and what it said."""
    words = detail.casefold()
    if "no conversation found" in words:
        return ErrorClass.INVALID_SESSION
    if reason == "prompt_too_long" or status == 413 or any(said in words for said in _TOO_LONG):
        return ErrorClass.CONTEXT_FULL
    if "credit balance is too low" in words or status == 402:
        return ErrorClass.BUDGET
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status is not None and 400 <= status < 500 and status not in {408, 409}:
        return ErrorClass.PERMANENT
    return ErrorClass.TRANSIENT


_TOO_LONG = ("prompt is too long", "reached its context window limit")
_BY_STATUS = {
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


async def _one(identity: str, text: str) -> AsyncIterator[dict[str, Any]]:
    message = {"role": "user", "content": text}
    yield {"type": "user", "message": message, "parent_tool_use_id": None, "uuid": identity}


def _count(counts: Mapping[str, Any], name: str) -> int:
    return int(counts.get(name) or 0)
