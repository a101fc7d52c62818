"""Unused skills and tool servers are reported, with what to do."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.maintenance.unused_files import MAX_REPORTED, find_unused_files
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell, shell

__all__ = ["shell"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.prepare()
    home.create_group_folder("main", "main")
    return home


def test_a_home_without_skills_and_tool_servers_has_nothing_unused(home: Home) -> None:
    (home.root / "skills").mkdir()
    (home.root / "skills" / ".gitkeep").touch()
    assert find_unused_files(home) == []


@pytest.mark.parametrize("place", ["", "groups/main"])
def test_a_list_of_tool_servers_is_reported(home: Home, place: str) -> None:
    path = home.root / place / ".mcp.json"
    path.write_text("{}")
    [found] = find_unused_files(home)
    assert found.path == path
    assert "tool server" in found.problem


@pytest.mark.parametrize("place", ["skills", "groups/main/skills"])
def test_a_skill_in_an_ignored_folder_is_reported_with_the_folder_that_works(home: Home, place: str) -> None:
    path = home.root / place / "tea"
    path.mkdir(parents=True)
    [found] = find_unused_files(home)
    assert found.path == path
    assert "groups/AGENT/.claude/skills/" in found.hint


def test_skills_in_the_right_folder_are_not_reported(home: Home) -> None:
    (home.groups / "main" / ".claude" / "skills" / "tea").mkdir(parents=True)
    assert find_unused_files(home) == []


def test_the_report_of_unused_files_is_limited_and_follows_no_symlink(home: Home) -> None:
    (home.groups / "main" / "skills").symlink_to("/usr/bin")
    assert find_unused_files(home) == []
    (home.groups / "other" / "skills").mkdir(parents=True)
    for number in range(MAX_REPORTED + 10):
        (home.groups / "other" / "skills" / str(number)).touch()
    assert len(find_unused_files(home)) == MAX_REPORTED


@pytest.mark.behaviour("OP-01")
def test_unused_files_are_reported_by_status_and_at_start(shell: Shell) -> None:
    skill = shell.home / "skills" / "tea"
    skill.mkdir(parents=True)
    with shell.start("run", NANOHOST_LOG="json") as host:
        assert host.stderr is not None
        begun = list(itertools.takewhile(lambda line: "host_ready" not in line, host.stderr))
        host.terminate()
        host.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert any(str(skill) in line for line in begun)
    [row] = shell.run_json("status")["files_unused"]
    assert row["path"] == str(skill)
    shown = shell.run("status").out
    assert "Files that nothing uses yet   → put a skill into groups/AGENT/.claude/skills/" in shown
    assert "Nothing is wrong with the data." in shown
