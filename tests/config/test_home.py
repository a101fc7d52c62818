"""The install root: where it is, what is in it, and that one process at a time holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanohost.config.home import Home, HomeLocked, LockPurpose, find_home, lock_home
from nanohost.config.shipped import shipped_root
from nanohost.errors import HomeError
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

HOLDS = """
import sys, time
from pathlib import Path
from nanohost.config.home import Home, lock_home
with lock_home(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the home."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_home_option_comes_before_the_variable_and_that_before_the_checkout(tmp_path: Path) -> None:
    assert find_home(tmp_path / "a", {"NANOHOST_HOME": "/b"}) == tmp_path / "a"
    assert find_home(None, {"NANOHOST_HOME": str(tmp_path / "b")}) == tmp_path / "b"
    assert find_home(None, {"NANOHOST_HOME": ""}) == shipped_root()


def test_a_home_path_is_absolute_and_expands_the_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_home(Path("here"), {}) == tmp_path / "here"
    assert find_home(Path("~/there"), {}) == tmp_path / "there"


def test_preparing_a_home_creates_missing_private_folders(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    home.prepare()
    home.prepare()
    assert home.groups.is_dir()
    for private in (home.database.parent, home.sessions, home.run_dir):
        assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.behaviour("OP-05")
def test_an_unwritable_home_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file, not a folder")
    with pytest.raises(HomeError, match="cannot be written") as caught:
        Home(tmp_path / "home").prepare()
    assert "--home" in caught.value.hint


@pytest.mark.behaviour("SE-02")
def test_a_second_host_is_refused_and_told_who_holds_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    told = rf"another nanohost \(pid {holder.pid}, begun \d+ (s|min) ago\) holds"
    with pytest.raises(HomeLocked, match=told) as caught, lock_home(Home(tmp_path)):
        pass
    assert caught.value.hint == "nanohost status"
    assert caught.value.holder is not None
    assert caught.value.holder.purpose is LockPurpose.HOST


@pytest.mark.behaviour("SE-02")
def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(timeout=scaled_timeout(HANG_TIMEOUT_S))
    with lock_home(Home(tmp_path)):
        pass


def test_a_released_home_can_be_locked_again(tmp_path: Path) -> None:
    with lock_home(Home(tmp_path)), pytest.raises(HomeLocked), lock_home(Home(tmp_path)):
        pass
    with lock_home(Home(tmp_path), LockPurpose.COMMAND):
        assert Home(tmp_path).lock_file.read_text().split()[0] == str(os.getpid())


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "print('up', flush=True); input()"]
    with lock_home(Home(tmp_path)):
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False)
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
    with child:
        with lock_home(Home(tmp_path)):
            pass
        child.communicate("\n", timeout=scaled_timeout(HANG_TIMEOUT_S))


def test_a_lock_without_a_holders_name_yet_still_refuses(tmp_path: Path) -> None:
    with lock_home(Home(tmp_path)):
        Home(tmp_path).lock_file.write_text("")
        with pytest.raises(HomeLocked, match="another nanohost holds") as caught, lock_home(Home(tmp_path)):
            pass
    assert caught.value.holder is None


def test_the_character_file_is_not_written_through_a_symlink(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.groups / "main").mkdir()
    (home.groups / "main" / "CLAUDE.md").symlink_to(tmp_path / "elsewhere")
    home.create_group_folder("main", "main")
    assert not (tmp_path / "elsewhere").exists()
