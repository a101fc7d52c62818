"""Finds processes in /proc by their arguments, and identifies them by pid and start time.

A pid alone is never trusted, because the kernel reuses it. Linux only; every function blocks for well under a
millisecond, unless a process is just being started.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MAX_CMDLINE_READS, CMDLINE_RETRY_S = 20, 0.001
"""Retries for a process that has no arguments yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """Identifies one process uniquely. `start_ticks`: the kernel's start time, in clock ticks since boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A living process of this user. `pids`: its pid in each process-id namespace, the outermost (ours) first."""

    id: ProcessId
    parent_pid: int
    pids: tuple[int, ...]
    arguments: tuple[str, ...]


def read_start_ticks(pid: int) -> int | None:
    """Returns when the process started, in clock ticks since boot; None if it does not exist. A zombie exists."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets and may contain brackets, so count from the last one.
    return int(stat.rpartition(")")[2].split()[19])


def find_processes(argument: str) -> Iterator[ProcessInfo]:
    """Yields every living process of this user that has `argument` among its arguments."""
    needle = b"\0" + argument.encode() + b"\0"
    for entry in os.scandir(PROC):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            command_line = _read_cmdline(Path(entry.path))
            if needle in command_line and (process := _process_info(int(entry.name), command_line)):
                yield process


def _read_cmdline(process: Path) -> bytes:
    """Returns the arguments, each followed by a zero byte. Retries for a program that is just being started, which has
    none for a moment. Kernel threads and ended processes never have any, and no executable either: raises OSError."""
    for _ in range(MAX_CMDLINE_READS):
        if command_line := (process / "cmdline").read_bytes():
            return command_line
        (process / "exe").readlink()
        time.sleep(CMDLINE_RETRY_S)
    return b""


def _process_info(pid: int, command_line: bytes) -> ProcessInfo | None:
    started = read_start_ticks(pid)
    status = dict(
        line.split(":\t", 1) for line in (PROC / str(pid) / "status").read_text().splitlines() if ":\t" in line
    )
    if started is None or int(status["Uid"].split()[0]) != os.getuid():
        return None
    return ProcessInfo(
        id=ProcessId(pid=pid, start_ticks=started),
        parent_pid=int(status["PPid"]),
        pids=tuple(int(each) for each in status["NSpid"].split()),
        arguments=tuple(os.fsdecode(each) for each in command_line.rstrip(b"\0").split(b"\0")),
    )


def open_process(process: ProcessId) -> int | None:
    """Returns a descriptor of this process that becomes readable when it ends; None if it is gone. The caller
    closes it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if read_start_ticks(process.pid) == process.start_ticks:
        return descriptor
    os.close(descriptor)
    return None


def reap_exit_code(descriptor: int) -> int | None:
    """Reap an ended child and return its exit code as a shell would (137: killed). None if it is no child of ours."""
    try:
        status = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if status is None:
        return None
    return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status


def send_signal(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to exactly this process. Does nothing if it is gone."""
    descriptor = open_process(process)
    if descriptor is None:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
