"""Removes folders that a container may have filled, in short steps and little memory, whatever they hold.

Promises: does not collect names; opens a bounded number of descriptors (see MAX_OPEN_LEVELS), however deep folders are
nested; follows no link, even if a living container changes the folder meanwhile. Entries that cannot be removed stay.
Blocking.
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
"""How long one step removes entries: some thousand files."""
SEARCH_TIMEOUT_S = 2.0
"""How long a step searches for the first entry that it can remove."""
MAX_OPEN_LEVELS = 16
"""Levels that are open at once, two descriptors each. Deeper folders are moved up first."""

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RemovalResult(StrEnum):
    """The result of a step."""

    REMOVED = "gone"
    INCOMPLETE = "more"
    """Some entries were removed, and some are left."""
    BLOCKED = "stuck"
    """The remaining entries cannot be removed."""


def remove_step(
    name: str, parent_fd: int, *, seconds: float = STEP_S, monotonic: Callable[[], float] = time.monotonic
) -> RemovalResult:
    """Remove for `seconds` the content of the entry `name` of the folder with the descriptor `parent_fd`, and at last
    the entry itself."""
    step = _TimeBudget(seconds, monotonic)
    try:
        with open_dir(name, parent_fd) as top:
            _empty_dir(top, step)
    except FileNotFoundError:
        return RemovalResult.REMOVED
    except OSError:  # it is not a folder, or not ours
        return RemovalResult.REMOVED if step.try_remove(unlink, name, dir_fd=parent_fd) else RemovalResult.BLOCKED
    if not step.is_over() and step.try_remove(rmdir, name, dir_fd=parent_fd):
        return RemovalResult.REMOVED
    return RemovalResult.INCOMPLETE if step.removed else RemovalResult.BLOCKED


def remove_tree(path: Path) -> None:
    """Remove a whole folder, however long that takes. For a folder that no container writes."""
    with suppress(OSError), open_dir(path.parent, None) as above:
        while remove_step(path.name, above) is RemovalResult.INCOMPLETE:
            pass


@contextmanager
def open_dir(folder: Path | str, parent_fd: int | None) -> Iterator[int]:
    """Provide a descriptor of a folder. Raises OSError, also for a link."""
    descriptor = os.open(folder, DIR_FLAGS, dir_fd=parent_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _TimeBudget:
    """When to stop. Time counts from the first removal, so that every step makes progress."""

    seconds: float
    monotonic: Callable[[], float]
    removed: int = 0
    deadline: float = math.nan

    def __post_init__(self) -> None:
        self.deadline = self.monotonic() + SEARCH_TIMEOUT_S

    def is_over(self) -> bool:
        return self.monotonic() >= self.deadline

    def try_remove(self, remove: Callable[..., None], *arguments: str, **descriptors: int) -> bool:
        try:
            remove(*arguments, **descriptors)
        except OSError:
            return False
        if not self.removed:
            self.deadline = self.monotonic() + self.seconds
        self.removed += 1
        return True


class DirLevel:
    """A folder that is being walked, and how far it was read. Owns the descriptor. Raises OSError."""

    def __init__(self, name: str, folder: int) -> None:
        self.name = name
        self.fd = folder
        try:
            self._entries = os.scandir(folder)
        except OSError:
            os.close(folder)
            raise

    def next_entry(self) -> os.DirEntry[str] | None:
        """Returns the next entry; None at the end, or if the folder cannot be read further."""
        try:
            return next(self._entries, None)
        except OSError:
            return None

    def close(self) -> None:
        self._entries.close()
        os.close(self.fd)


def _empty_dir(top_fd: int, budget: _TimeBudget) -> None:
    """Remove the content of a folder, deepest entries first. Entries that appear meanwhile are left to the next
    step."""
    levels = [DirLevel("", os.dup(top_fd))]
    try:
        while levels and not budget.is_over():
            level = levels[-1]
            entry = level.next_entry()
            if entry is None:
                levels.pop().close()
                if levels:
                    budget.try_remove(rmdir, level.name, dir_fd=levels[-1].fd)
            elif not is_directory(entry):
                budget.try_remove(unlink, entry.name, dir_fd=level.fd)
            elif len(levels) < MAX_OPEN_LEVELS:
                _descend(levels, entry.name)
            else:
                budget.try_remove(rename, entry.name, secrets.token_hex(16), src_dir_fd=level.fd, dst_dir_fd=top_fd)
    finally:
        for level in levels:
            level.close()


def _descend(levels: list[DirLevel], name: str) -> None:
    """Open the folder and push it on `levels`, unless it is a link by now or cannot be opened."""
    with suppress(OSError):
        levels.append(DirLevel(name, os.open(name, DIR_FLAGS, dir_fd=levels[-1].fd)))


def is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
