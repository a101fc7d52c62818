# /// script
# dependencies = []
# [tool.nanohost]
# kind = "provider"
# api = 1
# unsandboxed = "always"
# ///
"""Plays script.json in the agent's folder: a provider for tests and benchmarks.

Without a script it answers every message with "echo: <text>", and /compact with "Nothing to compact.". A script is a
list of rules; the first whose `match` (a regular expression, searched in the message's text) fits is played, and a
message that matches no rule is echoed:

    [{"match": "weather", "attempt": 1, "actions": [
        {"answer": "one moment"},                                  an answer to this very message
        {"text": "<message to=\\"home\\">Rain.</message>"},          the agent's final text, parsed as a model's is
        {"narration": "Let me look."},                             text before the agent goes on working
        {"tool": "send_message", "arguments": {"text": "hm"}},     calls one of our tools
        {"tool": "list_tasks", "answer": "so: {result}"},          the same, and answers with what it returned
        {"tool": "ask_user_question", "arguments": {"question": "Red?"}, "answer": "so: {result}"},  one that waits
        {"tool": "react", "takes_s": 2, "timeout_s": 600, "for_person": true},  one that takes its time, and says so
        {"tool": "react", "until_file": "go"},                     one that takes until there is this file
        {"request_action": "agent.rename", "arguments": {"name": "Ada"}},  asks the host for an action, as a tool would
        {"sleep_s": 0.2},
        {"until_file": "go"},                                      goes on when the agent's folder has this file
        {"hang": true},                                            never ends, until it is interrupted
        {"deaf": true},                                            the same, but then goes on, and is interrupted after
        {"error": "rate_limited", "retry_in_s": 5},                ends the turn with this class
        {"start": ["python3", "program.py"]},                      starts a program in the agent's folder, and goes on
        {"crash": true},                                           kills the runner's process with SIGKILL
        {"conversation": "abc"},                                   reports a conversation's id
        {"expect_resume": "abc"},                                  ends the turn as invalid_session on any other id
        {"usage": {"tokens_in": 10, "cost_usd": 0.5}}
    ]}]

`attempt` limits a rule to that run of a turn. `{text}` in texts is replaced by the message's text,
`{prompt}` by all that the agent was shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from agent_runner.commands import reply_without_model
from agent_runner.failures import Failure, ProviderFailed
from agent_runner.log import log
from agent_runner.prompt import DecodedMessage, Prompt
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
from agent_runner.tools import ToolRefused
from nanohost_protocol.rows import ErrorClass, Usage

SCRIPT_FILE = "script.json"

Json = Mapping[str, Any]


class ScriptedProvider:
    """See providers.Provider."""

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._prompts: asyncio.Queue[Prompt] = asyncio.Queue()
        self._usage = Usage(model="scripted")
        self._prompt = ""
        self._ignores_interrupt = False
        self._interrupt_received, self._script_ended = asyncio.Event(), asyncio.Event()

    async def begin(self, prompt: Prompt) -> None:
        self._prompts = asyncio.Queue()
        self._prompts.put_nowait(prompt)

    async def push(self, prompt: Prompt) -> None:
        self._prompts.put_nowait(prompt)

    async def events(self) -> AsyncIterator[TurnEvent]:
        done = 0
        while True:
            prompt = await self._prompts.get()
            rules = self._read_rules()
            self._usage = Usage(model="scripted")
            self._prompt = prompt.text
            if prompt.is_command:
                rules = [*rules, {"match": "", "actions": [{"answer": reply_without_model(prompt.text)}]}]
            for message in prompt.messages:
                async for event in self._play_script(message, prompt.attempt, rules):
                    yield event
            done += 1
            self._script_ended.set()
            yield Finished(prompts=done, usage=self._usage)

    async def interrupt(self) -> None:
        self._interrupt_received.set()
        if self._ignores_interrupt:
            await self._script_ended.wait()

    async def close(self) -> None:
        return

    def _read_rules(self) -> list[Json]:
        try:
            text = (self._context.agent_dir / SCRIPT_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        rules: list[Json] = json.loads(text)
        return rules

    async def _play_script(self, message: DecodedMessage, attempt: int, rules: list[Json]) -> AsyncIterator[TurnEvent]:
        if not message.row.trigger:
            return
        for action in _match_actions(message.text, attempt, rules):
            async for event in self._run_action(action, message):
                yield event

    async def _run_action(self, action: Json, message: DecodedMessage) -> AsyncIterator[TurnEvent]:
        match action:
            case {"tool": str(name)}:
                yield ToolStarted(name, action.get("timeout_s"), bool(action.get("for_person")))
                await asyncio.sleep(action.get("takes_s", 0))
                if "until_file" in action:
                    await self._wait_for_file(action["until_file"])
                result = await self._call_tool(name, action.get("arguments", {}), message)
                yield ToolEnded(name)
                if "answer" in action:
                    yield Answer(text=action["answer"].replace("{result}", result), to_message=message.row.seq)
            case {"ask_host": str(name)}:
                await self._ask_host(name, action.get("arguments", {}), message)
            case {"answer": str(text)}:
                yield Answer(text=self._substitute(text, message), to_message=message.row.seq)
            case {"text": str(text)}:
                yield Text(text=self._substitute(text, message))
            case {"narration": str(text)}:
                yield Text(text=self._substitute(text, message), final=False)
            case {"conversation": str(conversation)}:
                yield ConversationKnown(conversation)
            case {"usage": dict(usage)}:
                self._usage = Usage(model="scripted", **usage)
            case _:
                await self._run_fault(action)

    async def _call_tool(self, name: str, arguments: Json, message: DecodedMessage) -> str:
        try:
            return await self._context.toolbox.call(name, self._all_filled(arguments, message))
        except ToolRefused as refusal:
            log("tool_refused", tool=name, why=refusal)
            return str(refusal)

    async def _ask_host(self, name: str, arguments: Json, message: DecodedMessage) -> None:
        outbox = self._context.toolbox.outbox
        assert outbox is not None, "a turn runs"
        await outbox.request_action(name, self._all_filled(arguments, message))

    def _all_filled(self, arguments: Json, message: DecodedMessage) -> Json:
        return {
            key: self._substitute(value, message) if isinstance(value, str) else value
            for key, value in arguments.items()
        }

    def _substitute(self, text: str, message: DecodedMessage) -> str:
        return text.replace("{text}", message.text).replace("{prompt}", self._prompt)

    async def _run_fault(self, action: Json) -> None:
        match action:
            case {"sleep_s": seconds}:
                await asyncio.sleep(seconds)
            case {"until_file": str(name)}:
                await self._wait_for_file(name)
            case {"hang": True}:
                await asyncio.Event().wait()
            case {"deaf": True}:
                self._ignores_interrupt = True
                await self._interrupt_received.wait()
            case {"start": list(command)}:
                await asyncio.create_subprocess_exec(*command, cwd=self._context.agent_dir)
            case {"crash": True}:
                os.kill(os.getpid(), signal.SIGKILL)
            case {"expect_resume": wanted} if self._context.resume != wanted:
                raise ProviderFailed(Failure(error_class=ErrorClass.INVALID_SESSION, detail="as the script says"))
            case {"error": str(name)}:
                raise ProviderFailed(_make_failure(name, action.get("retry_in_s")))

    async def _wait_for_file(self, name: str) -> None:
        while not (self._context.agent_dir / name).exists():  # noqa: ASYNC110 - whoever makes it says nothing
            await asyncio.sleep(0.01)


def _match_actions(text: str, attempt: int, rules: list[Json]) -> list[Json]:
    for rule in rules:
        if rule.get("attempt", attempt) == attempt and re.search(rule["match"], text):
            actions: list[Json] = rule["actions"]
            return actions
    return [{"answer": "echo: {text}"}]


def _make_failure(name: str, retry_in_s: float | None) -> Failure:
    retry_at = None if retry_in_s is None else datetime.now(UTC) + timedelta(seconds=retry_in_s)
    return Failure(error_class=ErrorClass(name), detail="as the script says", retry_at=retry_at)


def create(context: ProviderContext) -> Provider:
    """Creates the provider; see `providers.ProviderFactory`."""
    return ScriptedProvider(context)
