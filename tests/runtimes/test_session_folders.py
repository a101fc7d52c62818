"""A container's folders are owned by its user, whatever an earlier one left there."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from nanohost.errors import SpawnError
from nanohost.runtimes.session_folders import MAX_LEVELS, change_owner
from tests.support.folders import fill_folder, nest_folders

OWNER = 4242
FILES = 20_000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def test_a_folders_owner_is_changed_with_everything_in_it(tmp_path: Path) -> None:
    nest_folders(tmp_path / "given", 30)
    (tmp_path / "given" / "d" / "file").touch()
    change_owner(tmp_path / "given", OWNER)
    assert owners(tmp_path / "given") == {OWNER}


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    for name in ("host", "given"):
        (tmp_path / name).mkdir()
    (tmp_path / "host" / "file").touch()
    (tmp_path / "given" / "folder").symlink_to(tmp_path / "host")
    (tmp_path / "given" / "file").symlink_to(tmp_path / "host" / "file")
    change_owner(tmp_path / "given", OWNER)
    assert owners(tmp_path / "host") == {os.getuid()}
    assert owners(tmp_path / "given") == {OWNER}


def test_changing_the_owner_of_very_many_files_uses_little_memory(folder: Path) -> None:
    fill_folder(folder / "given", FILES)
    tracemalloc.start()
    try:
        change_owner(folder / "given", OWNER)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 200_000
    assert owners(folder / "given") == {OWNER}


def test_a_folder_nested_too_deep_is_refused_with_what_to_do(folder: Path) -> None:
    nest_folders(folder / "given", 2_000)
    with pytest.raises(SpawnError, match=f"more than {MAX_LEVELS} deep") as refused:
        change_owner(folder / "given", OWNER)
    assert refused.value.hint.startswith(f"chown -R {OWNER}:{OWNER} ")
    assert (folder / "given").stat().st_uid == os.getuid(), "the next start tries again"
