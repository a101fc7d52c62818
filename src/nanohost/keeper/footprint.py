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

from nanohost.keeper.space import Space, space_of

BLOCK = 512
"""What st_blocks counts in, whatever the file system's own blocks are."""
ENTRY_BYTES = 4096
"""The least an entry counts: a million empty files fill a disk as well."""
STEP_S = 0.05
"""For one folder and look: four folders of eight containers each ten seconds are a sixth of a core at most."""
ENTRIES_A_CHECK = 200
"""Between two looks at the time: about a millisecond."""
MOST_PENDING = 4 * 1024**2
"""Bytes of memory for folders that are still to be looked into. A container makes more only to be in the way."""
PENDING_BYTES = 100
"""Of memory for a folder that is still to be looked into, beside its name."""
MOST_DEPTH = 256
"""Folders in one another: each is opened from above, step by step."""
AT_ONCE = 100
"""Names of a folder that the system reads in one step, however long they are: nothing is missed among these."""
TICK_NS = 20_000_000
"""Times of files are that coarse, or finer: of two changes within it the second may not be seen."""
GROWS_ON = 0.1
"""Of the limit: what was above it when it was first seen may grow by so much. An honest agent writes that in days."""
LOST_COUNTS = 3
"""Whole counts in a row in which something vanished: files that come and go do that once or twice, as any program's do;
what is renamed all the time does it always."""
REST_AGAIN_S = 600.0
"""A folder is counted at rest so rarely, because that ends a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A folder that a container writes. `name`: what people call it, `whose`: in words, `limit`: bytes, as `setting`
    of [host] says. `of_group`: all sessions of the agent group write it."""

    name: str
    path: Path
    limit: int
    setting: str = ""
    whose: str = ""
    of_group: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A folder that takes more than it may, in a sentence for the operator."""

    sentence: str
    of_group: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """A folder that may take more than it may: it changes faster than it can be counted, and is to be counted while no
    container writes it."""

    sentence: str
    of_group: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What a folder takes. `bytes`: as its limit counts them; `blocks`: bytes of the disk."""

    bytes: int
    blocks: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A whole count, and what its file system had left at the end of it."""

    count: Count
    space: Space


def allowed(limit: int, first_seen: int) -> int:
    """So many bytes a folder may take of which there were `first_seen` when it was first seen. Pure."""
    return first_seen + int(limit * GROWS_ON) if first_seen > limit else limit


@dataclass(slots=True)
class Footprint:
    """A folder, and how far it was counted. `monotonic` in seconds, `now_ns` on the clock of the file system."""

    watched: Watched
    monotonic: Callable[[], float] = time.monotonic
    now_ns: Callable[[], int] = time.time_ns
    has_plenty: Callable[[Space], bool] = lambda _: True
    """Whether a file system is far from being short."""
    space: Callable[[Path], Space] = space_of
    latest: Mark | None = field(default=None, init=False)
    """The last whole count."""
    plenty: Mark | None = field(default=None, init=False)
    """The last whole count while the disk had plenty, or the first one."""
    first_seen: int = field(default=0, init=False)
    """Bytes that were there before anybody counted, if they are above the limit."""
    needs_rest: bool = field(default=False, init=False)
    """To be counted while no container writes it."""
    is_at_rest: bool = field(default=False, init=False)
    """No container writes it now: what vanishes was removed."""
    looked: float = field(default=0.0, init=False)
    _since_ns: int = field(default=0, init=False)
    """When it was first looked at."""
    _lost: int = field(default=0, init=False)
    _rested: float = field(default=float("-inf"), init=False)
    _walk: _Walk | None = field(default=None, init=False)
    _steps: Iterator[None] | None = field(default=None, init=False)

    def look(self, *, judge: bool = True) -> Grown | Uncounted | None:
        """Count on for a moment, from the beginning when all was counted. `judge`: whether too much ends the count."""
        self.looked = self.monotonic()
        until = self.looked + STEP_S
        self._since_ns = self._since_ns or self.now_ns()
        if self._walk is None or self._steps is None:
            self._walk = _Walk(self.watched.path, since_ns=self._since_ns, now_ns=self.now_ns)
            self._steps = self._walk.steps()
        walk = self._walk
        for _ in self._steps:
            if judge and (problem := self._problem(walk, is_whole=False)):
                self.interrupt()
                return Grown(sentence=problem, of_group=self.watched.of_group)
            if self.monotonic() >= until:
                walk.let_go()
                return None
        return self._end(walk, judge=judge)

    def begin_at_rest(self) -> None:
        """From now on until `end_rest` no container writes it. What was counted before does not count."""
        self.interrupt()
        self.is_at_rest, self._rested = True, self.monotonic()

    def end_rest(self) -> None:
        self.interrupt()
        self.is_at_rest = self.needs_rest = False

    def is_counting(self) -> bool:
        """Whether a count has begun and not come to its end."""
        return self._walk is not None

    def interrupt(self) -> None:
        """Nobody goes on with what was begun; its descriptors are closed."""
        if self._walk is not None:
            self._walk.let_go()
        self._walk, self._steps = None, None  # a generator that is dropped closes what it has open

    def _end(self, walk: _Walk, *, judge: bool) -> Grown | Uncounted | None:
        self.interrupt()
        if judge and (problem := self._problem(walk, is_whole=True)):
            return Grown(sentence=problem, of_group=self.watched.of_group)
        if walk.problem:
            return None
        if walk.has_lost and not self.is_at_rest:
            self._lost += 1
            return self._uncounted() if self._lost >= LOST_COUNTS else None
        self._lost = 0
        self._keep(walk)
        return None

    def _keep(self, walk: _Walk) -> None:
        if self.latest is None and walk.old > self.watched.limit:
            self.first_seen = walk.old
        self.first_seen = min(self.first_seen, walk.bytes) if walk.bytes > self.watched.limit else 0
        with suppress(OSError):
            count = Count(bytes=walk.bytes, blocks=walk.blocks, entries=walk.entries)
            self.latest = Mark(count=count, space=self.space(self.watched.path))
            if self.plenty is None or self.has_plenty(self.latest.space):
                self.plenty = self.latest

    def _uncounted(self) -> Uncounted | None:
        """Whether what vanished can be so much that the folder is above its limit: what the file system lost since the
        last whole count is the most."""
        if self.monotonic() - self._rested < REST_AGAIN_S or not self._may_be_too_much():
            return None
        self.needs_rest = True
        sentence = f"its {self.watched.name} folder changes faster than it can be counted ({self.watched.path})"
        return Uncounted(sentence=sentence, of_group=self.watched.of_group)

    def _may_be_too_much(self) -> bool:
        if self.latest is None:
            return True
        try:
            lost = self.latest.space.free - self.space(self.watched.path).free
        except OSError:
            return False
        return self.latest.count.bytes + max(0, lost) > allowed(self.watched.limit, self.first_seen)

    def _problem(self, walk: _Walk, *, is_whole: bool) -> str:
        """Why the folder takes too much; empty as far as that is not sure."""
        watched = self.watched
        what = f"its {watched.name} folder"
        if walk.problem:
            return f"{what} {walk.problem} ({watched.path})"
        first_seen = walk.old if self.latest is None and is_whole else self.first_seen
        if walk.bytes <= allowed(watched.limit, first_seen):
            return ""
        if (
            self.latest is None
            and not is_whole
            and walk.bytes <= allowed(watched.limit, max(walk.old, watched.limit + 1))
        ):
            return ""  # how much was there before is known at the end; until then it may be all that is to come
        by = f" by more than {_mib(int(watched.limit * GROWS_ON))}" if first_seen > watched.limit else ""
        return f"{what} has grown beyond {_mib(watched.limit)}{by}: {_what_to_do(watched)}"


def warning(watched: Watched, first_seen: int) -> str:
    """What is said of a folder that is above its limit and was so when it was first seen."""
    on = _mib(int(watched.limit * GROWS_ON))
    return (
        f"its {watched.name} folder takes {_mib(first_seen)}, more than the {_mib(watched.limit)} it may. It was so "
        f"when I first looked, so I stop nothing until it grows by {on} more: {_what_to_do(watched)}"
    )


def _what_to_do(watched: Watched) -> str:
    more = (
        f", or raise {watched.setting} in [host] of nanohost.toml and start nanohost again" if watched.setting else ""
    )
    return f"remove what should not be there ({watched.path}){more}"


def _mib(amount: int) -> str:
    return f"{amount / 1024**2:,.0f} MiB"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder below the first one, by its way down."""

    above: _Folder | None
    name: str
    depth: int


