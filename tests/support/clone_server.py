"""Clones itself into runners and readers for tests: loading their code is most of what their start costs.

    python OPTIONS clone_server.py SOCKET PROGRAM PATHS PADDING

It runs under the options and the environment of the program that it stands for, PROGRAM: "runner" or "reader". Each
request on SOCKET, the number of a descriptor, comes with standard input, output and error. A clone is a child of the
process that asked (CLONE_PARENT), as if that had started it; its command line is written over PADDING. It sends its pid
once it is what a started process would be. Uses only the standard library: a reader has nothing else. A host that was
forked (fork_server.py) forks its own server, for both programs (`serve`).
"""

import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import platform
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

MAX_REQUEST_BYTES = 1 << 17
CLONE_PARENT = 0x8000
CLONE_NUMBERS = {"x86_64": 56, "aarch64": 220}
"""The number of the system call by machine. Source: the kernel's tables."""
ARGUMENTS_START_FIELD, ARGUMENTS_END_FIELD = 48, 49
"""Fields of /proc/PID/stat, counted from 1: where the command line is in memory. Source: proc(5)."""


def main() -> None:
    server, program, paths = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3]
    sys.path[:0] = paths.split(os.pathsep) if paths else []
    preload_modules(program)
    gc.freeze()
    serve(server)


def serve(server: socket.socket) -> None:
    """Answer requests until the other end is closed."""
    while True:
        request, fds, _, _ = socket.recv_fds(server, MAX_REQUEST_BYTES, 3)
        if not request:
            return
        if _clone() == 0:
            wanted = json.loads(request)
            _become(wanted, fds, server)
            _run(wanted["program"])
            return
        for fd in fds:
            os.close(fd)


def preload_modules(program: str) -> None:
    """Import what the program imports, at its start and later."""
    if program == "reader":
        importlib.import_module("nanohost.mailbox.reader_process")
        return
    package = importlib.import_module("agent_runner")
    for module in pkgutil.iter_modules(package.__path__, "agent_runner."):
        importlib.import_module(module.name)
    for name in ("agent_runner.providers.demo", "agent_runner.providers.scripted", "zoneinfo"):
        importlib.import_module(name)


def _clone() -> int:
    """As os.fork, but the new process is a child of this one's parent."""
    python, libc = ctypes.pythonapi, ctypes.PyDLL(None)
    python.PyOS_BeforeFork()
    pid = libc.syscall(CLONE_NUMBERS[platform.machine()], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return int(pid)


def _become(request: dict[str, Any], fds: list[int], server: socket.socket) -> None:
    """Have what the request names: descriptors, session, environment, folder and command line. Then send the pid."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    if request["new_session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["folder"])
    _write_command_line(request["arguments"])
    sys.argv = [sys.argv[0], *request["program_arguments"]]
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115 - a descriptor, open to the end
        setattr(sys, name, io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", write_through=True))
    server.send(b"%d" % os.getpid())
    server.close()


def _write_command_line(arguments: list[str]) -> None:
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    start, end = (int(fields[number - 3]) for number in (ARGUMENTS_START_FIELD, ARGUMENTS_END_FIELD))
    line = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    if len(line) > end - start:
        raise ValueError("the command line is longer than the padding")
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def _run(program: str) -> None:
    if program == "reader":
        importlib.import_module("nanohost.mailbox.reader_process").main()
        return
    crash_points: Any = importlib.import_module("nanohost_protocol.crash_points")
    point = os.environ.get(crash_points.ENV_VARIABLE)
    crash_points._trigger = crash_points.CrashTrigger(point) if point else None
    sys.exit(importlib.import_module("agent_runner.__main__").main())


if __name__ == "__main__":
    main()
