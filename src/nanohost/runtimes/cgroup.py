"""Limits the memory, processes and CPU of a sandbox by control groups, version 1 or 2, if we are root.

A sandbox's group is named after its container, so that a later host finds and removes it. If groups cannot be created
(not root, read-only mount), the sandbox has only the limits of prlimit.

To join a group takes some 10 ms in the kernel; there are three in version 1, one in version 2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from nanohost.runtimes.runtime_api import Limits

_PERIOD_US = 100_000
"""The kernel's default accounting period for CPU, in microseconds."""


class ControlGroups:
    """Creates and removes this host's control groups, below `<mount>/nanohost/`."""

    def __init__(self, mount: Path = Path("/sys/fs/cgroup")) -> None:
        self._mount = mount
        self._unified = (mount / "cgroup.controllers").exists()

    def make(self, name: str, limits: Limits) -> tuple[Path, ...]:
        """Create a group with these limits. Returns the files into which a process writes 0 to join; empty if groups
        cannot be created."""
        if os.geteuid() != 0:
            return ()
        try:
            return tuple(self._make_groups(name, limits))
        except OSError:
            self.remove(name)
            return ()

    def remove(self, name: str) -> None:
        """Remove a group without processes. Does nothing if the group is in use or does not exist."""
        for parent in self._parent_dirs():
            with suppress(OSError):
                (parent / name).rmdir()

    def remove_empty(self, prefix: str) -> None:
        """Remove all empty groups whose names start with `prefix`."""
        for parent in self._parent_dirs():
            with suppress(OSError):
                for group in parent.glob(f"{prefix}*"):
                    self.remove(group.name)

    def _parent_dirs(self) -> Iterator[Path]:
        if self._unified:
            yield self._mount / "nanohost"
        else:
            yield from (self._mount / controller / "nanohost" for controller in ("memory", "pids", "cpu"))

    def _make_groups(self, name: str, limits: Limits) -> Iterator[Path]:
        for parent in self._parent_dirs():
            if not parent.parent.is_dir():
                continue
            group = parent / name
            group.mkdir(parents=True, exist_ok=True)
            if self._unified:
                _enable_controllers(self._mount)
                _enable_controllers(parent)
            for file, value in limit_files(limits, unified=self._unified).items():
                if (group / file).exists():
                    (group / file).write_text(value)
            yield group / "cgroup.procs"


def _enable_controllers(group: Path) -> None:
    (group / "cgroup.subtree_control").write_text("+memory +pids +cpu")


def limit_files(limits: Limits, *, unified: bool) -> Mapping[str, str]:
    """Returns the values to write into a group's files. Swap is 0, so that the memory limit is not exceeded by swap."""
    quota = str(int(limits.cpus * _PERIOD_US))
    memory, pids = str(limits.memory_bytes), str(limits.pids)
    if unified:
        return {
            "memory.max": memory,
            "memory.swap.max": "0",
            "pids.max": pids,
            "cpu.max": f"{quota} {_PERIOD_US}",
        }
    return {
        "memory.limit_in_bytes": memory,
        "memory.memsw.limit_in_bytes": memory,
        "pids.max": pids,
        "cpu.cfs_period_us": str(_PERIOD_US),
        "cpu.cfs_quota_us": quota,
    }
