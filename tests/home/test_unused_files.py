"""Skills and tool servers that nothing uses yet are named, with what to do."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nanohost.home import Home
from nanohost.testing.limits import HANG_S, seconds
from nanohost.unused_files import MOST, unused
from tests.cli.conftest import Shell, shell

__all__ = ["shell"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.prepare()
    home.begin_group("main", "main")
    return home


def test_a_home_without_skills_and_tool_servers_has_nothing_unused(home: Home) -> None:
    (home.root / "skills").mkdir()
    (home.root / "skills" / ".gitkeep").touch()
    assert unused(home) == []


@pytest.mark.parametrize("place", ["", "groups/main"])
def test_a_list_of_tool_servers_is_named(home: Home, place: str) -> None:
    path = home.root / place / ".mcp.json"
    path.write_text("{}")
    [found] = unused(home)
    assert found.path == path
    assert "tool server" in found.problem


@pytest.mark.parametrize("place", ["skills", "groups/main/skills"])
def test_a_skill_where_none_is_looked_for_is_named_with_the_folder_that_works(home: Home, place: str) -> None:
    path = home.root / place / "tea"
    path.mkdir(parents=True)
    [found] = unused(home)
    assert found.path == path
    assert "groups/AGENT/.claude/skills/" in found.do


def test_skills_that_an_agent_has_are_not_named(home: Home) -> None:
    (home.groups / "main" / ".claude" / "skills" / "tea").mkdir(parents=True)
    assert unused(home) == []


def test_what_an_agent_fills_its_folder_with_makes_no_long_list_and_no_link_is_followed(home: Home) -> None:
    (home.groups / "main" / "skills").symlink_to("/usr/bin")
    assert unused(home) == []
    (home.groups / "other" / "skills").mkdir(parents=True)
    for number in range(MOST + 10):
        (home.groups / "other" / "skills" / str(number)).touch()
    assert len(unused(home)) == MOST


@pytest.mark.behaviour("OP-01")
def test_status_and_the_start_of_a_host_name_what_is_not_used(shell: Shell) -> None:
    skill = shell.home / "skills" / "tea"
    skill.mkdir(parents=True)
    with shell.start("run", NANOHOST_LOG="json") as host:
        assert host.stderr is not None
        begun = list(itertools.takewhile(lambda line: "host_ready" not in line, host.stderr))
        host.terminate()
        host.communicate(timeout=seconds(HANG_S))
    assert any(str(skill) in line for line in begun)
    [row] = shell.reads("status")["files_unused"]
    assert row["path"] == str(skill)
    shown = shell.types("status").out
    assert "Files that nothing uses yet   → put a skill into groups/AGENT/.claude/skills/" in shown
    assert "Nothing is wrong with the data." in shown
