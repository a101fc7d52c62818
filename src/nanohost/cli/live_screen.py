"""Shows the interactive screen of a chat: an editable line, above it a status line, above that the messages. People can
type while an agent works. It uses colours unless NO_COLOR is set.

Only this module uses prompt_toolkit; it is imported only with a terminal (see cli.chat).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import textwrap
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from nanohost.cli.chat_input import LOCAL_HELP
from nanohost.cli.colours import BOLD, DIM, GREEN, RED, RESET
from nanohost.cli.screen import Screen, speaker_name, write_to_terminal
from nanohost.cli.status_line import SPINNER_INTERVAL_S, status_line
from nanohost.cli.terminal_client import TerminalMessage
from nanohost.commands.tables import replace_control_chars
from nanohost.rendering.terminal import render_for_terminal

PROMPT, CONTINUATION_PROMPT = "you> ", "     "
MAX_MARKDOWN_CHARS = 50_000
"""Characters. A longer text is shown unrendered: parsing it as Markdown would take a good part of a second."""
MAX_HISTORY_BYTES = 256 * 1024
"""Bytes of the input history that are kept for the next conversation."""


class LiveScreen(Screen):
    """The interactive screen. `history`: the file with the input history."""

    def __init__(self, history: Path, environ: Mapping[str, str], *, zone: tzinfo = UTC) -> None:
        super().__init__(zone=zone)
        self._has_colours = not environ.get("NO_COLOR")
        self._is_ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
        self._is_exit_confirmed = False
        # Does not query the cursor position: the answer would mix with typed text, and not every terminal answers.
        output = Vt100_Output.from_pty(sys.stdout, term=environ.get("TERM"))
        output.enable_cpr = False
        self._prompt_session: PromptSession[str] = PromptSession(
            self._render_prompt,
            multiline=True,
            prompt_continuation=CONTINUATION_PROMPT,
            history=InputHistory(history),
            key_bindings=_make_key_bindings(),
            output=output,
            color_depth=None if self._has_colours else ColorDepth.DEPTH_1_BIT,
            enable_suspend=True,
            reserve_space_for_menu=0,
        )

    async def read_lines(self, stdin: TextIO) -> AsyncGenerator[str, None]:
        """Yields typed lines until Ctrl-D or Ctrl-C, which first shows what happens to pending work."""
        moving = asyncio.create_task(self._animate_status_line(), name="status line")
        try:
            with self._prompt_session.input.raw_mode():  # also between two lines, or a Ctrl-D would be lost
                while True:
                    try:
                        line = await self._prompt_session.prompt_async(handle_sigint=False, set_exception_handler=False)
                    except EOFError:
                        return
                    except KeyboardInterrupt:
                        if not self.is_busy or self._is_exit_confirmed:
                            return
                        self._is_exit_confirmed = True
                        self.show_notice(f"{self.pending_work_notice} /stop ends it. Ctrl-C once more leaves.")
                        continue
                    self._is_exit_confirmed = False
                    yield line
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)

    @property
    def local_help(self) -> str:
        return LOCAL_HELP

    def show_notice(self, line: str) -> None:
        columns = shutil.get_terminal_size().columns
        super().show_notice("\n".join(wrap_words(one, columns) for one in line.split("\n")))

    def show_prompt(self) -> None:
        """Does nothing: the prompt is always shown."""

    def _render_prompt(self) -> ANSI:
        """Returns the status line and the prompt of the input line. After sending, only the line remains."""
        status = ""
        if not self._prompt_session.app.is_done:
            columns = shutil.get_terminal_size().columns
            status = status_line(
                self._make_pending_state(), time.monotonic(), columns, is_ascii_only=self._is_ascii_only
            )
        above = f"{DIM}{status}{RESET}\n" if status else ""
        return ANSI(f"{above}{BOLD}{PROMPT}{RESET}")

    async def _animate_status_line(self) -> None:
        """Redraws the status line while an agent works."""
        while True:
            self._changed.clear()
            self._prompt_session.app.invalidate()
            if self.is_busy:
                await asyncio.sleep(SPINNER_INTERVAL_S)
            else:
                await self._changed.wait()

    def _format_message(self, shown: TerminalMessage) -> str:
        is_bad = shown.is_error or shown.is_failure
        colour = (RED if is_bad else GREEN) if self._has_colours else ""
        if len(shown.text) > MAX_MARKDOWN_CHARS:
            text = replace_control_chars(shown.text)
        else:
            text = render_for_terminal(shown.text, shutil.get_terminal_size().columns, use_colours=self._has_colours)
        return f"{BOLD}{colour}{speaker_name(shown)}{RESET}{self._earlier_label(shown)}\n{text}\n"

    def _write_line(self, line: str, stream: TextIO) -> None:
        """Writes a line above the prompt. It keeps the terminal's mode, or keys typed meanwhile would be lost."""
        if self._prompt_session.app.is_running:
            self._prompt_session.app.renderer.erase()
            self._prompt_session.app.invalidate()
        write_to_terminal(f"{line}\n", stream)


def wrap_words(line: str, columns: int) -> str:
    """Wraps a line between words."""
    return textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)


class InputHistory(FileHistory):
    """The input history in a file. Errors of the disk are ignored: they only shorten the history."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            _truncate_history(path)

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string.encode("utf-8", "replace").decode())


def _truncate_history(path: Path) -> None:
    """Removes the oldest entries from the file; each entry begins with an empty line."""
    if path.stat().st_size > MAX_HISTORY_BYTES:
        kept = path.read_bytes()[-MAX_HISTORY_BYTES // 2 :]
        path.write_bytes(kept[max(kept.find(b"\n\n"), 0) :])


def _make_key_bindings() -> KeyBindings:
    """Returns the changed keys: Enter sends; Alt-Enter, or Enter after a backslash, begins a new line; Ctrl-C first
    clears the input."""
    keys = KeyBindings()

    @keys.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end_of_line:
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    # A Ctrl-D typed before the prompt was shown: the terminal passes it on as NUL, which is Ctrl-@.
    @keys.add("c-@", filter=has_focus(DEFAULT_BUFFER))
    def _(event: KeyPressEvent) -> None:
        if not event.current_buffer.text:
            event.app.exit(exception=EOFError)

    return keys