class _Walk:
    """One count from beginning to end. `old`: bytes of what has not changed since `since_ns`: the kernel sets that time
    (ctime), and no container can set it back."""

    def __init__(self, root: Path, *, since_ns: int, now_ns: Callable[[], int]) -> None:
        self.bytes = self.blocks = self.entries = self.old = 0
        self.has_lost = False
        self.problem = ""
        self._root = root
        self._since_ns = since_ns
        self._now_ns = now_ns
        self._pending: list[_Folder] = []
        self._pending_bytes = 0
        self._effort = 0
        """Entries looked at and folders gone through since the last part."""
        self._above: tuple[_Folder | None, int] | None = None
        """The folder that was opened last to open one in it, which is kept open for its next one, within a look."""

    def steps(self) -> Iterator[None]:
        """Comes back after each part. The end: all was counted, or there is a problem."""
        self._pending = [_Folder(None, "", 0)]
        while self._pending and not self.problem:
            folder = self._pending.pop()
            self._pending_bytes -= PENDING_BYTES + len(folder.name)
            descriptor = self._open(folder)
            if descriptor is None:
                if self._effort >= ENTRIES_A_CHECK:
                    self._effort = 0
                    yield None
                continue
            try:
                yield from self._list(folder, descriptor)
            finally:
                os.close(descriptor)
        yield None

    def let_go(self) -> None:
        """Close what is open only to be quick."""
        if self._above is not None:
            os.close(self._above[1])
            self._above = None

    def _list(self, folder: _Folder, descriptor: int) -> Iterator[None]:
        entries, changed_ns, begun_ns = self.entries, os.fstat(descriptor).st_ctime_ns, self._now_ns()
        try:
            with os.scandir(descriptor) as found:
                for entry in found:
                    self._take(folder, entry)
                    if self.problem:
                        return
                    if self._effort >= ENTRIES_A_CHECK:
                        self._effort = 0
                        yield None
            if self.entries - entries > AT_ONCE:
                was_changing = changed_ns > begun_ns - TICK_NS
                self.has_lost = self.has_lost or was_changing or os.fstat(descriptor).st_ctime_ns != changed_ns
        except OSError:
            self.has_lost = True

    def _take(self, folder: _Folder, entry: os.DirEntry[str]) -> None:
        self.entries += 1
        self._effort += 1
        try:
            found = entry.stat(follow_symlinks=False)
            is_folder = entry.is_dir(follow_symlinks=False)
        except OSError:
            self.has_lost = True
            return
        size = max(ENTRY_BYTES, found.st_blocks * BLOCK)
        self.bytes += size
        self.blocks += found.st_blocks * BLOCK
        if found.st_ctime_ns < self._since_ns:
            self.old += size
        if is_folder:
            self._add(_Folder(folder, entry.name, folder.depth + 1))

    def _add(self, folder: _Folder) -> None:
        self._pending.append(folder)
        self._pending_bytes += PENDING_BYTES + len(folder.name)
        if folder.depth > MOST_DEPTH:
            self.problem = "is nested deeper than can be counted: remove that"
        elif self._pending_bytes > MOST_PENDING:
            self.problem = "has more folders than can be counted: remove some"

    def _open(self, folder: _Folder) -> int | None:
        """A descriptor, the caller closes it. None: it is gone, or not to be read."""
        try:
            if folder.above is None:
                return _opened(self._root, None)
            if self._above is None or self._above[0] is not folder.above:
                self.let_go()
                self._above = (folder.above, self._descend(folder.above))
            return _opened(folder.name, self._above[1])
        except PermissionError:
            return None
        except OSError:
            # Gone, or no folder any more; or this machine has no descriptor left.
            self.has_lost = self.has_lost or folder.above is not None
            return None

    def _descend(self, folder: _Folder) -> int:
        """Open it from the first folder on, each in the one above it. Raises OSError."""
        way: list[str] = []
        here: _Folder = folder
        while here.above is not None:
            way.append(here.name)
            here = here.above
        self._effort += len(way)
        descriptor = _opened(self._root, None)
        for name in reversed(way):
            try:
                deeper = _opened(name, descriptor)
            finally:
                os.close(descriptor)
            descriptor = deeper
        return descriptor


def _opened(folder: Path | str, above: int | None) -> int:
    """A descriptor. Raises OSError, also where a link is."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
