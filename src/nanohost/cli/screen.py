"""The plain screen of a chat, for pipes and simple terminals; see live_screen for all others.

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

from nanohost.cli.chat_input import PLAIN_LOCAL_HELP
from nanohost.cli.status_line import ACTIVITY_TTL_S, AgentActivity, PendingState, is_busy
from nanohost.cli.stdin_lines import read_lines
from nanohost.cli.terminal_client import TerminalMessage
from nanohost.commands.tables import replace_control_chars
from nanohost.text.phrases import format_time

CLEAR_LINE = "\r\033[K"


class Screen:
    """Replies on standard output, all else on standard error; remembers what is still owed an answer. What was to be
    said before it was `opened_at` is marked with its time in this `zone`."""

    def __init__(self, *, zone: tzinfo = UTC, opened_at: datetime | None = None) -> None:
        self._zone = zone
        self._opened_at = opened_at or datetime.now(UTC)
        self.is_host_in_process = False
        """The host that is talked to ends with this conversation."""
        self._is_terminal = sys.stdout.isatty()
        self._can_clear_line = os.environ.get("TERM") != "dumb"
        self._is_prompt_shown = False
        self._pending: list[str] = []
        self._answered_up_to = ""
        """The newest message with an answer of its own; ids sort. Those before it may be answered with it, or not."""
        self._help_requests: set[str] = set()
        self._asked_at = 0.0
        self._activity: AgentActivity | None = None
        self._has_seen_activity = False
        self._changed = asyncio.Event()

    def add_pending(self, id: str, *, is_help: bool = False) -> None:
        """A message was said. `is_help`: below its answer stands what can be typed here, too."""
        self._pending.append(id)
        if is_help:
            self._help_requests.add(id)
        self._asked_at = time.monotonic()
        self._changed.set()

    def show_message(self, message: TerminalMessage) -> None:
        if message.reply_to in self._pending:
            self._pending.remove(message.reply_to)
            self._answered_up_to = max(self._answered_up_to, message.reply_to)
        self._activity = None  # if that was not all, there is another sign within a second
        self._write_line(self._format_message(message), sys.stdout)
        if message.reply_to in self._help_requests:
            self._help_requests.discard(message.reply_to)
            self.show_notice(self.local_help)
        self.show_prompt()
        self._changed.set()

    def update_activity(self, activity: AgentActivity) -> None:
        """The agent is seen to be at work."""
        self._activity = activity
        self._has_seen_activity = True
        self._changed.set()

    @property
    def local_help(self) -> str:
        """What can be typed here beside what the host tells of."""
        return PLAIN_LOCAL_HELP

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, or to come."""
        return is_busy(self._make_pending_state(), time.monotonic())

    @property
    def pending_work_notice(self) -> str:
        """What happens to what is being done, when the conversation is left."""
        if self.is_host_in_process:
            return "What is not answered yet is kept: the next chat goes on with it."
        return "The work goes on without you; what comes of it is shown in the next chat."

    def show_notice(self, line: str) -> None:
        self._write_line(replace_control_chars(line), sys.stderr)

    def on_connection_change(self, is_connected: bool) -> None:
        """The host has gone, or is back."""
        gone = "The host has gone. What you type waits until one runs again: nanohost run"
        self.show_notice("The host is back." if is_connected else gone)
        self.show_prompt()

    def warn_not_accepted(self) -> None:
        """The host is there and has not taken a message."""
        self.show_notice("Not taken by the host yet; it is tried until it is. What is wrong: nanohost status")
        self.show_prompt()

    def close(self, unaccepted_count: int) -> None:
        """The last words: the shell's prompt shall not stand behind ours; what happens to the work is said, and what is
        forgotten."""
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
        """A line was typed: the cursor stands below the prompt."""
        self._is_prompt_shown = False

    async def wait_until_answered(self, timeout_s: float, *, activity_ttl_s: float = ACTIVITY_TTL_S) -> None:
        """Return when all is answered, or after so many seconds without any sign. What an agent says need not be all:
        while it is seen to be at work, or a message was passed over, it is waited for until all is quiet."""
        while self._pending or self._has_seen_activity:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s if self.unanswered_count else min(activity_ttl_s, timeout_s)):
                    await self._changed.wait()
            except TimeoutError:
                return

    @property
    def unanswered_count(self) -> int:
        """How many messages have no answer, nor one that may be theirs, too."""
        return sum(1 for id in self._pending if id > self._answered_up_to)

    async def read_lines(self, stdin: TextIO) -> AsyncGenerator[str, None]:
        """What is typed, until the end."""
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
        """Of what was to be said before this conversation: that it was, and when. It may be so no more."""
        if shown.created_at is None or shown.created_at >= self._opened_at:
            return ""
        return f" (earlier, {format_time(shown.created_at, self._opened_at, self._zone)})"

    def _write_line(self, line: str, stream: TextIO) -> None:
        if self._is_terminal and self._is_prompt_shown:
            write_to_terminal(CLEAR_LINE if self._can_clear_line else "\n", sys.stdout)
            self._is_prompt_shown = False
        write_to_terminal(f"{line}\n", stream)


def speaker_name(shown: TerminalMessage) -> str:
    """Whose words they are, as it is shown."""
    return "agent" if shown.agent is None and not shown.is_error else replace_control_chars(shown.agent or "nanohost")


def write_to_terminal(text: str, stream: TextIO) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
