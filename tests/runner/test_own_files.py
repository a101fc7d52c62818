"""Which of its files an agent may send: plain ones in its own folders, whatever symlinks say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_runner import own_files
from agent_runner.own_files import UnreadableFile


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    real = tmp_path / "real"
    real.mkdir()
    (real / "a.txt").write_text("mine")
    (tmp_path / "mine").symlink_to(real)  # as where there are no mounts
    return tmp_path / "mine"


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "link"])
def test_an_own_file_is_read_through_symlinks_that_stay_inside(mine: Path, path: str) -> None:
    (mine / "link").symlink_to("a.txt")
    assert own_files.read_file(path, roots=[mine]) == b"mine"
    assert own_files.read_file(str(mine / path), roots=[mine]) == b"mine"
    assert own_files.read_file(str(mine / path), roots=[mine / "elsewhere", mine]) == b"mine"


@pytest.mark.parametrize("path", ["../outside/secret", "file", "folder/secret"])
def test_no_path_leads_outside_the_allowed_folders(mine: Path, path: str) -> None:
    (mine / "file").symlink_to("../outside/secret")
    (mine / "folder").symlink_to(mine.parent / "outside")
    with pytest.raises(UnreadableFile, match="neither in your folder nor in /tmp"):
        own_files.read_file(path, roots=[mine])


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("folder", "no plain file"),
        ("pipe", "no plain file"),
        ("empty", "is empty"),
        ("large", "is larger than 0 MiB"),
        ("missing", "No such file"),
        ("circle", "Too many levels of symbolic links"),
        ("a.txt/b", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("half\ud800", "is no path"),
        (".", "neither in your folder"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_with_the_reason(mine: Path, path: str, why: str) -> None:
    (mine / "folder").mkdir()
    os.mkfifo(mine / "pipe")
    (mine / "empty").touch()
    (mine / "large").write_bytes(b"x" * 11)
    (mine / "circle").symlink_to("circle")
    with pytest.raises(UnreadableFile, match=why):
        own_files.read_file(path, roots=[mine], max_bytes=10)


def test_a_symlink_swapped_in_is_not_followed(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "folder").symlink_to(mine.parent / "outside")
    monkeypatch.setattr(own_files, "_real_path", lambda path: path)  # checked before the link was made
    with pytest.raises(UnreadableFile, match="cannot be read"):
        own_files.read_file("folder/secret", roots=[mine.parent / "real"])
