"""Starts `nanohost` in processes forked from one that has its code loaded: loading it is most of a start.

    python fork_server.py SOCKET PADDING

A forked process does what `python -m nanohost` does from its first line on, in a process of its own, under the
environment that it is given. SOCKET is the number of a descriptor; each request on it is answered through the pipe that
comes with it: the pid, and, once the process has ended, its wait status. The server ends with whoever started it; what
it forked does not. A host clones its runners and readers (cloned_processes.py), whose command lines are written over
PADDING.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, AnyStr

MAX_REQUEST_BYTES = 1 << 17
ANSWER_BYTES = 16
NEEDS_A_START = ("PYTHON", "LANG", "LC_")
"""Prefixes of variables that Python reads while it starts."""

PADDING = "x" * 4096
STARTS_A_HOST = {"run", "chat"}
INHERITED_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""A started process keeps ignoring signals that its parent ignores."""


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a forked process is the same as a started one under this environment."""
    return environment.get("LANG", "C.UTF-8") == "C.UTF-8" and not any(
        name.startswith(NEEDS_A_START) for name in environment if name != "LANG"
    )


class ForkedNanohost(subprocess.Popen[AnyStr]):
    """A Popen of `nanohost WORDS` whose process is forked by the server. It takes what Popen takes of stdin, stdout,
    stderr, text, cwd and env, and nothing else."""

    def __init__(self, words: Sequence[str], *, has_terminal: bool = False, **options: Any) -> None:
        """`has_terminal`: its standard input becomes its controlling terminal."""
        self._has_terminal = has_terminal
        super().__init__(words, **options)

    def _execute_child(
        self,
        args: Sequence[str],
        executable: None,
        preexec_fn: None,
        close_fds: bool,
        pass_fds: Sequence[int],
        cwd: str | None,
        env: Mapping[str, str] | None,
        startupinfo: None,
        creationflags: int,
        shell: bool,
        *pipes_and_rest: Any,
    ) -> None:
        """Called by Popen to start the process: the two ends of each pipe come first, -1 where there is none."""
        pipes = pipes_and_rest[:6]
        stdin, _, _, stdout, _, stderr = pipes
        request = {
            "words": list(args),
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(cwd or Path.cwd()),
            "has_terminal": self._has_terminal,
            "ignored": [number for number in INHERITED_SIGNALS if signal.getsignal(number) is signal.SIG_IGN],
        }
        fds = [own if given == -1 else given for own, given in enumerate((stdin, stdout, stderr))]
        try:
            self._answers = fork_server().start(request, fds)
            self.pid = _read_answer(self._answers)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """As os.waitpid: the pid and the status, or 0 and 0 while it runs."""
        ready, _, _ = select.select([self._answers], [], [], 0 if wait_flags & os.WNOHANG else None)
        if not ready:
            return 0, 0
        status = _read_answer(self._answers)
        os.close(self._answers)
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def _read_answer(answers: int) -> int:
    answer = os.read(answers, ANSWER_BYTES)
    assert len(answer) == ANSWER_BYTES, "the fork server is gone"
    return int(answer)


class ForkServer:
    """One per process of tests."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen([sys.executable, "-P", __file__, str(number), PADDING], pass_fds=[number])
        self._socket = ours
        atexit.register(self._stop)

    def start(self, request: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Fork a process with these standard input, output and error; returns the pipe of its answers."""
        answers, theirs = os.pipe()
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [*fds, theirs])
        finally:
            os.close(theirs)
        return answers

    def _stop(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def fork_server() -> ForkServer:
    """The server of this process."""
    return ForkServer()


def main() -> None:
    _preload_modules()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(fileno=int(sys.argv[1]))
    while True:
        request, fds, _, _ = socket.recv_fds(server, MAX_REQUEST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            server.close()
            _fork(json.loads(request), fds)
            return
        for fd in fds:
            os.close(fd)


def _preload_modules() -> None:
    """Import everything that a host and a command import, including what they import later."""
    import nanohost.cli.host_process
    import nanohost.cli.main
    import nanohost.cli.run
    import nanohost.commands.registry
    import nanohost.runtimes.process  # noqa: F401

    root = str(Path(__file__).parent.parent.parent)
    sys.path.insert(0, root)  # for these lines only: nothing that is tested is found there
    import tests.support.cloned_processes  # noqa: F401
    from tests.support.clone_server import preload_modules

    sys.path.remove(root)
    preload_modules("reader")
    preload_modules("runner")
    gc.freeze()


def _fork(request: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Fork the process, and tell of it and of its end. Returns in neither process: each ends."""
    *standard, answers = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        _run_nanohost(request, standard)
    for fd in (0, 1, 2, *standard):
        os.close(fd)
    os.write(answers, b"%16d" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(answers, b"%16d" % status)
    os._exit(0)


def _run_nanohost(request: Mapping[str, Any], standard: Sequence[int]) -> None:
    """Ends as Python ends: with SystemExit."""
    for number, fd in enumerate(standard):
        os.dup2(fd, number)
        os.close(fd)
    if request["has_terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for ignored in request["ignored"]:
        signal.signal(ignored, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["folder"])
    sys.argv = ["nanohost", *request["words"]]
    _open_standard_streams()
    if STARTS_A_HOST.intersection(request["words"]):
        from tests.support.cloned_processes import fork_clone_server

        fork_clone_server()
    from nanohost.cli.main import main as nanohost
    from nanohost_protocol import crash_points

    if crash_points.ENV_VARIABLE in os.environ:
        crash_points._trigger = crash_points.CrashTrigger(os.environ[crash_points.ENV_VARIABLE])
    sys.exit(nanohost())


def _open_standard_streams() -> None:
    """As Python does when it starts with UTF-8: lines on a terminal, blocks elsewhere."""
    names = (
        ("stdin", "rb", "surrogateescape"),
        ("stdout", "wb", "surrogateescape"),
        ("stderr", "wb", "backslashreplace"),
    )
    for number, (name, mode, errors) in enumerate(names):
        file = open(number, mode, closefd=False)  # noqa: SIM115 - it lives as long as the process
        line_buffering = name == "stderr" or os.isatty(number)
        stream = io.TextIOWrapper(file, encoding="utf-8", errors=errors, line_buffering=line_buffering)
        setattr(sys, name, stream)


if __name__ == "__main__":
    main()
