"""How much disk the folders take that a container writes. Blocking: called from a thread.

Promises: follows no link; works for a bounded time a look, and goes on from there at the next; keeps a bounded amount
in memory; never raises: what vanishes or cannot be read meanwhile counts nothing.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 512
"""What st_blocks counts in, whatever the file system's own blocks are."""
ENTRY_BYTES = 4096
"""The least an entry counts: a million empty files fill a disk as well."""
STEP_S = 0.05
"""For one folder and look: three folders of eight containers each ten seconds are an eighth of a core at most."""
ENTRIES_A_CHECK = 200
"""Between two looks at the time: about a millisecond."""
MOST_PENDING = 4 * 1024**2
"""Characters of the names of folders that are still to be looked into. A container makes more only to be in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A folder that a container writes. `name`: what people call it, `limit`: bytes. `of_group`: all sessions of the
    agent group write it."""

    name: str
    path: Path
    limit: int
    of_group: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A folder that takes more than it may, in a sentence for the operator."""

    sentence: str
    of_group: bool


@dataclass(slots=True)
class Footprint:
    """A folder, and how far it was counted. `monotonic` in seconds."""

    watched: Watched
    monotonic: Callable[[], float] = time.monotonic
    _walk: Iterator[str | None] | None = field(default=None, init=False)

    def look(self) -> Grown | None:
        """Count on for a moment, from the beginning when all was counted."""
        until = self.monotonic() + STEP_S
        if self._walk is None:
            self._walk = _walk(self.watched)
        for problem in self._walk:
            if problem is not None:
                self._walk = None
                return Grown(sentence=problem, of_group=self.watched.of_group)
            if self.monotonic() >= until:
                return None
        self._walk = None
        return None


def look_at(footprints: Sequence[Footprint]) -> Grown | None:
    """Count on in each. The first that has grown too large, if any has."""
    return next((grown for one in footprints if (grown := one.look()) is not None), None)


def _walk(watched: Watched) -> Iterator[str | None]:
    """None: a part is counted. A sentence: it takes too much, and that was the end."""
    total, entries, folders, pending = 0, 0, [str(watched.path)], 0
    while folders:
        folder = folders.pop()
        pending -= len(folder)
        descriptor = _open(folder)
        if descriptor is None:
            continue
        if descriptor < 0:
            yield f"its {watched.name} folder is nested deeper than can be counted: remove that ({watched.path})"
            return
        try:
            with suppress(OSError), os.scandir(descriptor) as found:
                for entry in found:
                    entries += 1
                    with suppress(OSError):
                        total += max(ENTRY_BYTES, entry.stat(follow_symlinks=False).st_blocks * BLOCK)
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{folder}/{entry.name}")
                            pending += len(folders[-1])
                    if total > watched.limit or pending > MOST_PENDING:
                        yield _too_much(watched, total)
                        return
                    if entries % ENTRIES_A_CHECK == 0:
                        yield None
        finally:
            os.close(descriptor)
    yield None


def _open(folder: str) -> int | None:
    """A descriptor; below zero: its path is too long to be opened; None: it is no folder, or not to be read."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return -1 if error.errno == errno.ENAMETOOLONG else None


def _too_much(watched: Watched, total: int) -> str:
    if total <= watched.limit:
        return f"its {watched.name} folder has more folders than can be counted: remove some ({watched.path})"
    most = f"{watched.limit / 1024**2:,.0f} MiB"
    return f"its {watched.name} folder has grown beyond {most}: remove what should not be there ({watched.path})"
