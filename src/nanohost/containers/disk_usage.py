"""How much disk a folder takes that a container writes. Blocking: called from a thread.

Promises: follows no link, wherever in a path it is put; has at most four descriptors open, two between looks; works for
a bounded time a look, and goes on from there at the next; keeps a bounded amount in memory; never raises. What cannot
be read counts nothing. What is gone when it is its turn may only have another name by then, and what is renamed while
the names of a folder are read may be missed: such a count is not whole.
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
"""What st_blocks counts in, whatever the file system's own blocks are."""
MIN_ENTRY_BYTES = 4096
"""The least an entry counts: a million empty files fill a disk as well."""
STEP_S = 0.05
"""For one folder and look: four folders of eight containers each ten seconds are a sixth of a core at most."""
ENTRIES_PER_CHECK = 200
"""Between two looks at the time: about a millisecond."""
MAX_PENDING_BYTES = 4 * 1024**2
"""Bytes of memory for folders that are still to be looked into. A container makes more only to be in the way."""
PENDING_ENTRY_BYTES = 100
"""Of memory for a folder that is still to be looked into, beside its name."""
MAX_DEPTH = 256
"""Folders in one another: each is opened from above, step by step."""
READDIR_BATCH = 100
"""Names of a folder that the system reads in one step, however long they are: nothing is missed among these."""
TIMESTAMP_GRANULARITY_NS = 20_000_000
"""Times of files are that coarse, or finer: of two changes within it the second may not be seen."""
EXTRA_GROWTH_SHARE = 0.1
"""Of the limit: what was above it when it was first seen may grow by so much. An honest agent writes that in days."""
MAX_INCOMPLETE_COUNTS = 3
"""Whole counts in a row in which something vanished: files that come and go do that once or twice, as any program's do;
what is renamed all the time does it always."""
IDLE_SCAN_INTERVAL_S = 600.0
"""A folder is counted at rest so rarely, because that ends a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedFolder:
    """A folder that a container writes. `name`: what people call it, `owner`: in words, `limit_bytes`: bytes, as
    `setting` of [host] says. `is_group_wide`: all sessions of the agent group write it."""

    name: str
    path: Path
    limit_bytes: int
    setting: str = ""
    owner: str = ""
    is_group_wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOverLimit:
    """A folder that takes more than it may, in a sentence for the operator."""

    detail: str
    is_group_wide: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderUncountable:
    """A folder that may take more than it may: it changes faster than it can be counted, and is to be counted while no
    container writes it."""

    detail: str
    is_group_wide: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """What a folder takes. `charged_bytes`: as its limit counts them; `disk_bytes`: bytes of the disk."""

    charged_bytes: int
    disk_bytes: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSnapshot:
    """A whole count, and what its file system had left at the end of it."""

    usage: DiskUsage
    space: DiskSpace


def allowed_bytes(limit_bytes: int, initial_bytes: int) -> int:
    """So many bytes a folder may take of which there were `initial_bytes` when it was first seen. Pure."""
    return initial_bytes + int(limit_bytes * EXTRA_GROWTH_SHARE) if initial_bytes > limit_bytes else limit_bytes


@dataclass(slots=True)
class Footprint:
    """A folder, and how far it was counted. `monotonic` in seconds, `now_ns` on the clock of the file system."""

    watched: WatchedFolder
    monotonic: Callable[[], float] = time.monotonic
    now_ns: Callable[[], int] = time.time_ns
    has_ample_space: Callable[[DiskSpace], bool] = lambda _: True
    """Whether a file system is far from being short."""
    read_space: Callable[[Path], DiskSpace] = read_disk_space
    latest_snapshot: UsageSnapshot | None = field(default=None, init=False)
    """The last whole count."""
    baseline: UsageSnapshot | None = field(default=None, init=False)
    """The last whole count while the disk had plenty, or the first one."""
    initial_bytes: int = field(default=0, init=False)
    """Bytes that were there before anybody counted, if they are above the limit."""
    needs_idle_scan: bool = field(default=False, init=False)
    """To be counted while no container writes it."""
    is_idle: bool = field(default=False, init=False)
    """No container writes it now: what vanishes was removed."""
    checked_at: float = field(default=0.0, init=False)
    _first_seen_ns: int = field(default=0, init=False)
    """When it was first looked at."""
    _incomplete_counts: int = field(default=0, init=False)
    _last_idle_scan: float = field(default=float("-inf"), init=False)
    _walk: _TreeWalk | None = field(default=None, init=False)
    _steps: Iterator[None] | None = field(default=None, init=False)

    def count_step(self, *, checks_limit: bool = True) -> FolderOverLimit | FolderUncountable | None:
        """Count on for a moment, from the beginning when all was counted. `checks_limit`: whether too much ends the
        count."""
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
        """From now on until `end_idle_scan` no container writes it. What was counted before does not count."""
        self.abort()
        self.is_idle, self._last_idle_scan = True, self.monotonic()

    def end_idle_scan(self) -> None:
        self.abort()
        self.is_idle = self.needs_idle_scan = False

    def is_counting(self) -> bool:
        """Whether a count has begun and not come to its end."""
        return self._walk is not None

    def abort(self) -> None:
        """Nobody goes on with what was begun; its descriptors are closed."""
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
        """Whether what vanished can be so much that the folder is above its limit: what the file system lost since the
        last whole count is the most."""
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
        """Why the folder takes too much; empty as far as that is not sure."""
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
            return ""  # how much was there before is known at the end; until then it may be all that is to come
        values = {"folder": watched.name, "limit": _format_mib(watched.limit_bytes), "hint": _fix_hint(watched)}
        if first_seen <= watched.limit_bytes:
            return lazy_gettext("its {folder} folder has grown beyond {limit}: {hint}", **values)
        return lazy_gettext(
            "its {folder} folder has grown beyond {limit} by more than {growth}: {hint}",
            growth=_format_mib(int(watched.limit_bytes * EXTRA_GROWTH_SHARE)),
            **values,
        )


def size_warning(watched: WatchedFolder, initial_bytes: int) -> str:
    """What is said of a folder that is above its limit and was so when it was first seen."""
    on = _format_mib(int(watched.limit_bytes * EXTRA_GROWTH_SHARE))
    return lazy_gettext(
        "its {folder} folder takes {size}, more than the {limit} it may. It was so when I first looked, so I stop"
        " nothing until it grows by {growth} more: {hint}",
        folder=watched.name,
        size=_format_mib(initial_bytes),
        limit=_format_mib(watched.limit_bytes),
        growth=on,
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
    """A folder below the first one, by its way down."""

    parent: _PathNode | None
    name: str
    depth: int


class _TreeWalk:
    """One count from beginning to end. `unchanged_bytes`: bytes of what has not changed since `since_ns`: the kernel
    sets that time (ctime), and no container can set it back."""

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
        """Entries looked at and folders gone through since the last part."""
        self._cached_parent: tuple[_PathNode | None, int] | None = None
        """The folder that was opened last to open one in it, which is kept open for its next one, within a look."""

    def steps(self) -> Iterator[None]:
        """Comes back after each part. The end: all was counted, or there is a problem."""
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
        """Close what is open only to be quick."""
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
        """A descriptor, the caller closes it. None: it is gone, or not to be read."""
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
            # Gone, or no folder any more; or this machine has no descriptor left.
            self.is_incomplete = self.is_incomplete or folder.parent is not None
            return None

    def _open_path(self, folder: _PathNode) -> int:
        """Open it from the first folder on, each in the one above it. Raises OSError."""
        way: list[str] = []
        here: _PathNode = folder
        while here.parent is not None:
            way.append(here.name)
            here = here.parent
        self._work_since_yield += len(way)
        descriptor = _open_dir(self._root, None)
        for name in reversed(way):
            try:
                deeper = _open_dir(name, descriptor)
            finally:
                os.close(descriptor)
            descriptor = deeper
        return descriptor


def _open_dir(folder: Path | str, parent_fd: int | None) -> int:
    """A descriptor. Raises OSError, also where a link is."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
