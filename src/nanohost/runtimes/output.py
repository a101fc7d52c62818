"""What a session's containers have said: one text that only grows, though it lies in two places.

A process writes into log/container.log itself. A Docker container's output is in the engine and comes into that file
when the container is buried; until then it is read from there. Neither grows without end: the engine keeps two
megabytes, and `keep_short` cuts the files of those that write by themselves.
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
from nanohost.runtimes.folders import LOG_CAP_BYTES, container_log, taken

MOST_BYTES = LOG_CAP_BYTES
"""How far back in the file is read, and how long it may be while it is written."""
KEPT_BYTES = MOST_BYTES // 2
SHORTEN_INTERVAL_S = 5.0
BURIAL_LOOKS, BURIAL_PAUSE_S = 20, 0.1
"""A dead container is buried within a fraction of a second, unless no host runs that would."""

MayCut = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Runs the cut, or leaves it for the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The last lines, oldest first. `missing`: what could not be read and why, or empty."""

    lines: tuple[str, ...]
    missing: str = ""


def read_output(session_dir: Path, *, runtime: str | None, state: Mapping[str, str], lines: int) -> Output:
    """The last `lines` lines of a session. `runtime` and `state` are those of its container. Blocking."""
    if runtime != "docker" or "id" not in state:
        return Output(lines=_saved(session_dir, lines))
    try:
        return Output(lines=_with_living(session_dir, state["id"], lines))
    except RuntimeUnavailable as error:
        return Output(lines=_saved(session_dir, lines), missing=f"what the container says now: {error}")


async def keep_short(folders: Callable[[], Awaitable[Sequence[Path]]], may_cut: MayCut, clock: Clock) -> None:
    """For ever: cut the logs in these session folders that have grown too long, when `may_cut` runs the cut."""
    while True:
        await clock.sleep(SHORTEN_INTERVAL_S)
        for session_dir in await folders():
            await may_cut(partial(asyncio.to_thread, shorten, session_dir))


def shorten(session_dir: Path) -> None:
    """Leave only the end of a log that is too long. Whoever writes appends, and goes on behind it. Blocking."""
    with suppress(OSError):
        descriptor = os.open(container_log(session_dir), os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if taken(descriptor) > MOST_BYTES:
                file.seek(max(0, os.fstat(descriptor).st_size - KEPT_BYTES))
                kept = file.read(KEPT_BYTES)
                file.truncate(0)
                file.write(kept)


def _with_living(session_dir: Path, engine_id: str, lines: int) -> tuple[str, ...]:
    from nanohost.runtimes.docker_output import Life, container_output  # the engine's client, only where there is one

    for _ in range(BURIAL_LOOKS):
        # The file first: a container that lives after it was read has nothing in it.
        saved = _saved(session_dir, lines)
        life, said = container_output(engine_id, lines)
        if life is not Life.ENDING:
            break
        time.sleep(BURIAL_PAUSE_S)
    if life is Life.GONE:
        return _saved(session_dir, lines)
    return (*saved, *_lines(said))[-lines:]


def _saved(session_dir: Path, lines: int) -> tuple[str, ...]:
    try:
        with os.fdopen(os.open(container_log(session_dir), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_BYTES))
            return _lines(file.read(MOST_BYTES))[-lines:]
    except OSError:
        return ()


def _lines(said: bytes) -> tuple[str, ...]:
    return tuple(said.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")) if said else ()
