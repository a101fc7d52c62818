"""Processes of this machine as /proc shows them: found by their arguments, named by pid and start time.

A pid alone is never trusted: the kernel gives it to somebody else one day. Linux only; every function blocks for
well under a millisecond, unless a process is just being started.
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
"""At a process that has no arguments yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process for ever. `start_ticks` is the kernel's start time, in clock ticks since boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A living process of this user. `pids` has one entry a process-id namespace, outermost (ours) first."""

    id: ProcessId
    parent_pid: int
    pids: tuple[int, ...]
    arguments: tuple[str, ...]


def read_start_ticks(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None when there is none. A zombie still counts."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets and may hold anything, so count from the last bracket.
    return int(stat.rpartition(")")[2].split()[19])


def find_processes(argument: str) -> Iterator[ProcessInfo]:
    """Every living process of this user that has `argument` among its arguments."""
    needle = b"\0" + argument.encode() + b"\0"
    for entry in os.scandir(PROC):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            command_line = _read_cmdline(Path(entry.path))
            if needle in command_line and (sighting := _process_info(int(entry.name), command_line)):
                yield sighting


def _read_cmdline(process: Path) -> bytes:
    """The arguments, each with a zero behind it. A program that is just being started has none for a moment, and would
    be overlooked; threads of the kernel and what has ended never have any, and no program either."""
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
    """A descriptor of exactly this process, readable once it has ended; None when it is gone. The caller closes it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if read_start_ticks(process.pid) == process.start_ticks:
        return descriptor
    os.close(descriptor)
    return None


def reap_exit_code(descriptor: int) -> int | None:
    """Reap an ended child of ours and tell its exit code as a shell would (137: killed). None for others' children."""
    try:
        ended = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def send_signal(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to exactly this process; nothing happens when it is gone."""
    descriptor = open_process(process)
    if descriptor is None:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
