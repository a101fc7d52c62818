"""Reads and truncates the output of a session's containers, which is in two places.

A process writes into log/container.log itself. A Docker container's output is kept by the engine, and is read there
until the container is removed and its output is appended to that file. Both are limited: the engine keeps two
megabytes, and `run_log_truncation` truncates the files.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nanohost.clock import Clock
from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.session_folders import MAX_LOG_BYTES, container_log_path, disk_usage_bytes

MAX_READ_BYTES = MAX_LOG_BYTES
"""The most that is read from the end of the file, and the length above which it is truncated."""
KEPT_LOG_BYTES = MAX_READ_BYTES // 2
TRUNCATE_INTERVAL_S = 5.0
REAP_CHECKS, REAP_CHECK_INTERVAL_S = 20, 0.1
"""A dead container is removed within a fraction of a second, unless no host runs."""

RunIfAllowed = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Runs the truncation, or skips it until the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOutput:
    """The last lines of output, oldest first. `missing_reason`: what could not be read and why, or empty."""

    lines: tuple[str, ...]
    missing_reason: str = ""


def read_output(session_dir: Path, *, runtime: str | None, state: Mapping[str, str], lines: int) -> ContainerOutput:
    """Returns the last `lines` lines of a session's output. `runtime` and `state`: of its container. Blocking."""
    if runtime != "docker" or "id" not in state:
        return ContainerOutput(lines=_read_log(session_dir, lines))
    try:
        return ContainerOutput(lines=_read_with_engine(session_dir, state["id"], lines))
    except RuntimeUnavailable as error:
        return ContainerOutput(
            lines=_read_log(session_dir, lines), missing_reason=f"what the container says now: {error}"
        )


async def run_log_truncation(
    folders: Callable[[], Awaitable[Sequence[Path]]], run_if_allowed: RunIfAllowed, clock: Clock
) -> None:
    """Run for ever: truncate the logs in these session folders that are too long, if `run_if_allowed` allows it."""
    while True:
        await clock.sleep(TRUNCATE_INTERVAL_S)
        for session_dir in await folders():
            await run_if_allowed(partial(asyncio.to_thread, truncate_log, session_dir))


def truncate_log(session_dir: Path) -> None:
    """Keep only the end of a log that is too long. A writer that appends continues after it. Blocking."""
    with suppress(OSError):
        descriptor = os.open(container_log_path(session_dir), os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if disk_usage_bytes(descriptor) > MAX_READ_BYTES:
                file.seek(max(0, os.fstat(descriptor).st_size - KEPT_LOG_BYTES))
                kept = file.read(KEPT_LOG_BYTES)
                file.truncate(0)
                file.write(kept)


def _read_with_engine(session_dir: Path, engine_id: str, lines: int) -> tuple[str, ...]:
    from nanohost.runtimes.docker_engine import (  # the engine's client, only where there is one
        ContainerPhase,
        container_output,
    )

    for check in range(REAP_CHECKS):
        # Read the file first: the output of a container that is alive after that cannot be in it.
        saved = _read_log(session_dir, lines)
        phase, output = container_output(engine_id, lines)
        if phase is ContainerPhase.REMOVED:
            break
        if phase is not ContainerPhase.EXITED or check == REAP_CHECKS - 1:
            return (*saved, *_split_lines(output))[-lines:]
        time.sleep(REAP_CHECK_INTERVAL_S)
    return _read_log(session_dir, lines)


def _read_log(session_dir: Path, lines: int) -> tuple[str, ...]:
    try:
        with os.fdopen(
            os.open(container_log_path(session_dir), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb"
        ) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_READ_BYTES))
            return _split_lines(file.read(MAX_READ_BYTES))[-lines:]
    except OSError:
        return ()


def _split_lines(output: bytes) -> tuple[str, ...]:
    return (
        tuple(output.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")) if output else ()
    )
