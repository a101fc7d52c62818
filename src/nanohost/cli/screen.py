"""What a person in a conversation sees: replies, a prompt, and what became of the host. Plain: for pipes, and terminals
that can do no more; see live_screen for all others.

Nothing an agent says commands the terminal, and a window that is closed is no failure: what it would show is dropped.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, tzinfo
from typing import TextIO

from nanohost.cli.status_line import FADES_S, Doing, Situation, is_busy
from nanohost.cli.terminal_client import Shown
from nanohost.cli.typed_words import PLAIN_HELP
from nanohost.commands.show import harmless
from nanohost.phrases import clock_time
from nanohost.stdin_lines import typed_lines

CLEAR_LINE = "\r\033[K"


class Screen:
    """Replies on standard output, all else on standard error; remembers what is still owed an answer. What was to be
    said before it was `opened_at` is marked with its time in this `zone`."""

    def __init__(self, *, zone: tzinfo = UTC, opened_at: datetime | None = None) -> None:
        self._zone = zone
        self._opened_at = opened_at or datetime.now(UTC)
        self.is_host_here = False
        """The host that is talked to ends with this conversation."""
        self._is_terminal = sys.stdout.isatty()
        self._clears = os.environ.get("TERM") != "dumb"
        self._is_prompted = False
        self._owed: list[str] = []
        self._answered_up_to = ""
        """The newest message with an answer of its own; ids sort. Those before it may be answered with it, or not."""
        self._for_help: set[str] = set()
        self._asked_at = 0.0
        self._doing: Doing | None = None
        self._seen_at_work = False
        self._changed = asyncio.Event()

    def asked(self, id: str, *, for_help: bool = False) -> None:
        """A message was said. `for_help`: below its answer stands what can be typed here, too."""
        self._owed.append(id)
        if for_help:
            self._for_help.add(id)
        self._asked_at = time.monotonic()
        self._changed.set()

    def show(self, shown: Shown) -> None:
        if shown.reply_to in self._owed:
            self._owed.remove(shown.reply_to)
            self._answered_up_to = max(self._answered_up_to, shown.reply_to)
        self._doing = None  # if that was not all, there is another sign within a second
        self._say(self._worded(shown), sys.stdout)
        if shown.reply_to in self._for_help:
            self._for_help.discard(shown.reply_to)
            self.tell(self.local_help)
        self.prompt()
        self._changed.set()

    def at_work(self, doing: Doing) -> None:
        """The agent is seen to be at work."""
        self._doing = doing
        self._seen_at_work = True
        self._changed.set()

    @property
    def local_help(self) -> str:
        """What can be typed here beside what the host tells of."""
        return PLAIN_HELP

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, or to come."""
        return is_busy(self._situation(), time.monotonic())

    @property
    def what_becomes(self) -> str:
        """What becomes of what is being done, when the conversation is left."""
        if self.is_host_here:
            return "What is not answered yet is kept: the next chat goes on with it."
        return "The work goes on without you; what comes of it is shown in the next chat."

    def tell(self, line: str) -> None:
        self._say(harmless(line), sys.stderr)

    def on_line(self, is_back: bool) -> None:
        """The host has gone, or is back."""
        gone = "The host has gone. What you type waits until one runs again: nanohost run"
        self.tell("The host is back." if is_back else gone)
        self.prompt()

    def doubt(self) -> None:
        """The host is there and has not taken a message."""
        self.tell("Not taken by the host yet; it is tried until it is. What is wrong: nanohost status")
        self.prompt()

    def leave(self, lost: int) -> None:
        """The last words: the shell's prompt shall not stand behind ours; what becomes of the work is said, and what is
        forgotten."""
        if self._is_terminal and self._is_prompted:
            write("\n", sys.stdout)
            self._is_terminal = False
        if self.is_busy and not (lost and lost >= self.unanswered):
            self.tell(self.what_becomes)
        if lost:
            self.tell(f"Forgotten, since no host took them: {lost} of your messages. Say them again.")

    def prompt(self) -> None:
        self._is_prompted = True
        if self._is_terminal:
            write("> ", sys.stdout)

    def entered(self) -> None:
        """A line was typed: the cursor stands below the prompt."""
        self._is_prompted = False

    async def until_answered(self, limit_s: float, *, quiet_s: float = FADES_S) -> None:
        """Return when all is answered, or after so many seconds without any sign. What an agent says need not be all:
        while it is seen to be at work, or a message was passed over, it is waited for until all is quiet."""
        while self._owed or self._seen_at_work:
            self._changed.clear()
            try:
                async with asyncio.timeout(limit_s if self.unanswered else min(quiet_s, limit_s)):
                    await self._changed.wait()
            except TimeoutError:
                return

    @property
    def unanswered(self) -> int:
        """How many messages have no answer, nor one that may be theirs, too."""
        return sum(1 for id in self._owed if id > self._answered_up_to)

    async def lines(self, stdin: TextIO) -> AsyncGenerator[str, None]:
        """What is typed, until the end."""
        self.prompt()
        async for line in typed_lines(stdin):
            self.entered()
            yield line
            self.prompt()

    def _situation(self) -> Situation:
        return Situation(doing=self._doing, owed=self.unanswered, asked_at=self._asked_at)

    def _worded(self, shown: Shown) -> str:
        text = harmless(f"! {shown.text}" if shown.is_error else shown.text)
        before = self._before(shown)
        if self._is_terminal:
            return f"{speaker(shown)}{before}: {text}"
        return f"{before.lstrip()} {text}" if before else text

    def _before(self, shown: Shown) -> str:
        """Of what was to be said before this conversation: that it was, and when. It may be so no more."""
        if shown.at is None or shown.at >= self._opened_at:
            return ""
        return f" (earlier, {clock_time(shown.at, self._opened_at, self._zone)})"

    def _say(self, line: str, stream: TextIO) -> None:
        if self._is_terminal and self._is_prompted:
            write(CLEAR_LINE if self._clears else "\n", sys.stdout)
            self._is_prompted = False
        write(f"{line}\n", stream)


def speaker(shown: Shown) -> str:
    """Whose words they are, as it is shown."""
    return "agent" if shown.agent is None and not shown.is_error else harmless(shown.agent or "nanohost")


def write(text: str, stream: TextIO) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
