"""Installed files that the host itself runs: actions and chat commands. A problem in one does not affect others."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.actions import registry as actions
from nanohost.chat_commands import registry as commands

HEADER = """\
# /// script
# dependencies = {dependencies}
# [tool.nanohost]
# kind = "{kind}"
# api = {api}
# ///
"""
ACTION = """
from nanohost.actions.registry import Action, Arguments

async def _do(tx, request, wanted):
    return None

ACTIONS = (Action(name={name!r}, title="t", arguments=Arguments, effect=_do),)
"""
COMMAND = """
from nanohost.chat_commands.{module} import {type}

async def _do(*_):
    return ""

COMMAND = {type}(name={name!r}, help="h", {more}=_do{example})
"""


def put(folder: Path, name: str, source: str, **header: object) -> None:
    kind = {"kind": folder.name.removesuffix("s"), "api": 1, "dependencies": []} | header
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text((HEADER.format(**kind) if header.get("kind") != "" else "") + source)


def of_conversation(name: str) -> str:
    return COMMAND.format(module="command", type="ChatCommand", name=name, more="prepare", example="")


def of_host(name: str) -> str:
    example = ', example="/x"'
    return COMMAND.format(module="host_command", type="HostCommand", name=name, more="execute", example=example)


async def test_installed_actions_are_registered_while_the_host_runs(tmp_path: Path) -> None:
    put(tmp_path / "actions", "own", ACTION.format(name="own.do"))
    before = set(actions.registered_actions())
    async with actions.extensions_loaded(tmp_path / "actions"):
        assert set(actions.registered_actions()) - before == {"own.do"}
        assert actions.get_action("own.do").title == "t"
    assert set(actions.registered_actions()) == before


async def test_an_unusable_action_is_logged_and_does_not_affect_others(tmp_path: Path) -> None:
    folder, own = tmp_path / "actions", ACTION.format(name="own.do")
    before = dict(actions.registered_actions())
    put(folder, "a_good", own)
    put(folder, "b_taken", ACTION.format(name="tasks.create"))
    put(folder, "c_twice", own)
    put(folder, "d_broken", "import no_such_module")
    put(folder, "e_ends", "raise SystemExit")
    put(folder, "f_without", "")
    put(folder, "g_no_header", own, kind="")
    put(folder, "h_kind", own, kind="channel")
    put(folder, "i_newer", own, api=2)
    put(folder, "j_needs", own, dependencies=["no-such-package"])
    put(folder, "k_odd", "ACTIONS = (1,)")
    with capture_logs() as lines:
        async with actions.extensions_loaded(folder):
            assert actions.registered_actions().keys() - before.keys() == {"own.do"}
            assert actions.registered_actions()["tasks.create"] is before["tasks.create"]
    assert [(line["event"], Path(line["file"]).stem) for line in lines] == [
        ("extension_load_failed", path.stem) for path in sorted(folder.glob("[b-k]_*.py"))
    ]
    assert "tasks.create" in lines[0]["why"]


@pytest.mark.parametrize("source", [of_conversation, of_host], ids=["of a conversation", "of the host"])
async def test_an_installed_chat_command_cannot_take_an_existing_name(tmp_path: Path, source: object) -> None:
    assert callable(source)
    folder = tmp_path / "chat_commands"
    put(folder, "a_own", source("own"))
    put(folder, "b_stop", source("stop"))
    put(folder, "c_pair", source("pair"))
    put(folder, "d_compact", source("compact"))
    put(folder, "e_words", source("two words"))
    put(folder, "f_case", source("Own"))
    put(folder, "g_odd", "COMMAND = 1")
    before = {**commands.chat_commands(), **commands.host_commands()}
    with capture_logs() as lines:
        async with commands.extensions_loaded(folder):
            after = {**commands.chat_commands(), **commands.host_commands()}
    assert after.keys() - before.keys() == {"own"}
    assert all(after[name] is before[name] for name in before)
    assert [Path(line["file"]).stem[0] for line in lines] == ["b", "c", "d", "e", "f", "g"]
    assert {**commands.chat_commands(), **commands.host_commands()} == before
