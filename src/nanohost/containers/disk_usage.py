"""Counts how much disk space a folder that a container writes takes. Blocking: called from a thread.

Promises: follows no link, wherever it is in a path; has at most four descriptors open, two between steps; works for a
bounded time in each step, and continues there in the next; uses bounded memory; never raises. Entries that cannot be
read count as nothing. An entry that vanishes during a count may have been renamed, and an entry that is renamed while
its folder is listed may be missed: such a count is incomplete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nanohost.containers.disk_space import DiskSpace, read_disk_space
from nanohost.text.translation import gettext_noop, lazy_gettext

BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the block size of the file system."""
MIN_ENTRY_BYTES = 4096
"""The least that an entry counts: a million empty files also fill a disk."""
STEP_S = 0.05
"""For one folder and step: four folders of eight containers every ten seconds take at most a sixth of a core."""
ENTRIES_PER_CHECK = 200
"""Entries between two checks of the time: about a millisecond."""
MAX_PENDING_BYTES = 4 * 1024**2
"""Bytes of memory for folders that are not listed yet. Only a malicious container needs more."""
PENDING_ENTRY_BYTES = 100
"""Bytes of memory for a folder that is not listed yet, beside its name."""
MAX_DEPTH = 256
"""Nested folders: each is opened from its parent, step by step."""
READDIR_BATCH = 100
"""Names of a folder that the kernel reads in one step, however long they are: none of these is missed."""
TIMESTAMP_GRANULARITY_NS = 20_000_000
"""File timestamps are this coarse, or finer: of two changes within it the second may be invisible."""
EXTRA_GROWTH_SHARE = 0.1
"""Of the limit: a folder that was above it when first seen may grow by so much. A normal agent needs days for that."""
MAX_INCOMPLETE_COUNTS = 3
"""Incomplete counts in a row. Temporary files of a normal program cause one or two; constant renaming causes more."""
IDLE_SCAN_INTERVAL_S = 600.0
"""The least time between two idle scans of a folder, because an idle scan interrupts a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedFolder:
    """A folder that a container writes. `name` and `owner`: in words for people. `limit_bytes`: its limit, from
    `setting` of [host]. `is_group_wide`: all sessions of the agent group write it."""

    name: str
    path: Path
    limit_bytes: int
    setting: str = ""
    owner: str = ""
    is_group_wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOverLimit:
    """A folder is over its limit. `detail`: a sentence for the operator."""

    detail: str
    is_group_wide: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderUncountable:
    """A folder may be over its limit, but changes faster than it can be counted. It has to be counted while no
    container writes it."""

    detail: str
    is_group_wide: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """The size of a folder. `charged_bytes`: as the limit counts, at least MIN_ENTRY_BYTES an entry. `disk_bytes`:
    bytes of disk."""

    charged_bytes: int
    disk_bytes: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSnapshot:
    """A complete count, and the free space of the file system at its end."""

    usage: DiskUsage
    space: DiskSpace


def allowed_bytes(limit_bytes: int, initial_bytes: int) -> int:
    """Returns how many bytes a folder may take that had `initial_bytes` when it was first seen. Pure."""
    return initial_bytes + int(limit_bytes * EXTRA_GROWTH_SHARE) if initial_bytes > limit_bytes else limit_bytes


@dataclass(slots=True)
class Footprint:
    """A folder, and the progress of its count. `monotonic`: in seconds. `now_ns`: on the clock of the file system."""

    watched: WatchedFolder
    monotonic: Callable[[], float] = time.monotonic
    now_ns: Callable[[], int] = time.time_ns
    has_ample_space: Callable[[DiskSpace], bool] = lambda _: True
    """Whether a file system is far from being low."""
    read_space: Callable[[Path], DiskSpace] = read_disk_space
    latest_snapshot: UsageSnapshot | None = field(default=None, init=False)
    """The last complete count."""
    baseline: UsageSnapshot | None = field(default=None, init=False)
    """The last complete count while the disk had ample space, or the first one."""
    initial_bytes: int = field(default=0, init=False)
    """Bytes that the folder had before the first count, if above the limit; else 0."""
    needs_idle_scan: bool = field(default=False, init=False)
    """Whether it has to be counted while no container writes it."""
    is_idle: bool = field(default=False, init=False)
    """Whether no container writes it now, so that a vanished entry was removed and not renamed."""
    checked_at: float = field(default=0.0, init=False)
    _first_seen_ns: int = field(default=0, init=False)
    """When it was first counted, on the clock of the file system."""
    _incomplete_counts: int = field(default=0, init=False)
    _last_idle_scan: float = field(default=float("-inf"), init=False)
    _walk: _TreeWalk | None = field(default=None, init=False)
    _steps: Iterator[None] | None = field(default=None, init=False)

    def count_step(self, *, checks_limit: bool = True) -> FolderOverLimit | FolderUncountable | None:
        """Continue the count for STEP_S, or begin a new one. Returns a problem if it finds one. `checks_limit`: whether
        a folder over its limit ends the count."""
        self.checked_at = self.monotonic()
        until = self.checked_at + STEP_S
        self._first_seen_ns = self._first_seen_ns or self.now_ns()
        if self._walk is None or self._steps is None:
            self._walk = _TreeWalk(self.watched.path, since_ns=self._first_seen_ns, now_ns=self.now_ns)
            self._steps = self._walk.steps()
        walk = self._walk
        for _ in self._steps:
            if checks_limit and (problem := self._limit_error(walk, is_whole=False)):
                self.abort()
                return FolderOverLimit(detail=problem, is_group_wide=self.watched.is_group_wide)
            if self.monotonic() >= until:
                walk.close_cached()
                return None
        return self._finish(walk, checks_limit=checks_limit)

    def begin_idle_scan(self) -> None:
        """Begin a new count, during which no container writes the folder, until `end_idle_scan`."""
        self.abort()
        self.is_idle, self._last_idle_scan = True, self.monotonic()

    def end_idle_scan(self) -> None:
        self.abort()
        self.is_idle = self.needs_idle_scan = False

    def is_counting(self) -> bool:
        """Whether a count has begun and not ended."""
        return self._walk is not None

    def abort(self) -> None:
        """Abandon the current count and close its descriptors."""
        if self._walk is not None:
            self._walk.close_cached()
        self._walk, self._steps = None, None  # a generator that is dropped closes what it has open

    def _finish(self, walk: _TreeWalk, *, checks_limit: bool) -> FolderOverLimit | FolderUncountable | None:
        self.abort()
        if checks_limit and (problem := self._limit_error(walk, is_whole=True)):
            return FolderOverLimit(detail=problem, is_group_wide=self.watched.is_group_wide)
        if walk.problem:
            return None
        if walk.is_incomplete and not self.is_idle:
            self._incomplete_counts += 1
            return self._check_uncountable() if self._incomplete_counts >= MAX_INCOMPLETE_COUNTS else None
        self._incomplete_counts = 0
        self._save_snapshot(walk)
        return None

    def _save_snapshot(self, walk: _TreeWalk) -> None:
        if self.latest_snapshot is None and walk.unchanged_bytes > self.watched.limit_bytes:
            self.initial_bytes = walk.unchanged_bytes
        self.initial_bytes = (
            min(self.initial_bytes, walk.charged_bytes) if walk.charged_bytes > self.watched.limit_bytes else 0
        )
        with suppress(OSError):
            count = DiskUsage(charged_bytes=walk.charged_bytes, disk_bytes=walk.disk_bytes, entries=walk.entries)
            self.latest_snapshot = UsageSnapshot(usage=count, space=self.read_space(self.watched.path))
            if self.baseline is None or self.has_ample_space(self.latest_snapshot.space):
                self.baseline = self.latest_snapshot

    def _check_uncountable(self) -> FolderUncountable | None:
        """Returns FolderUncountable if the vanished entries can be large enough to exceed the limit, and the last idle
        scan is long ago. They take at most what the file system lost since the last complete count."""
        if self.monotonic() - self._last_idle_scan < IDLE_SCAN_INTERVAL_S or not self._may_exceed_limit():
            return None
        self.needs_idle_scan = True
        sentence = lazy_gettext(
            "its {folder} folder changes faster than it can be counted ({path})",
            folder=self.watched.name,
            path=self.watched.path,
        )
        return FolderUncountable(detail=sentence, is_group_wide=self.watched.is_group_wide)

    def _may_exceed_limit(self) -> bool:
        if self.latest_snapshot is None:
            return True
        try:
            lost = self.latest_snapshot.space.free_bytes - self.read_space(self.watched.path).free_bytes
        except OSError:
            return False
        return self.latest_snapshot.usage.charged_bytes + max(0, lost) > allowed_bytes(
            self.watched.limit_bytes, self.initial_bytes
        )

    def _limit_error(self, walk: _TreeWalk, *, is_whole: bool) -> str:
        """Returns why the folder is over its limit; empty if that is not certain."""
        watched = self.watched
        if walk.problem:
            return lazy_gettext(walk.problem, folder=watched.name, path=watched.path)
        first_seen = walk.unchanged_bytes if self.latest_snapshot is None and is_whole else self.initial_bytes
        if walk.charged_bytes <= allowed_bytes(watched.limit_bytes, first_seen):
            return ""
        if (
            self.latest_snapshot is None
            and not is_whole
            and walk.charged_bytes
            <= allowed_bytes(watched.limit_bytes, max(walk.unchanged_bytes, watched.limit_bytes + 1))
        ):
            return ""  # the initial size is known only at the end; until then all further growth may belong to it
        values = {"folder": watched.name, "limit": _format_mib(watched.limit_bytes), "hint": _fix_hint(watched)}
        if first_seen <= watched.limit_bytes:
            return lazy_gettext("its {folder} folder has grown beyond {limit}: {hint}", **values)
        return lazy_gettext(
            "its {folder} folder has grown beyond {limit} by more than {growth}: {hint}",
            growth=_format_mib(int(watched.limit_bytes * EXTRA_GROWTH_SHARE)),
            **values,
        )


def size_warning(watched: WatchedFolder, initial_bytes: int) -> str:
    """Returns the warning about a folder that was above its limit when it was first seen."""
    allowed_growth = _format_mib(int(watched.limit_bytes * EXTRA_GROWTH_SHARE))
    return lazy_gettext(
        "its {folder} folder takes {size}, more than the {limit} it may. It was so when I first looked, so I stop"
        " nothing until it grows by {growth} more: {hint}",
        folder=watched.name,
        size=_format_mib(initial_bytes),
        limit=_format_mib(watched.limit_bytes),
        growth=allowed_growth,
        hint=_fix_hint(watched),
    )


def _fix_hint(watched: WatchedFolder) -> str:
    if not watched.setting:
        return lazy_gettext("remove what should not be there ({path})", path=watched.path)
    return lazy_gettext(
        "remove what should not be there ({path}), or raise {setting} in [host] of nanohost.toml and start nanohost"
        " again",
        path=watched.path,
        setting=watched.setting,
    )


def _format_mib(amount: int) -> str:
    return f"{amount / 1024**2:,.0f} MiB"


@dataclass(frozen=True, slots=True)
class _PathNode:
    """A folder below the root of a count, with its parents."""

    parent: _PathNode | None
    name: str
    depth: int


class _TreeWalk:
    """One count from beginning to end. `unchanged_bytes`: bytes of entries that have not changed since `since_ns` by
    their ctime, which the kernel sets and no container can set back."""

    def __init__(self, root: Path, *, since_ns: int, now_ns: Callable[[], int]) -> None:
        self.charged_bytes = self.disk_bytes = self.entries = self.unchanged_bytes = 0
        self.is_incomplete = False
        self.problem = ""
        self._root = root
        self._since_ns = since_ns
        self._now_ns = now_ns
        self._pending: list[_PathNode] = []
        self._pending_bytes = 0
        self._work_since_yield = 0
        """Entries counted and folders opened since the last `yield`."""
        self._cached_parent: tuple[_PathNode | None, int] | None = None
        """The parent of the last opened folder, kept open within a step for the next folder in it."""

    def steps(self) -> Iterator[None]:
        """Count, and yield after each part. Ends when all is counted or there is a problem."""
        self._pending = [_PathNode(None, "", 0)]
        while self._pending and not self.problem:
            folder = self._pending.pop()
            self._pending_bytes -= PENDING_ENTRY_BYTES + len(folder.name)
            descriptor = self._open_folder(folder)
            if descriptor is None:
                if self._work_since_yield >= ENTRIES_PER_CHECK:
                    self._work_since_yield = 0
                    yield None
                continue
            try:
                yield from self._list(folder, descriptor)
            finally:
                os.close(descriptor)
        yield None

    def close_cached(self) -> None:
        """Close the cached parent folder."""
        if self._cached_parent is not None:
            os.close(self._cached_parent[1])
            self._cached_parent = None

    def _list(self, folder: _PathNode, descriptor: int) -> Iterator[None]:
        entries, changed_ns, begun_ns = self.entries, os.fstat(descriptor).st_ctime_ns, self._now_ns()
        try:
            with os.scandir(descriptor) as found:
                for entry in found:
                    self._count_entry(folder, entry)
                    if self.problem:
                        return
                    if self._work_since_yield >= ENTRIES_PER_CHECK:
                        self._work_since_yield = 0
                        yield None
            if self.entries - entries > READDIR_BATCH:
                was_changing = changed_ns > begun_ns - TIMESTAMP_GRANULARITY_NS
                self.is_incomplete = (
                    self.is_incomplete or was_changing or os.fstat(descriptor).st_ctime_ns != changed_ns
                )
        except OSError:
            self.is_incomplete = True

    def _count_entry(self, folder: _PathNode, entry: os.DirEntry[str]) -> None:
        self.entries += 1
        self._work_since_yield += 1
        try:
            found = entry.stat(follow_symlinks=False)
            is_folder = entry.is_dir(follow_symlinks=False)
        except OSError:
            self.is_incomplete = True
            return
        size = max(MIN_ENTRY_BYTES, found.st_blocks * BLOCK_BYTES)
        self.charged_bytes += size
        self.disk_bytes += found.st_blocks * BLOCK_BYTES
        if found.st_ctime_ns < self._since_ns:
            self.unchanged_bytes += size
        if is_folder:
            self._push(_PathNode(folder, entry.name, folder.depth + 1))

    def _push(self, folder: _PathNode) -> None:
        self._pending.append(folder)
        self._pending_bytes += PENDING_ENTRY_BYTES + len(folder.name)
        if folder.depth > MAX_DEPTH:
            self.problem = gettext_noop(
                "its {folder} folder is nested deeper than can be counted: remove that ({path})"
            )
        elif self._pending_bytes > MAX_PENDING_BYTES:
            self.problem = gettext_noop(
                "its {folder} folder has more folders than can be counted: remove some ({path})"
            )

    def _open_folder(self, folder: _PathNode) -> int | None:
        """Returns a descriptor, which the caller closes. None if the folder is gone or cannot be read."""
        try:
            if folder.parent is None:
                return _open_dir(self._root, None)
            if self._cached_parent is None or self._cached_parent[0] is not folder.parent:
                self.close_cached()
                self._cached_parent = (folder.parent, self._open_path(folder.parent))
            return _open_dir(folder.name, self._cached_parent[1])
        except PermissionError:
            return None
        except OSError:
            # It is gone or not a folder any more, or this machine has no descriptors left.
            self.is_incomplete = self.is_incomplete or folder.parent is not None
            return None

    def _open_path(self, folder: _PathNode) -> int:
        """Open the folder step by step from the root, each one in its parent. Raises OSError."""
        names: list[str] = []
        node: _PathNode = folder
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        self._work_since_yield += len(names)
        descriptor = _open_dir(self._root, None)
        for name in reversed(names):
            try:
                child = _open_dir(name, descriptor)
            finally:
                os.close(descriptor)
            descriptor = child
        return descriptor


def _open_dir(folder: Path | str, parent_fd: int | None) -> int:
    """Returns a descriptor. Raises OSError, also for a link."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
