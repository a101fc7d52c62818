"""Shows the plain screen of a chat, for pipes and simple terminals; see live_screen for all others.

An agent's text cannot control the terminal. A closed window is no failure: its output is dropped.
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

from nanohost.cli.chat_input import PLAIN_LOCAL_HELP
from nanohost.cli.status_line import ACTIVITY_TTL_S, AgentActivity, PendingState, is_busy
from nanohost.cli.stdin_lines import read_lines
from nanohost.cli.terminal_client import TerminalMessage
from nanohost.commands.tables import replace_control_chars
from nanohost.text.phrases import format_time

CLEAR_LINE = "\r\033[K"


class Screen:
    """Writes replies to standard output and all else to standard error; tracks messages without an answer.

    Messages from before `opened_at` are marked with their time in `zone`.
    """

    def __init__(self, *, zone: tzinfo = UTC, opened_at: datetime | None = None) -> None:
        self._zone = zone
        self._opened_at = opened_at or datetime.now(UTC)
        self.is_host_in_process = False
        """The host runs in this process and ends with this conversation."""
        self._is_terminal = sys.stdout.isatty()
        self._can_clear_line = os.environ.get("TERM") != "dumb"
        self._is_prompt_shown = False
        self._pending: list[str] = []
        self._answered_up_to = ""
        """The newest message with its own answer; ids sort. That answer may also be for messages before it."""
        self._help_requests: set[str] = set()
        self._asked_at = 0.0
        self._activity: AgentActivity | None = None
        self._has_seen_activity = False
        self._changed = asyncio.Event()

    def add_pending(self, id: str, *, is_help: bool = False) -> None:
        """Records a sent message. `is_help`: the local help is shown below its answer."""
        self._pending.append(id)
        if is_help:
            self._help_requests.add(id)
        self._asked_at = time.monotonic()
        self._changed.set()

    def show_message(self, message: TerminalMessage) -> None:
        if message.reply_to in self._pending:
            self._pending.remove(message.reply_to)
            self._answered_up_to = max(self._answered_up_to, message.reply_to)
        self._activity = None  # if the agent still works, the next sign comes within a second
        self._write_line(self._format_message(message), sys.stdout)
        if message.reply_to in self._help_requests:
            self._help_requests.discard(message.reply_to)
            self.show_notice(self.local_help)
        self.show_prompt()
        self._changed.set()

    def update_activity(self, activity: AgentActivity) -> None:
        """Records that the agent is working."""
        self._activity = activity
        self._has_seen_activity = True
        self._changed.set()

    @property
    def local_help(self) -> str:
        """Returns help about input that is only for this terminal."""
        return PLAIN_LOCAL_HELP

    @property
    def is_busy(self) -> bool:
        """Returns whether an agent works, or an answer is expected."""
        return is_busy(self._make_pending_state(), time.monotonic())

    @property
    def pending_work_notice(self) -> str:
        """Returns what happens to pending work when the conversation ends."""
        if self.is_host_in_process:
            return "What is not answered yet is kept: the next chat goes on with it."
        return "The work goes on without you; what comes of it is shown in the next chat."

    def show_notice(self, line: str) -> None:
        self._write_line(replace_control_chars(line), sys.stderr)

    def on_connection_change(self, is_connected: bool) -> None:
        """Shows that the host is gone, or back."""
        gone = "The host has gone. What you type waits until one runs again: nanohost run"
        self.show_notice("The host is back." if is_connected else gone)
        self.show_prompt()

    def warn_not_accepted(self) -> None:
        """Warns that the connected host has not accepted a message."""
        self.show_notice("Not taken by the host yet; it is tried until it is. What is wrong: nanohost status")
        self.show_prompt()

    def close(self, unaccepted_count: int) -> None:
        """Ends the output on a new line, and says what happens to pending work and which messages are lost."""
        if self._is_terminal and self._is_prompt_shown:
            write_to_terminal("\n", sys.stdout)
            self._is_terminal = False
        if self.is_busy and not (unaccepted_count and unaccepted_count >= self.unanswered_count):
            self.show_notice(self.pending_work_notice)
        if unaccepted_count:
            self.show_notice(
                f"Forgotten, since no host took them: {unaccepted_count} of your messages. Say them again."
            )

    def show_prompt(self) -> None:
        self._is_prompt_shown = True
        if self._is_terminal:
            write_to_terminal("> ", sys.stdout)

    def mark_line_entered(self) -> None:
        """Records that a line was typed, so that the cursor is below the prompt."""
        self._is_prompt_shown = False

    async def wait_until_answered(self, timeout_s: float, *, activity_ttl_s: float = ACTIVITY_TTL_S) -> None:
        """Waits until all messages are answered, or for `timeout_s` without any sign of work.

        A first answer may not be the last one: while the agent works, or a message was skipped, it keeps waiting.
        """
        while self._pending or self._has_seen_activity:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s if self.unanswered_count else min(activity_ttl_s, timeout_s)):
                    await self._changed.wait()
            except TimeoutError:
                return

    @property
    def unanswered_count(self) -> int:
        """Returns how many messages have no answer, not even one that may be for them, too."""
        return sum(1 for id in self._pending if id > self._answered_up_to)

    async def read_lines(self, stdin: TextIO) -> AsyncGenerator[str, None]:
        """Yields typed lines until the end of input."""
        self.show_prompt()
        async for line in read_lines(stdin):
            self.mark_line_entered()
            yield line
            self.show_prompt()

    def _make_pending_state(self) -> PendingState:
        return PendingState(activity=self._activity, unanswered_count=self.unanswered_count, sent_at=self._asked_at)

    def _format_message(self, shown: TerminalMessage) -> str:
        text = replace_control_chars(f"! {shown.text}" if shown.is_error else shown.text)
        before = self._earlier_label(shown)
        if self._is_terminal:
            return f"{speaker_name(shown)}{before}: {text}"
        return f"{before.lstrip()} {text}" if before else text

    def _earlier_label(self, shown: TerminalMessage) -> str:
        """Returns a label with the time of a message from before this conversation, as it may be outdated."""
        if shown.created_at is None or shown.created_at >= self._opened_at:
            return ""
        return f" (earlier, {format_time(shown.created_at, self._opened_at, self._zone)})"

    def _write_line(self, line: str, stream: TextIO) -> None:
        if self._is_terminal and self._is_prompt_shown:
            write_to_terminal(CLEAR_LINE if self._can_clear_line else "\n", sys.stdout)
            self._is_prompt_shown = False
        write_to_terminal(f"{line}\n", stream)


def speaker_name(shown: TerminalMessage) -> str:
    """Returns the name of the sender as it is shown."""
    return "agent" if shown.agent is None and not shown.is_error else replace_control_chars(shown.agent or "nanohost")


def write_to_terminal(text: str, stream: TextIO) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
