"""The disk usage of a container's folders, counted a moment at a time, whatever they contain."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

import pytest

from nanohost.containers import disk_usage
from nanohost.containers.disk_space import DiskSpace
from nanohost.containers.disk_usage import (
    ENTRIES_PER_CHECK,
    IDLE_SCAN_INTERVAL_S,
    MAX_DEPTH,
    MAX_INCOMPLETE_COUNTS,
    MIN_ENTRY_BYTES,
    STEP_S,
    FolderOverLimit,
    FolderUncountable,
    Footprint,
    WatchedFolder,
    allowed_bytes,
)

STANDS: Callable[[], float] = lambda: 0.0  # noqa: E731
LONG_AFTER: Callable[[], int] = lambda: 10**20  # noqa: E731 - all was there before, and nothing changed just now
EMPTY_BEFORE: Callable[[], int] = lambda: 1  # noqa: E731 - whatever is found was made after the first look
MIB = 1024**2


def watched(path: Path, *, limit: int, name: str = "out") -> Footprint:
    """A folder that one step counts completely: time stands still. Its initial size is zero."""
    return Footprint(WatchedFolder(name=name, path=path, limit_bytes=limit), STANDS, EMPTY_BEFORE)


@pytest.mark.behaviour("SE-06")
def test_files_count_at_every_depth_and_so_do_empty_ones(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "full").write_bytes(b"\1" * 100_000)
    (deep / "empty").touch()
    assert watched(tmp_path, limit=100_000 + 3 * MIN_ENTRY_BYTES - 1).count_step() is not None
    assert watched(tmp_path, limit=200_000).count_step() is None


@pytest.mark.behaviour("SE-06")
def test_symlinks_are_not_followed_and_a_missing_folder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "large").write_bytes(b"\1" * 100_000)
    (tmp_path / "out" / "file").symlink_to(tmp_path / "large")
    (tmp_path / "out" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path)
    assert watched(tmp_path / "out", limit=2 * MIN_ENTRY_BYTES).count_step() is None
    assert watched(tmp_path / "linked", limit=0).count_step() is None
    assert watched(tmp_path / "gone", limit=0).count_step() is None


@pytest.mark.behaviour("SE-06")
def test_a_symlink_swapped_into_a_path_during_a_count_is_not_followed(tmp_path: Path) -> None:
    """Listed as out/a and then out/a/b: by the time b is opened, a is a link to a folder of the host's that has a b."""
    out, host = tmp_path / "out", tmp_path / "host"
    for folder in (out / "a" / "b", host / "b"):
        folder.mkdir(parents=True)
    (host / "b" / "secret").write_bytes(b"\1" * 10 * MIB)
    for number in range(2 * ENTRIES_PER_CHECK):
        (out / "a" / str(number)).touch()
    ticks = count(step=STEP_S)
    slow = Footprint(WatchedFolder(name="out", path=out, limit_bytes=5 * MIB), ticks.__next__, EMPTY_BEFORE)
    assert slow.count_step() is None
    assert slow.is_counting(), "it stopped in the middle of a"
    (out / "a").rename(out / "elsewhere")
    (out / "a").symlink_to(host)
    while slow.is_counting():
        assert slow.count_step() is None
    assert slow.latest_snapshot is None, "what was in a may have been more: it was no whole count"


@pytest.mark.behaviour("SE-06")
def test_a_folder_over_its_limit_is_named_with_the_setting_of_the_limit(tmp_path: Path) -> None:
    (tmp_path / "hoard").write_bytes(b"\1" * 3 * MIB)
    folder = WatchedFolder(name="state", path=tmp_path, limit_bytes=MIB, setting="session_disk_mb")
    sentence = (
        f"its state folder has grown beyond 1 MiB: remove what should not be there ({tmp_path}), or raise "
        "session_disk_mb in [host] of nanohost.toml and start nanohost again"
    )
    assert Footprint(folder, STANDS, EMPTY_BEFORE).count_step() == FolderOverLimit(detail=sentence, is_group_wide=False)


@pytest.mark.behaviour("SE-06")
def test_a_count_pauses_after_a_moment_and_continues_where_it_stopped(tmp_path: Path) -> None:
    for number in range(3 * ENTRIES_PER_CHECK):
        (tmp_path / str(number)).touch()
    ticks = count(step=STEP_S)
    folder = WatchedFolder(name="out", path=tmp_path, limit_bytes=(3 * ENTRIES_PER_CHECK - 1) * MIN_ENTRY_BYTES)
    slow = Footprint(folder, ticks.__next__, EMPTY_BEFORE)
    looks = [slow.count_step() is not None for _ in range(5)]
    assert looks == [False] * 4 + [True]


