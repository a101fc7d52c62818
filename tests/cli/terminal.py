"""A pseudo-terminal that runs the program, and the text on its screen."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyte

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.fork_server import ForkedNanohost, can_fork

COLUMNS, LINES = 72, 24
NANOHOST = (sys.executable, "-m", "nanohost")
ENTER, CTRL_C, CTRL_D, UP, LEFT, ALT_ENTER = "\r", "\x03", "\x04", "\x1b[A", "\x1b[D", "\x1b\r"


def bracketed_paste(text: str) -> str:
    """The bytes that a terminal sends for pasted text."""
    return f"\x1b[200~{text}\x1b[201~"


@dataclass(slots=True)
class Terminal:
    """`screen` is the visible text; `raw` is everything that the program has written."""

    process: subprocess.Popen[bytes]
    master: int
    screen: pyte.HistoryScreen = field(default_factory=lambda: pyte.HistoryScreen(COLUMNS, LINES, history=2000))
    raw: bytes = b""

    def __post_init__(self) -> None:
        self._stream = pyte.ByteStream(self.screen)

    _stream: pyte.ByteStream = field(init=False)

    def send_keys(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def send_line(self, line: str) -> None:
        """Type a line and send it."""
        self.send_keys(line + ENTER)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        self.screen.resize(LINES, columns)

    def lines(self) -> list[str]:
        """The lines on the screen, from the first line that was ever shown, without empty ones at the end."""
        columns = range(self.screen.columns)
        above = ["".join(line[column].data for column in columns) for line in self.screen.history.top]
        shown = [line.rstrip() for line in [*above, *self.screen.display]]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def text(self) -> str:
        return "\n".join(self.lines())

    def wait_until(self, happened: Callable[[str], bool], *, timeout_s: float = HANG_TIMEOUT_S) -> str:
        """Read until the screen fulfils the condition; returns it."""
        wait_for_exit = time.monotonic() + scaled_timeout(timeout_s)
        while not happened(self.text()):
            assert time.monotonic() < wait_for_exit, f"never happened; the screen:\n{self.text()}"
            self._read(0.5)
        return self.text()

    def wait_for_text(self, *words: str) -> str:
        return self.wait_until(lambda text: all(word in text for word in words))

    def ends(self) -> int:
        """Wait for the end of the program and of its output; returns the exit code."""
        ends = time.monotonic() + scaled_timeout(HANG_TIMEOUT_S)
        while self._read(0.5) and time.monotonic() < ends:
            pass
        return self.process.wait(scaled_timeout(HANG_TIMEOUT_S))

    def _read(self, timeout_s: float) -> bool:
        """Returns False at the end of the output."""
        if not select.select([self.master], [], [], timeout_s)[0]:
            return self.process.poll() is None
        try:
            some = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += some
        self._stream.feed(some)
        return bool(some)


@contextmanager
def run_nanohost_in_terminal(
    home: Path, *words: str, term: str = "xterm-256color", **environ: str
) -> Iterator[Terminal]:
    """Run `nanohost` with these arguments in a terminal of its own."""
    settings = {
        "PATH": os.environ["PATH"],
        "TERM": term,
        "NANOHOST_TIMEZONE": "UTC",  # otherwise a machine in UTC would ask for it first
        "LANG": "C.UTF-8",
        "NANOHOST_HOME": str(home),
        "NANOHOST_RUNTIME": "process",
        "NANOHOST_PROVIDER": "demo",
        "NANOHOST_DURABLE": "false",
    }
    with run_in_terminal([*NANOHOST, *words], settings | environ) as begun:
        yield begun


@contextmanager
def run_in_terminal(
    command: Sequence[str], environ: Mapping[str, str], *, columns: int = COLUMNS, folder: Path | None = None
) -> Iterator[Terminal]:
    """Run any program in a terminal of its own; nanohost is forked where that makes no difference."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    options: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave, "env": environ, "cwd": folder}
    process: subprocess.Popen[bytes]
    if tuple(command[: len(NANOHOST)]) == NANOHOST and can_fork(environ):
        process = ForkedNanohost(command[len(NANOHOST) :], has_terminal=True, **options)
    else:
        process = subprocess.Popen(command, preexec_fn=_acquire_terminal, **options)
    os.close(slave)
    try:
        yield Terminal(process, master, pyte.HistoryScreen(columns, LINES, history=2000))
    finally:
        os.close(master)  # the terminal is closed: the program ends in order, and stops its containers
        try:
            process.wait(scaled_timeout(HANG_TIMEOUT_S))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _acquire_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
