# /// script
# dependencies = []
# [tool.nanohost]
# kind = "provider"
# api = 1
# unsandboxed = "always"
# ///
"""Answers without a model: needs no key and always answers the same, so that everything else can be tried.

It echoes, explains itself, sends a file, asks a question and reminds people. It answers each message separately.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

from agent_runner.commands import reply_without_model
from agent_runner.outbox import Outbox
from agent_runner.prompt import DecodedMessage, Prompt
from agent_runner.providers import Answer, Finished, Provider, ProviderContext, TurnEvent
from nanohost_protocol.payloads import ChatIn, SystemIn, TaskIn, TaskOut
from nanohost_protocol.rows import Usage
from nanohost_protocol.typed_times import parse_duration_s

HELP = """Hello! I am the demo: no model behind me, and no key needed. Try
- any text, and I say it back
- "send a file", and I send one
- "remind me in 10s to drink water", and I do
- "ask me", and I ask you to choose"""
QUESTION = "Which one do you like best?"
OPTIONS = ("Red", "Green", "Blue")

_REMIND_PATTERN = re.compile(r"remind me in (?P<wait>[\d a-z]+?) to (?P<what>.+)", re.IGNORECASE | re.DOTALL)

_OPTIONS_KEY = "asked"
"""The memory key for the options of a question that has not been answered."""


class DemoProvider:
    """See providers.Provider."""

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._pending_options: tuple[str, ...] = tuple(json.loads(context.memory.get(_OPTIONS_KEY, "[]")))
        self._prompts: asyncio.Queue[Prompt] = asyncio.Queue()

    async def begin(self, prompt: Prompt) -> None:
        self._prompts = asyncio.Queue()
        self._prompts.put_nowait(prompt)

    async def push(self, prompt: Prompt) -> None:
        self._prompts.put_nowait(prompt)

    async def events(self) -> AsyncIterator[TurnEvent]:
        done = 0
        while True:
            prompt = await self._prompts.get()
            for message in prompt.messages:
                if not message.row.trigger:
                    continue
                answer = reply_without_model(prompt.text) if prompt.is_command else await self._reply_to(message)
                if answer is not None:
                    yield Answer(text=answer, to_message=message.row.seq)
            done += 1
            memory = {_OPTIONS_KEY: json.dumps(self._pending_options)}
            yield Finished(prompts=done, usage=Usage(model="demo"), memory=memory)

    async def interrupt(self) -> None:
        return

    async def close(self) -> None:
        return

    async def _reply_to(self, message: DecodedMessage) -> str | None:
        """Returns the answer; None if a tool has given it or none is needed."""
        if isinstance(message.payload, ChatIn) and message.payload.event != "message":
            return None
        text = message.text.strip()
        if isinstance(message.payload, SystemIn):
            # A request to the host failed: pass the reason on to the person.
            return text if message.payload.about is not None else None
        if isinstance(message.payload, TaskIn):
            return f"Reminder: {text}"
        chosen, self._pending_options = _match_option(text, self._pending_options), ()
        if chosen is not None:
            return f"You chose {chosen}."
        return await self._run_action(text, message.row.seq)

    async def _run_action(self, text: str, number: int) -> str | None:
        outbox = self._context.toolbox.outbox
        assert outbox is not None, "a provider is only asked within a turn"
        if (reminder := _REMIND_PATTERN.fullmatch(text)) and (wait_s := parse_duration_s(reminder["wait"])) is not None:
            await outbox.schedule_task(TaskOut(prompt=reminder["what"], due=f"in {wait_s} s"))
            return f"I will remind you in {reminder['wait']}: {reminder['what']}"
        match text.casefold().rstrip(".!? "):
            case "hello" | "hi" | "help" | "/help" | "/start":
                return HELP
            case "send a file":
                await _send_file(outbox, number)
                return None
            case "ask me":
                self._pending_options = OPTIONS
                await outbox.ask_question(QUESTION, OPTIONS, re=number)
                return None
            case _:
                return f"You said: {text}"


async def _send_file(outbox: Outbox, number: int) -> None:
    await outbox.send_file("hello.txt", b"Hello from the demo.\n", caption="Here it is.", re=number)


def _match_option(text: str, options: tuple[str, ...]) -> str | None:
    """Returns the option with this number or label."""
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= len(options):
        return options[int(text) - 1]
    return next((option for option in options if option.casefold() == text.casefold()), None)


def create(context: ProviderContext) -> Provider:
    """Creates the provider; see `providers.ProviderFactory`."""
    return DemoProvider(context)
