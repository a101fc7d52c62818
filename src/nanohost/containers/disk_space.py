"""Reads the free space of a file system with statvfs, and decides whether it is low. The decisions are pure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MAX_RESERVE_SHARE = 0.05
"""The largest share of the disk that is reserved, so that a small disk can be used. ext4 reserves as much for root."""
RESUME_FACTOR = 1.25
"""Times the reserve: so much must be free before containers start again. At the reserve itself, a container that fills
the rest would be stopped and started in turn."""
AMPLE_FACTOR = 2.0
"""Times the reserve: from here on the disk has ample space."""
BYTES_PER_INODE = 16 * 1024
"""One inode is reserved for so many reserved bytes: the default ratio of ext4."""


class DiskResource(StrEnum):
    """What a file system can run out of."""

    BYTES = "bytes"
    INODES = "inodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """Total and free bytes and inodes of a file system. `total_inodes` is 0 if it creates inodes as needed."""

    total_bytes: int
    free_bytes: int
    total_inodes: int = 0
    free_inodes: int = 0

    def available(self, resource: DiskResource) -> int:
        return self.free_bytes if resource is DiskResource.BYTES else self.free_inodes


def read_disk_space(folder: Path) -> DiskSpace:
    """Read the free space of the folder's file system. Blocking. Raises OSError."""
    found = os.statvfs(folder)
    return DiskSpace(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        total_inodes=found.f_files,
        free_inodes=found.f_favail,
    )


def reserved_amount(space: DiskSpace, reserve: int, resource: DiskResource) -> int:
    """Returns how much of the resource is reserved for the host. `reserve`: in bytes, from the settings."""
    if resource is DiskResource.BYTES:
        return min(reserve, int(space.total_bytes * MAX_RESERVE_SHARE))
    return min(reserve // BYTES_PER_INODE, int(space.total_inodes * MAX_RESERVE_SHARE))


def low_resources(
    space: DiskSpace, reserve: int, *, previous: frozenset[DiskResource] = frozenset()
) -> frozenset[DiskResource]:
    """Returns the resources of which only the reserve is left. `previous`: those that were low before."""
    return frozenset(_below_threshold(space, reserve, dict.fromkeys(previous, RESUME_FACTOR)))


def has_ample_space(space: DiskSpace, reserve: int) -> bool:
    """Whether the file system is far from being low on any resource."""
    return not any(_below_threshold(space, reserve, dict.fromkeys(DiskResource, AMPLE_FACTOR)))


def _below_threshold(space: DiskSpace, reserve: int, factors: dict[DiskResource, float]) -> Iterator[DiskResource]:
    for what in DiskResource:
        if space.available(what) < reserved_amount(space, reserve, what) * factors.get(what, 1.0):
            yield what
