"""The people and agents of the crash suite, and what people should see in the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nanohost.clock import SystemClock
from nanohost.config.home import Home, lock_home
from nanohost.db import agent_groups, messaging_groups, wirings
from nanohost.db.database import Transaction
from nanohost.model import EngageMode, SessionMode, UnknownSender
from tests.crash.platform import FakePlatform
from tests.support.template_home import opened_store

FOLDER = "main"
SCRIPT = [
    {"match": "^later", "actions": [{"answer": "done: {text}"}]},
    {
        "match": "^tool",
        "actions": [
            {"tool": "send_message", "arguments": {"text": "sent: {text}"}},
            {"tool": "schedule_task", "arguments": {"prompt": "later {text}", "at": "in 0 s"}},
            {"sleep_s": 0.05},
            {"answer": "echo: {text}"},
        ],
    },
    {
        "match": "^ask",
        "actions": [
            {"tool": "ask_user_question", "arguments": {"question": "and {text}?", "wait_minutes": 0}},
            {"answer": "echo: {text}"},
        ],
    },
    {"match": ".", "actions": [{"sleep_s": 0.02}, {"answer": "echo: {text}"}]},
]
"""Every message is answered; every third one also makes the agent use its tools in the middle of its turn: it says
something, and makes a task that falls due at once and is answered too. Some make it ask something, without waiting: the
next message in the chat answers that, and is answered like any other."""
LONG_ANSWER_INTERVAL = 5
QUESTION_INTERVAL = 7
PARTS = 3
"""Length of a long message, and of its answer: two of them are more than the platform takes at once."""
FILLER = "and so on " * 30


class UserWorkload:
    """Write numbered messages to chats in turn."""

    def __init__(self, platform: FakePlatform, chats: int, *, tool_every: int = 3) -> None:
        self._platform = platform
        self._chats = chats
        self._tool_every = tool_every
        self.write_count = 0

    def write(self) -> None:
        """One more message to the next chat."""
        number = self.write_count
        self.write_count += 1
        self._platform.write(f"m{number}", self._chat(number), self._text(number))

    def expected(self) -> set[tuple[str, str]]:
        """What people should have seen in the end, each once, as (chat, text)."""
        seen: set[tuple[str, str]] = set()
        for number in range(self.write_count):
            seen.update((self._chat(number), part) for part in self._answer(number))
            if self._uses_tool(number):
                seen.add((self._chat(number), f"sent: {self._text(number)}"))
                seen.add((self._chat(number), f"done: later {self._text(number)}"))
            if self._asks(number):
                seen.add((self._chat(number), f"and {self._text(number)}?"))
        return seen

    def multipart_texts(self) -> list[list[tuple[str, str]]]:
        """The long answers, whose parts must be seen in order."""
        answers = [(self._chat(number), self._answer(number)) for number in range(self.write_count)]
        return [[(chat, part) for part in parts] for chat, parts in answers if len(parts) > 1]

    def find_anomalies(self, root: Path) -> Iterator[str]:
        """Other anomalies: none that can be predicted."""
        del root
        return iter(())

    def _answer(self, number: int) -> list[str]:
        return f"echo: {self._text(number)}".split("\n\n")

    def _chat(self, number: int) -> str:
        return f"c{number % self._chats}"

    def _text(self, number: int) -> str:
        if self._uses_tool(number):
            return f"tool {number}"
        if self._asks(number):
            return f"ask {number}"
        if number % LONG_ANSWER_INTERVAL:
            return f"message {number}"
        return "\n\n".join(f"message {number} part {part} {FILLER}".strip() for part in range(1, PARTS + 1))

    def _uses_tool(self, number: int) -> bool:
        return number % self._tool_every == 0

    def _asks(self, number: int) -> bool:
        return number % QUESTION_INTERVAL == 1 and number % LONG_ANSWER_INTERVAL != 0 and not self._uses_tool(number)


@dataclass(frozen=True, slots=True)
class Chat:
    name: str
    is_group: bool = False
    unknown: UnknownSender = UnknownSender.PUBLIC


async def prepare_workload_home(root: Path, chats: int) -> None:
    """An agent group and that many chats wired to it, in a home without a host."""
    async with prepared_home(root, [Chat(f"c{number}") for number in range(chats)], script=json.dumps(SCRIPT)):
        pass


@asynccontextmanager
async def prepared_home(
    root: Path, chats: Sequence[Chat], *, script: str
) -> AsyncIterator[tuple[Transaction, datetime]]:
    """An agent group whose agent plays the script, and chats wired to it; what is entered meanwhile is theirs, too."""
    home, now = Home(root), SystemClock().now()
    with lock_home(home):
        async with opened_store(home, durable=False) as store, store.transaction() as tx:
            group = await agent_groups.add(tx, folder=FOLDER, name=FOLDER, provider=None, model=None, now=now)
            for one in chats:
                chat = await messaging_groups.add(
                    tx,
                    channel_type="wire",
                    instance="default",
                    platform_id=one.name,
                    is_group=one.is_group,
                    name=one.name,
                    unknown_sender=one.unknown,
                    now=now,
                )
                await wirings.add(
                    tx,
                    messaging_group=chat.id,
                    agent_group=group.id,
                    engage_mode=EngageMode.PATTERN,
                    engage_pattern=".",
                    session_mode=SessionMode.SHARED,
                    priority=0,
                    now=now,
                )
            yield tx, now
    folder = home.groups / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.json").write_text(script)
