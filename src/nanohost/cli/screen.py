"""What a person in a conversation sees: replies, a prompt, and what became of the host.

Nothing an agent says commands the terminal, and a window that is closed is no failure: what it would show is dropped.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from typing import TextIO

from nanohost.cli.terminal_client import Shown
from nanohost.commands.show import harmless

CLEAR_LINE = "\r\033[K"
QUIET_S = 3.0
"""Without a sign that the agent is at work, of which there is one a second or two (see the terminal's channel)."""


class Screen:
    """Replies on standard output, all else on standard error; remembers what is still owed an answer."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._is_prompted = False
        self._owed: list[str] = []
        self._answered_up_to = ""
        """The newest message with an answer of its own; ids sort. Those before it may be answered with it, or not."""
        self._seen_at_work = False
        self._changed = asyncio.Event()

    def asked(self, id: str) -> None:
        self._owed.append(id)

    def show(self, shown: Shown) -> None:
        self._say(harmless(f"! {shown.text}" if shown.is_error else shown.text), sys.stdout)
        self.prompt()
        if shown.reply_to in self._owed:
            self._owed.remove(shown.reply_to)
            self._answered_up_to = max(self._answered_up_to, shown.reply_to)
        self._changed.set()

    def at_work(self) -> None:
        """The agent is seen to be at work."""
        self._seen_at_work = True
        self._changed.set()

    def tell(self, line: str) -> None:
        self._say(line, sys.stderr)

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
        """The last words: the shell's prompt shall not stand behind ours, and what is forgotten is said."""
        if self._is_terminal and self._is_prompted:
            _write("\n", sys.stdout)
        if lost:
            self.tell(f"Forgotten, since no host took them: {lost} of your messages. Say them again.")

    def prompt(self) -> None:
        self._is_prompted = True
        if self._is_terminal:
            _write("> ", sys.stdout)

    def entered(self) -> None:
        """A line was typed: the cursor stands below the prompt."""
        self._is_prompted = False

    async def until_answered(self, limit_s: float, *, quiet_s: float = QUIET_S) -> None:
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

    def _say(self, line: str, stream: TextIO) -> None:
        if self._is_terminal:
            _write(CLEAR_LINE, sys.stdout)
        _write(f"{line}\n", stream)


def _write(text: str, stream: TextIO) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
