"""Starts the runners and readers of a host in the tests' own process as clones of a process that has their code loaded.

`clone_host_children` replaces `subprocess` in the two modules of the host that start them. What is no runner and no
reader, and what a clone could not be (another interpreter or locale), is started as ever.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, AnyStr

from nanohost.mailbox import reader_client
from nanohost.runtimes import launch
from nanohost.runtimes.runner_command import RUNNER_ARGUMENTS
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.clone_server import CLONE_NUMBERS, serve

SERVER = Path(__file__).with_name("clone_server.py")
PADDING = "x" * 4096
READER_OPTIONS = ("-I", "-S", "-c")


def _program(arguments: Sequence[str]) -> str | None:
    if platform.machine() not in CLONE_NUMBERS or arguments[0] != sys.executable:
        return None
    if tuple(arguments[1:4]) == RUNNER_ARGUMENTS:
        return "runner"
    return "reader" if tuple(arguments[1:4]) == READER_OPTIONS and arguments[4] == reader_client._BOOTSTRAP else None


class HostChild(subprocess.Popen[AnyStr]):
    """A Popen whose process is a clone if it is a runner or a reader. It takes what the host gives a Popen for them."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Called by Popen to start the process, with the parameters of the standard library's method."""
        _, _, _, pass_fds, cwd, env, _, _, _, *pipes = rest
        program = None if pass_fds else _program(args)
        if program is None:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        sys.audit("subprocess.Popen", None, args, cwd, env)
        stdin, _, _, stdout, _, stderr = pipes[:6]
        new_session = pipes[11]
        options = 3 if program == "reader" else 4
        request = {
            "program": program,
            "arguments": list(args),
            "program_arguments": list(args[options:]),
            "environment": dict(env),
            "folder": os.fspath(cwd or Path.cwd()),
            "new_session": bool(new_session),
        }
        paths = os.pathsep.join(args[5:]) if program == "reader" else ""
        python = tuple(sorted((name, value) for name, value in env.items() if name.startswith(("PYTHON", "LANG"))))
        fds = [own if given == -1 else given for own, given in enumerate((stdin, stdout, stderr))]
        try:
            server = _forked_servers[-1] if _forked_servers else clone_server(program, paths, python)
            self.pid = server.start(request, fds)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes[:6])  # type: ignore[attr-defined]


class CloneServer:
    """The client's side of a server."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(scaled_timeout(HANG_TIMEOUT_S))
        self._lock = threading.Lock()
        self._socket = connection

    def start(self, request: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Returns the pid of a new clone with these standard input, output and error."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], fds)
            answer = self._socket.recv(32)
        assert answer, "the clone server is gone"
        return int(answer)


@cache
def clone_server(program: str, paths: str, environment: tuple[tuple[str, str], ...]) -> CloneServer:
    """The server of this process for such children."""
    options = READER_OPTIONS[:2] if program == "reader" else RUNNER_ARGUMENTS[:1]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, *options, str(SERVER), str(theirs.fileno()), program, paths, PADDING],
            pass_fds=[theirs.fileno()],
            env=dict(environment),
            cwd="/",
        )

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return CloneServer(ours)


_forked_servers: list[CloneServer] = []


def fork_clone_server() -> None:
    """Clone what this process starts from a fork of it as it is now: one thread, the code of both programs loaded."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        os.setsid()  # what a terminal sends is for the host
        with Path(os.devnull).open("r+b") as nothing:
            for number in (0, 1, 2):
                os.dup2(nothing.fileno(), number)
        serve(theirs)
        os._exit(0)
    theirs.close()
    _forked_servers.append(CloneServer(ours))
    _replace_subprocess()


class _Subprocess:
    """The module subprocess, with another Popen."""

    Popen = HostChild

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


@contextmanager
def clone_host_children() -> Iterator[None]:
    """Clone the runners and readers that are started in this process while entered."""
    _replace_subprocess()
    try:
        yield
    finally:
        for module in (launch, reader_client):
            module.subprocess = subprocess  # type: ignore[attr-defined]


def _replace_subprocess() -> None:
    for module in (launch, reader_client):
        module.subprocess = _Subprocess()  # type: ignore[attr-defined]
