"""What a session's containers have said: one text that only grows, though it lies in two places.

A process writes into log/container.log itself. A Docker container's output is in the engine and comes into that file
when the container is buried; until then it is read from there. Neither grows without end: the engine keeps two
megabytes, and `run_log_truncation` cuts the files of those that write by themselves.
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
"""How far back in the file is read, and how long it may be while it is written."""
KEPT_LOG_BYTES = MAX_READ_BYTES // 2
TRUNCATE_INTERVAL_S = 5.0
REAP_CHECKS, REAP_CHECK_INTERVAL_S = 20, 0.1
"""A dead container is buried within a fraction of a second, unless no host runs that would."""

RunIfAllowed = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Runs the cut, or leaves it for the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOutput:
    """The last lines, oldest first. `missing_reason`: what could not be read and why, or empty."""

    lines: tuple[str, ...]
    missing_reason: str = ""


def read_output(session_dir: Path, *, runtime: str | None, state: Mapping[str, str], lines: int) -> ContainerOutput:
    """The last `lines` lines of a session. `runtime` and `state` are those of its container. Blocking."""
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
    """For ever: cut the logs in these session folders that have grown too long, when `run_if_allowed` runs the cut."""
    while True:
        await clock.sleep(TRUNCATE_INTERVAL_S)
        for session_dir in await folders():
            await run_if_allowed(partial(asyncio.to_thread, truncate_log, session_dir))


def truncate_log(session_dir: Path) -> None:
    """Leave only the end of a log that is too long. Whoever writes appends, and goes on behind it. Blocking."""
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

    for _ in range(REAP_CHECKS):
        # The file first: a container that lives after it was read has nothing in it.
        saved = _read_log(session_dir, lines)
        life, said = container_output(engine_id, lines)
        if life is not ContainerPhase.EXITED:
            break
        time.sleep(REAP_CHECK_INTERVAL_S)
    if life is ContainerPhase.REMOVED:
        return _read_log(session_dir, lines)
    return (*saved, *_split_lines(said))[-lines:]


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
