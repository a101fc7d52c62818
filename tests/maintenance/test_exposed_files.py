"""Files that others on this machine can read are reported, with the command that fixes them."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.config.settings import load_settings
from nanohost.maintenance.exposed_files import find_exposed_files
from nanohost.runtimes.session_folders import CONTAINER_UID
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Daemon, Shell, daemon, shell

__all__ = ["daemon", "shell"]
INLINE = '[agent]\napi_key = "sk-secret-of-this-file"\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.prepare()
    return home


def test_a_new_home_is_private(home: Home) -> None:
    assert home.groups.stat().st_mode & 0o777 == 0o700
    assert find_exposed_files(home, load_settings(home.root, {})) == []


def test_an_unused_checkout_is_made_private_and_one_in_use_is_left_unchanged(tmp_path: Path) -> None:
    """Git creates the folder with the usual permissions: nobody has chosen them."""
    for name, agent, mode in (("new", "", 0o700), ("used", "main", 0o755)):
        home = Home(tmp_path / name)
        (home.groups / agent).mkdir(parents=True)
        (home.groups / ".gitkeep").touch()
        home.groups.chmod(0o755)
        home.prepare()
        assert home.groups.stat().st_mode & 0o777 == mode
    home = Home(tmp_path / "new")
    home.groups.chmod(0o755)
    home.prepare()
    assert home.groups.stat().st_mode & 0o777 == 0o755, "once it is in use the mode is the operator's"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_readable_file_with_secrets_is_reported_with_a_command_that_fixes_it(home: Home, mode: int) -> None:
    file = home.root / "nanohost.toml"
    file.write_text(INLINE)
    file.chmod(mode)
    [found] = find_exposed_files(home, load_settings(home.root, {}))
    assert found.path == file
    subprocess.run(found.fix_command, shell=True, check=True)
    assert find_exposed_files(home, load_settings(home.root, {})) == []


def test_a_file_without_secrets_may_be_readable_by_others(home: Home) -> None:
    file = home.root / "nanohost.toml"
    file.write_text('[host]\nprovider = "demo"\n')
    file.chmod(0o644)
    assert find_exposed_files(home, load_settings(home.root, {"ANTHROPIC_API_KEY": "sk-from-the-environment"})) == []


def test_readable_agent_folders_are_reported_with_a_command_that_fixes_them(home: Home) -> None:
    home.groups.chmod(0o755)
    [found] = find_exposed_files(home, load_settings(home.root, {}))
    assert found.path == home.groups
    subprocess.run(found.fix_command, shell=True, check=True)
    assert find_exposed_files(home, load_settings(home.root, {})) == []
    home.prepare()
    assert home.groups.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="containers have a number of their own for root only")
def test_readable_agent_folders_of_a_root_host_name_the_user_with_the_containers_uid(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of this machine's users is replaced: a test adds no user."""
    ann = pwd.struct_passwd(("ann", "x", CONTAINER_UID, 100, "", "/home/ann", "/bin/sh"))
    home.groups.chmod(0o755)
    with monkeypatch.context() as machine:
        machine.setattr(pwd, "getpwuid", {CONTAINER_UID: ann}.__getitem__)
        [found] = find_exposed_files(home, load_settings(home.root, {}))
        assert found.problem.endswith("and ann, whose number containers have, can change what agents keep")
        machine.setattr(pwd, "getpwuid", {}.__getitem__)
        [found] = find_exposed_files(home, load_settings(home.root, {}))
        assert found.problem == "others on this machine can enter it, and read what agents keep"
        home.groups.chmod(0o700)
        machine.setattr(pwd, "getpwuid", {CONTAINER_UID: ann}.__getitem__)
        assert find_exposed_files(home, load_settings(home.root, {})) == [], "whoever has the number cannot get there"


def test_exposed_files_are_reported_by_status_and_at_start(shell: Shell, daemon: Daemon) -> None:
    assert shell.run_json("status")["files_exposed"] == []
    (shell.home / "groups").chmod(0o755)
    [row] = shell.run_json("status")["files_exposed"]
    assert row["do"].startswith("chmod 700 ")
    assert row["do"] in shell.run("status").out
    daemon.stop()
    with shell.start("run", NANOHOST_LOG="json") as host:
        assert host.stderr is not None
        assert any(row["do"] in line for line in host.stderr)
        host.terminate()
        host.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
