"""What a file system has left, and when that is too little. Reads with statvfs; the decisions are pure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SHARE = 0.05
"""Of the disk: the reserve is never more, so that a small disk can be used at all. ext4 keeps as much for root."""
GO_ON = 1.25
"""Times the reserve: so much is free before containers start again, or one that fills the rest would be stopped and
started in turn."""
PLENTY = 2.0
"""Times the reserve: below that the disk gets short."""
INODE_BYTES = 16 * 1024
"""Of a reserve for one inode: ext4 makes one for so many bytes, unless it is told otherwise."""


class Scarce(StrEnum):
    """What a file system can run out of."""

    BYTES = "bytes"
    INODES = "inodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Bytes and inodes of a file system: all of it, and what we may still use. No inodes: it makes them as needed."""

    total: int
    free: int
    inodes: int = 0
    free_inodes: int = 0

    def left(self, what: Scarce) -> int:
        return self.free if what is Scarce.BYTES else self.free_inodes


def space_of(folder: Path) -> Space:
    """Blocking. Raises OSError."""
    found = os.statvfs(folder)
    return Space(
        total=found.f_blocks * found.f_frsize,
        free=found.f_bavail * found.f_frsize,
        inodes=found.f_files,
        free_inodes=found.f_favail,
    )


def kept(space: Space, reserve: int, what: Scarce) -> int:
    """So much is the host's own. `reserve` in bytes, as it is set."""
    if what is Scarce.BYTES:
        return min(reserve, int(space.total * SHARE))
    return min(reserve // INODE_BYTES, int(space.inodes * SHARE))


def short_of(space: Space, reserve: int, *, was: frozenset[Scarce] = frozenset()) -> frozenset[Scarce]:
    """What is left only for the host. `was`: of what it was short before."""
    return frozenset(_below(space, reserve, dict.fromkeys(was, GO_ON)))


def has_plenty(space: Space, reserve: int) -> bool:
    """Whether it is far from being short of anything."""
    return not any(_below(space, reserve, dict.fromkeys(Scarce, PLENTY)))


def _below(space: Space, reserve: int, times: dict[Scarce, float]) -> Iterator[Scarce]:
    for what in Scarce:
        if space.left(what) < kept(space, reserve, what) * times.get(what, 1.0):
            yield what
