"""What a file system has left, and when that is too little. Reads with statvfs; the decisions are pure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MAX_RESERVE_SHARE = 0.05
"""Of the disk: the reserve is never more, so that a small disk can be used at all. ext4 keeps as much for root."""
RESUME_FACTOR = 1.25
"""Times the reserve: so much is free before containers start again, or one that fills the rest would be stopped and
started in turn."""
AMPLE_FACTOR = 2.0
"""Times the reserve: below that the disk gets short."""
BYTES_PER_INODE = 16 * 1024
"""Of a reserve for one inode: ext4 makes one for so many bytes, unless it is told otherwise."""


class DiskResource(StrEnum):
    """What a file system can run out of."""

    BYTES = "bytes"
    INODES = "inodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """Bytes and inodes of a file system: all of it, and what we may still use. No inodes: it makes them as needed."""

    total_bytes: int
    free_bytes: int
    total_inodes: int = 0
    free_inodes: int = 0

    def available(self, resource: DiskResource) -> int:
        return self.free_bytes if resource is DiskResource.BYTES else self.free_inodes


def read_disk_space(folder: Path) -> DiskSpace:
    """Blocking. Raises OSError."""
    found = os.statvfs(folder)
    return DiskSpace(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        total_inodes=found.f_files,
        free_inodes=found.f_favail,
    )


def reserved_amount(space: DiskSpace, reserve: int, resource: DiskResource) -> int:
    """So much is the host's own. `reserve` in bytes, as it is set."""
    if resource is DiskResource.BYTES:
        return min(reserve, int(space.total_bytes * MAX_RESERVE_SHARE))
    return min(reserve // BYTES_PER_INODE, int(space.total_inodes * MAX_RESERVE_SHARE))


def low_resources(
    space: DiskSpace, reserve: int, *, previous: frozenset[DiskResource] = frozenset()
) -> frozenset[DiskResource]:
    """What is left only for the host. `previous`: of what it was short before."""
    return frozenset(_below_threshold(space, reserve, dict.fromkeys(previous, RESUME_FACTOR)))


def has_ample_space(space: DiskSpace, reserve: int) -> bool:
    """Whether it is far from being short of anything."""
    return not any(_below_threshold(space, reserve, dict.fromkeys(DiskResource, AMPLE_FACTOR)))


def _below_threshold(space: DiskSpace, reserve: int, factors: dict[DiskResource, float]) -> Iterator[DiskResource]:
    for what in DiskResource:
        if space.available(what) < reserved_amount(space, reserve, what) * factors.get(what, 1.0):
            yield what
