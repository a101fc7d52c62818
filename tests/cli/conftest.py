"""The program nanohost as a person runs it: a process, a home of its own, agents as plain demo processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.fork_server import ForkedNanohost, can_fork


@dataclass(frozen=True, slots=True)
class Shell:
    """A shell in which commands are typed."""

    home: Path

    @contextmanager
    def start(self, *words: str, program: Sequence[str] = (), **environ: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command, through another program if one is named, without waiting for it. When the block ends before
        the command, the test has failed, and the command is killed. It is forked where that makes no difference."""
        settings = {
            "PATH": os.environ["PATH"],
            "NANOHOST_HOME": str(self.home),
            "NANOHOST_RUNTIME": "process",
            "NANOHOST_PROVIDER": "demo",
            "NANOHOST_DURABLE": "false",
        }
        options: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        options |= {"text": True, "env": settings | environ}
        command = [*program, sys.executable, "-m", "nanohost", *words]
        is_forked = not program and can_fork(settings | environ)
        with ForkedNanohost[str](words, **options) if is_forked else subprocess.Popen(command, **options) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    def run(self, *words: str, stdin: str = "", **environ: str) -> CommandResult:
        with self.start(*words, **environ) as process:
            out, err = process.communicate(stdin, timeout=scaled_timeout(HANG_TIMEOUT_S))
        return CommandResult(code=process.returncode, out=out, err=err)

    def run_json(self, *words: str) -> Any:
        """The command's result as JSON."""
        typed = self.run(*words, "--json")
        assert typed.code == 0, typed.err
        return json.loads(typed.out)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """A `nanohost run` that is ready."""

    process: subprocess.Popen[str]

    def stop(self, signal_number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signal_number)
        self.process.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
        return self.process.returncode


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


@pytest.fixture
def daemon(shell: Shell) -> Iterator[Daemon]:
    with shell.start("run", NANOHOST_LOG="json") as process:
        assert "host_ready" in _event_names(process.stderr or ())
        yield Daemon(process)
        process.kill()
    _stop_containers(shell)


def _event_names(lines: Sequence[str] | Any) -> list[str]:
    """The events of a log up to host_ready."""
    seen: list[str] = []
    for line in lines:
        if line.startswith("{"):
            seen.append(json.loads(line)["event"])
        if seen[-1:] == ["host_ready"]:
            break
    return seen


def _stop_containers(shell: Shell) -> None:
    """Containers outlive their host on purpose: a chat, which stops its own containers, adopts and stops them."""
    if list(shell.home.glob("sessions/*/*")):
        shell.run("chat", "--once", "bye")
