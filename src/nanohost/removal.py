"""Removes folders that a container may have filled, a moment at a time and in little memory, whatever lies in them.

Promises: names are taken as they come and never kept; folders nested without end take MOST_OPEN descriptors; no link is
followed, also when a container that lives changes what is being removed. What cannot be removed stays. Blocking.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from os import rename, rmdir, unlink
from pathlib import Path

STEP_S = 0.05
"""For which something is removed in one step: some thousand files."""
FRUITLESS_S = 2.0
"""For which a step looks for the first thing that it can remove."""
MOST_OPEN = 16
"""Levels that are open at once, two descriptors each. What lies deeper is moved up first."""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Progress(StrEnum):
    """What a step came to."""

    GONE = "gone"
    MORE = "more"
    """Something was removed, and something is left."""
    STUCK = "stuck"
    """What is left cannot be removed."""


def remove_some(
    name: str, above: int, *, seconds: float = STEP_S, monotonic: Callable[[], float] = time.monotonic
) -> Progress:
    """Remove for so long what lies under a bare name in the folder with the descriptor `above`, and then the name."""
    step = _Step(seconds, monotonic)
    try:
        with opened(name, above) as top:
            _empty(top, step)
    except FileNotFoundError:
        return Progress.GONE
    except OSError:  # it is no folder, or none of ours
        return Progress.GONE if step.does(unlink, name, dir_fd=above) else Progress.STUCK
    if not step.is_over() and step.does(rmdir, name, dir_fd=above):
        return Progress.GONE
    return Progress.MORE if step.removed else Progress.STUCK


def remove(path: Path) -> None:
    """Remove all of it, however long that takes: for what lies where no container writes."""
    with suppress(OSError), opened(path.parent, None) as above:
        while remove_some(path.name, above) is Progress.MORE:
            pass


@contextmanager
def opened(folder: Path | str, above: int | None) -> Iterator[int]:
    """A descriptor of a folder that is no link. Raises OSError."""
    descriptor = os.open(folder, FOLDER, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Step:
    """When to stop. Time counts from the first thing that is removed, so that a step always gets somewhere."""

    seconds: float
    monotonic: Callable[[], float]
    removed: int = 0
    until: float = math.nan

    def __post_init__(self) -> None:
        self.until = self.monotonic() + FRUITLESS_S

    def is_over(self) -> bool:
        return self.monotonic() >= self.until

    def does(self, remove: Callable[..., None], *arguments: str, **descriptors: int) -> bool:
        try:
            remove(*arguments, **descriptors)
        except OSError:
            return False
        if not self.removed:
            self.until = self.monotonic() + self.seconds
        self.removed += 1
        return True


class Level:
    """A folder on the way down, and how far it was read. Takes the descriptor over. Raises OSError."""

    def __init__(self, name: str, folder: int) -> None:
        self.name = name
        self.folder = folder
        try:
            self._entries = os.scandir(folder)
        except OSError:
            os.close(folder)
            raise

    def next(self) -> os.DirEntry[str] | None:
        """The next name in it; None at its end, also when it cannot be read on."""
        try:
            return next(self._entries, None)
        except OSError:
            return None

    def close(self) -> None:
        self._entries.close()
        os.close(self.folder)


def _empty(top: int, step: _Step) -> None:
    """Deepest first. What a file system shows late, or somebody adds meanwhile, is left to the next step."""
    levels = [Level("", os.dup(top))]
    try:
        while levels and not step.is_over():
            level = levels[-1]
            entry = level.next()
            if entry is None:
                levels.pop().close()
                if levels:
                    step.does(rmdir, level.name, dir_fd=levels[-1].folder)
            elif not is_folder(entry):
                step.does(unlink, entry.name, dir_fd=level.folder)
            elif len(levels) < MOST_OPEN:
                _go_down(levels, entry.name)
            else:
                step.does(rename, entry.name, secrets.token_hex(16), src_dir_fd=level.folder, dst_dir_fd=top)
    finally:
        for level in levels:
            level.close()


def _go_down(levels: list[Level], name: str) -> None:
    """Not, if it is a link by now or may not be entered."""
    with suppress(OSError):
        levels.append(Level(name, os.open(name, FOLDER, dir_fd=levels[-1].folder)))


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