@pytest.mark.behaviour("SE-06")
def test_more_folders_than_can_be_remembered_exceed_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_usage, "MAX_PENDING_BYTES", 10 * disk_usage.PENDING_ENTRY_BYTES)
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    grown = watched(tmp_path, limit=1024**3).count_step()
    assert isinstance(grown, FolderOverLimit)
    assert "more folders than can be counted" in grown.detail


@pytest.mark.behaviour("SE-06")
@pytest.mark.parametrize("name", ["d" * 200, "d"])
def test_a_folder_nested_too_deep_to_open_is_still_counted(tmp_path: Path, name: str) -> None:
    nested(tmp_path, name, MAX_DEPTH + 1)
    grown = watched(tmp_path, limit=1024**3).count_step()
    assert isinstance(grown, FolderOverLimit)
    assert "nested deeper than can be counted" in grown.detail


@pytest.mark.behaviour("SE-06")
def test_a_file_below_a_too_long_path_is_counted_with_few_open_descriptors(
    tmp_path: Path,
) -> None:
    bottom = nested(tmp_path, "d" * 200, 25)  # 5,000 characters: no path leads there
    large = os.open("large", os.O_WRONLY | os.O_CREAT, dir_fd=bottom)
    os.write(large, b"\1" * MIB)
    os.close(large)
    os.close(bottom)
    before = open_descriptors()
    ticks = count(step=STEP_S)
    slow = Footprint(WatchedFolder(name="out", path=tmp_path, limit_bytes=1024**3), ticks.__next__, EMPTY_BEFORE)
    while slow.latest_snapshot is None:
        slow.count_step()
        assert open_descriptors() <= before + 2
    assert slow.latest_snapshot.usage.disk_bytes >= MIB
    assert slow.latest_snapshot.usage.entries == 26
    assert open_descriptors() == before


@pytest.mark.behaviour("SE-06")
def test_constantly_renamed_folders_are_counted_while_the_session_is_idle(tmp_path: Path) -> None:
    """The folder with nearly all data is renamed repeatedly, faster than it can be opened after the many listed with
    it."""
    for number in range(2000):
        (tmp_path / f"empty-{number}").mkdir()
    (tmp_path / "name-0").mkdir()
    (tmp_path / "name-0" / "hoard").write_bytes(b"\1" * 9 * MIB)
    disk = Disk(1000 * MIB)
    folder = WatchedFolder(name="out", path=tmp_path, limit_bytes=10 * MIB)
    times = chain([1], (time.time_ns() for _ in count()))  # first counted long ago
    found = Footprint(folder, STANDS, times.__next__, read_space=disk.space)
    with always_renamed(tmp_path):
        verdict: FolderOverLimit | FolderUncountable | None = first_verdict(found)
    if isinstance(verdict, FolderUncountable):
        assert found.needs_idle_scan
        found.begin_idle_scan()
        verdict = found.count_step()
        found.end_idle_scan()
    assert isinstance(verdict, FolderOverLimit)
    assert "has grown beyond 10 MiB" in verdict.detail


@pytest.mark.behaviour("SE-06")
def test_three_incomplete_counts_in_a_row_make_a_folder_uncountable_if_it_may_be_too_large(tmp_path: Path) -> None:
    disk, clock = Disk(1000 * MIB), [0.0]
    found = Footprint(
        WatchedFolder(name="out", path=tmp_path, limit_bytes=100 * MIB),
        lambda: clock[0],
        LONG_AFTER,
        read_space=disk.space,
    )
    assert found.count_step() is None
    assert found.latest_snapshot is not None
    lose = LosingCounts(found, tmp_path)
    for _ in range(5):
        assert lose.once() is None, "the disk lost nothing: it cannot hide much"
    disk.free -= 101 * MIB
    assert isinstance(lose.once(), FolderUncountable)
    found.begin_idle_scan()
    assert found.count_step() is None
    found.end_idle_scan()
    disk.free -= 101 * MIB
    assert [lose.once() for _ in range(MAX_INCOMPLETE_COUNTS + 1)] == [None] * (MAX_INCOMPLETE_COUNTS + 1), (
        "not again so soon"
    )
    clock[0] += IDLE_SCAN_INTERVAL_S
    assert isinstance(lose.once(), FolderUncountable)


@pytest.mark.behaviour("SE-06")
def test_a_complete_count_resets_the_number_of_incomplete_ones(tmp_path: Path) -> None:
    disk = Disk(1000 * MIB)
    found = Footprint(
        WatchedFolder(name="out", path=tmp_path, limit_bytes=100 * MIB), STANDS, LONG_AFTER, read_space=disk.space
    )
    lose = LosingCounts(found, tmp_path)
    found.count_step()
    disk.free -= 500 * MIB
    for _ in range(MAX_INCOMPLETE_COUNTS):
        assert lose.once() is None
        assert found.count_step() is None


