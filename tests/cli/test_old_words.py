"""Old command names, with a host and without one: the result on stdout, a hint on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanohost.cli.main import build_parser, main
from nanohost.commands.old_words import LONG_NAMES, OLD_WORDS
from nanohost.commands.registry import commands
from tests.cli.conftest import Daemon, Shell

GROUP = {"groups create": ("work",), "groups delete": ("main",), "groups update": ("main", "--name", "Ada")}
MEMBER = ("telegram:7", "--group", "main")
TYPED = {
    **{f"groups {verb}": ("main",) for verb in ("get", "show", "hold", "release", "restart")},
    **GROUP,
    "members create": MEMBER,
    "members delete": MEMBER,
    "roles grant": ("telegram:7", "member"),
    "roles revoke": ("telegram:7", "member"),
    "channels add": ("nosuch",),
    "channels remove": ("nosuch",),
    "deliveries show": ("s1", "7"),
    "sessions show": ("s1",),
    "tasks show": ("j7",),
}
"""Arguments of these commands."""


@pytest.mark.parametrize("old", [words for words in OLD_WORDS if " " in words])
def test_old_command_names_still_work_with_one_hint_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str
) -> None:
    home = ["--home", str(tmp_path)]
    assert main([*home, "agents", "create", "main"]) == 0
    capsys.readouterr()
    code = main([*home, *old.split(), *TYPED.get(old, ()), "--json"])
    said = capsys.readouterr()
    hint, *refusal = said.err.splitlines()
    assert hint == f'hint: "nanohost {old}" is now "nanohost {OLD_WORDS[old]}"'
    if code == 0:
        assert refusal == []
        json.loads(said.out)
    else:  # there is none of that name here
        assert refusal[0].startswith("nanohost: ")
        assert "there is no command" not in refusal[0]


def test_old_command_names_appear_in_no_help() -> None:
    names = build_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    nouns = {words.partition(" ")[0] for words in commands()}
    assert set(names or ()) == {"run", "chat", "completion", *nouns}
    assert not {"groups", "members", *LONG_NAMES} & set(names or ())


def test_a_running_host_accepts_old_command_names(shell: Shell, daemon: Daemon) -> None:
    assert shell.run("agents", "create", "main").err == ""
    for old, now in (("groups list", "agents list"), ("roles grant", "roles create"), ("tasks show", "tasks get")):
        typed = shell.run(*old.split(), *TYPED.get(old, ()), "-o", "json")
        assert typed.err.splitlines()[0] == f'hint: "nanohost {old}" is now "nanohost {now}"'
        assert typed.code == (2 if old == "tasks show" else 0)
        assert typed.code == 2 or json.loads(typed.out)


def test_a_member_created_with_the_old_command_is_a_role(shell: Shell) -> None:
    shell.run_json("agents", "create", "main")
    assert shell.run("members", "create", *MEMBER).code == 0
    [role] = json.loads(shell.run("members", "list", "--group", "main", "--json").out)
    assert (role["user"], role["role"], role["group"]) == ("telegram:7", "member", "main")
    assert shell.run_json("roles", "list", "--role", "member") == [role]
