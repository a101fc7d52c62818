"""The machine of a story: a home, commands typed in a terminal, and a host that runs in another one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.terminal import Terminal, run_in_terminal

COLUMNS, WIDE = 100, 400
RUNTIME = "bubblewrap"
"""Available everywhere, in seconds. The transcript does not depend on it, except for the line that names it."""


@dataclass
class Machine:
    """`root`: somebody's home directory; nanohost is a checkout in it."""

    root: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "nanohost"

    @contextmanager
    def terminal(self, *words: str, columns: int = WIDE) -> Iterator[Terminal]:
        """`nanohost` with these arguments; in a wide terminal, because lines are wrapped later, when their paths have a
        fixed length."""
        with run_in_terminal([*_program(), *words], self._environment(), columns=columns, folder=self.home) as begun:
            yield begun

    def run(self, *words: str) -> str:
        """The screen when the command has ended."""
        with self.terminal(*words) as terminal:
            terminal.ends()
            return terminal.text()

    def run_until(self, shown: Sequence[str], *words: str, excluded: Sequence[str] = ()) -> str:
        """Repeat the command until its output has all of these texts, and none of the excluded ones."""
        ends = time.monotonic() + scaled_timeout(HANG_TIMEOUT_S)
        while not _matches(screen := self.run(*words), shown, excluded):
            assert time.monotonic() < ends, f"{shown}, not {excluded}: nanohost {' '.join(words)} says:\n{screen}"
        return screen

    @contextmanager
    def run_host(self) -> Iterator[subprocess.Popen[str]]:
        """`nanohost run`, ready, in another terminal; stopped by Ctrl-C."""
        environ = self._environment() | {"NANOHOST_LOG": "json"}
        with subprocess.Popen(
            [*_program(), "run"],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environ,
            cwd=self.home,
        ) as process:
            ready = threading.Event()
            reader = threading.Thread(target=self._read, args=(process, ready), name="log")
            reader.start()
            try:
                assert ready.wait(scaled_timeout(HANG_TIMEOUT_S)), "the host is not ready"
                yield process
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(scaled_timeout(HANG_TIMEOUT_S))
                finally:
                    process.kill()
                    reader.join()

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stderr is not None
        with (self.root / "host.log").open("a", encoding="utf-8") as log:
            for line in process.stderr:
                log.write(line)
                log.flush()
                if '"host_ready"' in line:
                    ready.set()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "NANOHOST_HOME": str(self.home),
            "NANOHOST_RUNTIME": RUNTIME,
            "NANOHOST_DURABLE": "false",
            **self.environ,
        }


def _matches(screen: str, shown: Sequence[str], but: Sequence[str]) -> bool:
    return all(one in screen for one in shown) and not any(one in screen for one in but)


def _program() -> list[str]:
    return [sys.executable, "-m", "nanohost"]