@pytest.mark.parametrize(("first_seen", "most"), [(0, 1000), (1000, 1000), (1001, 1101), (5000, 5100)])
def test_a_folder_first_seen_over_its_limit_may_grow_by_a_tenth_of_the_limit(first_seen: int, most: int) -> None:
    assert allowed_bytes(1000, first_seen) == most


@pytest.mark.behaviour("SE-06")
def test_a_folder_that_starts_out_too_large_is_held_only_when_it_grows(tmp_path: Path) -> None:
    (tmp_path / "work").write_bytes(b"\1" * 15 * MIB)
    after = (tmp_path / "work").stat().st_ctime_ns + 1
    found = Footprint(WatchedFolder(name="workspace", path=tmp_path, limit_bytes=10 * MIB), STANDS, lambda: after)
    assert found.count_step() is None
    assert found.initial_bytes == 15 * MIB
    (tmp_path / "a little").write_bytes(b"\1" * (MIB - 1))
    assert found.count_step() is None
    (tmp_path / "more").write_bytes(b"\1" * 4096)
    grown = found.count_step()
    assert isinstance(grown, FolderOverLimit)
    assert "has grown beyond 10 MiB by more than 1 MiB" in grown.detail


@pytest.mark.behaviour("SE-06")
def test_files_written_during_the_first_count_are_not_part_of_the_initial_size(
    tmp_path: Path,
) -> None:
    """Otherwise a fast writer would get as its limit whatever it had written by the end of the first count."""
    (tmp_path / "old").write_bytes(b"\1" * 15 * MIB)
    begun = (tmp_path / "old").stat().st_ctime_ns + 1
    new = tmp_path / "new"
    new.touch()
    while new.stat().st_ctime_ns < begun:
        new.touch()  # the clock of a file system moves every few milliseconds
    (tmp_path / "new").write_bytes(b"\1" * 3 * MIB)
    found = Footprint(WatchedFolder(name="workspace", path=tmp_path, limit_bytes=10 * MIB), STANDS, lambda: begun)
    assert isinstance(found.count_step(), FolderOverLimit)


@pytest.mark.behaviour("SE-06")
def test_a_large_folder_that_was_cleaned_up_gets_its_limit_back(tmp_path: Path) -> None:
    (tmp_path / "work").write_bytes(b"\1" * 15 * MIB)
    after = (tmp_path / "work").stat().st_ctime_ns + 1
    found = Footprint(WatchedFolder(name="workspace", path=tmp_path, limit_bytes=10 * MIB), STANDS, lambda: after)
    found.count_step()
    os.truncate(tmp_path / "work", 12 * MIB)
    assert found.count_step() is None
    assert found.initial_bytes == 12 * MIB
    os.truncate(tmp_path / "work", 9 * MIB)
    assert found.count_step() is None
    assert found.initial_bytes == 0
    (tmp_path / "more").write_bytes(b"\1" * 2 * MIB)
    assert isinstance(found.count_step(), FolderOverLimit)


class Disk:
    """A file system with a given number of free bytes."""

    def __init__(self, free: int) -> None:
        self.free = free

    def space(self, folder: Path) -> DiskSpace:
        return DiskSpace(total_bytes=10 * 1024**3, free_bytes=self.free)


class LosingCounts:
    """Counts of a folder in which a subfolder vanishes between being listed and being opened."""

    def __init__(self, found: Footprint, path: Path) -> None:
        self._found = found
        self._path = path

    def once(self) -> FolderOverLimit | FolderUncountable | None:
        short_lived = self._path / "short-lived"
        short_lived.mkdir()
        for number in range(ENTRIES_PER_CHECK):
            (self._path / str(number)).touch()
        monotonic, ticks = self._found.monotonic, count(step=STEP_S)
        self._found.monotonic = ticks.__next__
        self._found.count_step()  # stops within the first folder, of which all names have been read
        self._found.monotonic = monotonic
        short_lived.rmdir()
        return self._found.count_step()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def nested(path: Path, name: str, depth: int) -> int:
    """Nested folders. Returns a descriptor of the innermost one."""
    here = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    return here


def first_verdict(found: Footprint) -> FolderOverLimit | FolderUncountable:
    for _ in range(MAX_INCOMPLETE_COUNTS):
        if (verdict := found.count_step()) is not None:
            return verdict
    raise AssertionError("it was never found")


RENAMER = """
import os, sys
os.chdir(sys.argv[1])
names, number = ("name-%d", "other-%d"), 0
print("at work", flush=True)
while True:
    number += 1
    os.rename(names[1 - number % 2] % (number - 1), names[number % 2] % number)
"""


@contextmanager
def always_renamed(path: Path) -> Iterator[None]:
    """While entered, another process keeps renaming the folder name-0."""
    with subprocess.Popen([sys.executable, "-c", RENAMER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()
