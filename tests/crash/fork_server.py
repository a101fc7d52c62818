"""Hosts that start from a process which has their code loaded: four fifths of a start are spent on loading it.

    python nursery.py DOOR

A forked host does what `nanohost run` does from its first line on, in a process of its own, under the environment that
it is given. DOOR is the number of a socket; each request on it is answered through the pipe that comes with it: the
host's pid, and, once it has ended, how. The nursery ends with whoever started it; hosts do not.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import BinaryIO

MAX_MESSAGE_BYTES = 1 << 17


class ForkedProcess:
    """A host that was started here: as much of subprocess.Popen as is used of it."""

    def __init__(self, answers: int) -> None:
        """`answers`: the pipe that its pid and its end come from."""
        self._answers = answers
        self._code: int | None = None
        self.pid = self._read()

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended. Raises TimeoutExpired."""
        if self._code is None:
            ready, _, _ = select.select([self._answers], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("host", timeout or 0)
            self._code = self._read()
            os.close(self._answers)
        return self._code

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _read(self) -> int:
        answer = os.read(self._answers, 16)
        assert len(answer) == 16, "the nursery is gone"
        return int(answer)


class ForkServer:
    """One per process of tests."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            door = theirs.fileno()
            self._process = subprocess.Popen([sys.executable, "-P", __file__, str(door)], pass_fds=[door])
        self._socket = ours
        atexit.register(self._stop)

    def start(self, words: Sequence[str], *, log: BinaryIO, environment: Mapping[str, str]) -> ForkedProcess:
        """`words`: those of the command nanohost."""
        answers, theirs = os.pipe()
        request = json.dumps({"words": words, "environment": dict(environment)}).encode()
        try:
            socket.send_fds(self._socket, [request], [log.fileno(), theirs])
        finally:
            os.close(theirs)
        return ForkedProcess(answers)

    def _stop(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def fork_server() -> ForkServer:
    """The one of this process."""
    return ForkServer()


def main() -> None:
    _preload_modules()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    door = socket.socket(fileno=int(sys.argv[1]))
    while True:
        request, fds, _, _ = socket.recv_fds(door, MAX_MESSAGE_BYTES, 2)
        if not request:
            return
        if os.fork() == 0:
            door.close()
            _fork_host(json.loads(request), *fds)
        for fd in fds:
            os.close(fd)


def _preload_modules() -> None:
    """All that a host imports while it starts; what is imported later is there, too."""
    import nanohost.cli.host_process
    import nanohost.cli.main
    import nanohost.cli.run
    import nanohost.runtimes.process  # noqa: F401

    gc.freeze()


def _fork_host(request: Mapping[str, object], log: int, answers: int) -> None:
    """Fork the host and tell of it. Does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        _run_host(request, log)
    os.close(log)
    os.write(answers, b"%16d" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(answers, b"%16d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _run_host(request: Mapping[str, object], log: int) -> None:
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    sys.argv = ["nanohost", *request["words"]]  # type: ignore[misc]
    from nanohost.cli.main import main as host
    from nanohost_protocol import crash_points

    if crash_points.ENV_VARIABLE in os.environ:
        crash_points._trigger = crash_points.CrashTrigger(os.environ[crash_points.ENV_VARIABLE])
    code = 1
    try:
        code = host()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
