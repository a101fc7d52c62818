"""What a person in a conversation sees: replies, a prompt, and what became of the host.

Nothing an agent says commands the terminal, and a window that is closed is no failure: what it would show is dropped.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from contextlib import suppress
from typing import TextIO

from nanohost.cli.terminal_client import Shown
from nanohost.commands.show import harmless

CLEAR_LINE = "\r\033[K"


class Screen:
    """Replies on standard output, all else on standard error; remembers what is still owed an answer."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._is_prompted = False
        self._owed: list[str] = []
        self._changed = asyncio.Event()

    def asked(self, id: str) -> None:
        self._owed.append(id)

    def show(self, shown: Shown) -> None:
        self._say(harmless(f"! {shown.text}" if shown.is_error else shown.text), sys.stdout)
        self.prompt()
        if shown.reply_to in self._owed:
            del self._owed[: self._owed.index(shown.reply_to) + 1]
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

    async def until_answered(self, limit_s: float) -> None:
        """Return when nothing is owed, or after the limit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._owed:
                    self._changed.clear()
                    await self._changed.wait()

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
