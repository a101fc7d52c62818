"""Folders are removed whatever a container put there: with little memory, a moment at a time, and nothing else."""

from __future__ import annotations

import os
import resource
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from nanohost.work import tree_removal
from nanohost.work.tree_removal import MAX_OPEN_LEVELS, STEP_S, RemovalResult, open_dir, remove_step, remove_tree
from tests.support.folders import MANY_FILES, fill_folder, nest_folders

TRIES = 5_000
"""Without O_NOFOLLOW a few of a thousand fail."""
STANDS: Callable[[], float] = lambda: 0.0  # noqa: E731


def step(path: Path, *, monotonic: Callable[[], float] = STANDS) -> RemovalResult:
    with open_dir(path.parent, None) as above:
        return remove_step(path.name, above, monotonic=monotonic)


def steps(path: Path) -> Iterator[RemovalResult]:
    """Run steps until nothing is left to do. Time stands still: a step does all that it can."""
    while True:
        yield (progress := step(path))
        if progress is not RemovalResult.INCOMPLETE:
            return


def test_very_many_files_are_removed_with_little_memory(folder: Path) -> None:
    fill_folder(folder / "full", MANY_FILES)
    tracemalloc.start()
    try:
        assert list(steps(folder / "full"))[-1] is RemovalResult.REMOVED
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 1_000_000
    assert not (folder / "full").exists()


def test_a_step_ends_after_a_moment_and_the_next_continues(tmp_path: Path) -> None:
    fill_folder(tmp_path / "full", 10)
    left = []
    ticks = count(step=STEP_S / 4)
    while step(tmp_path / "full", monotonic=ticks.__next__) is RemovalResult.INCOMPLETE:
        left.append(len(os.listdir(tmp_path / "full")))  # noqa: PTH208
    assert left == [5, 1]
    assert not (tmp_path / "full").exists()


@pytest.mark.parametrize("levels", [MAX_OPEN_LEVELS - 1, MAX_OPEN_LEVELS, 5_000])
def test_folders_are_removed_however_deep_they_are_nested(folder: Path, levels: int) -> None:
    nest_folders(folder / "deep", levels)
    assert list(steps(folder / "deep"))[-1] is RemovalResult.REMOVED
    assert not (folder / "deep").exists()


def test_any_depth_needs_only_descriptors_for_sixteen_levels(folder: Path) -> None:
    nest_folders(folder / "deep", 500)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 2 * MAX_OPEN_LEVELS + 4, before[1]))
    try:
        assert list(steps(folder / "deep"))[-1] is RemovalResult.REMOVED
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def highest_descriptor() -> int:
    return max(int(path.name) for path in Path("/proc/self/fd").iterdir())


def test_symlinks_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "precious").write_text("12345")
    (tmp_path / "full" / "inner").mkdir(parents=True)
    for place in ("link", "inner/link"):
        (tmp_path / "full" / place).symlink_to(tmp_path / "host")
    assert list(steps(tmp_path / "full"))[-1] is RemovalResult.REMOVED
    assert (tmp_path / "host" / "precious").read_text() == "12345"


def test_a_path_that_is_not_a_folder_is_removed_and_a_missing_one_counts_as_removed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "link", "pipe", "nothing"):
        assert step(tmp_path / name) is RemovalResult.REMOVED
    assert list(tmp_path.iterdir()) == []


def test_a_symlink_swapped_in_during_removal_is_not_followed(folder: Path) -> None:
    (folder / "host").mkdir()
    (folder / "host" / "precious").touch()
    changing, over = folder / "full" / "changing", threading.Event()

    def swap() -> None:
        """It alternates between a folder and a symlink to another, all the time."""
        makes_link = partial(changing.symlink_to, folder / "host")
        while not over.is_set():
            for change in (changing.parent.mkdir, changing.mkdir, changing.rmdir, makes_link, changing.unlink):
                with suppress(OSError):
                    change()

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(TRIES):
            step(folder / "full", monotonic=time.monotonic)
    finally:
        over.set()
        swapping.join()
    assert (folder / "host" / "precious").exists()


def test_an_undeletable_file_stays_and_the_rest_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_folder(tmp_path / "full", 5)

    def refusing(name: str, *, dir_fd: int) -> None:
        if name == "3":
            raise PermissionError
        os.unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(tree_removal, "unlink", refusing)
    assert list(steps(tmp_path / "full")) == [RemovalResult.INCOMPLETE, RemovalResult.BLOCKED]
    assert os.listdir(tmp_path / "full") == ["3"]  # noqa: PTH208


def test_a_folder_is_removed_completely(tmp_path: Path) -> None:
    fill_folder(tmp_path / "full", 10)
    nest_folders(tmp_path / "full" / "deep", 100)
    remove_tree(tmp_path / "full")
    remove_tree(tmp_path / "full")
    remove_tree(tmp_path / "no" / "such")
    assert list(tmp_path.iterdir()) == []
