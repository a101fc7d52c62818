"""Every resource on the command line: JSON for programs, a table for people, also when empty."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nanohost.cli.main import main
from nanohost.commands.context import CommandContext, local_user_id
from nanohost.commands.registry import resources
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.testing.manual_clock import ManualClock
from tests.commands.conftest import Operator
from tests.commands.filled import fill_resources
from tests.commands.test_resources import KEYS
from tests.support.template_home import opened_store


async def make(root: Path, *, full: bool) -> None:
    """An empty install, or one with a row of every resource."""
    home = Home(root)
    async with opened_store(home, durable=False) as store:
        if full:
            await fill_resources(
                Operator(CommandContext(home=home, settings=Settings(), clock=ManualClock(), store=store))
            )


class Typing:
    """Commands typed in one install."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._root = root
        self._capsys = capsys

    def reads(self, *words: str) -> str:
        self._capsys.readouterr()
        assert main([*words, "--home", str(self._root)]) == 0
        return self._capsys.readouterr().out

    def gets(self, *words: str) -> Any:
        return json.loads(self.reads(*words, "--json"))


@pytest.mark.parametrize("full", [False, True], ids=["empty", "filled"])
def test_every_list_command_prints_json_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], full: bool
) -> None:
    asyncio.run(make(tmp_path, full=full))
    typing = Typing(tmp_path, capsys)
    for name, resource in resources().items():
        rows = typing.gets(name, "list")
        assert isinstance(rows, list)
        assert bool(rows) is full, name
        head = typing.reads(name, "list").splitlines()[0]
        columns = [column.replace("_", " ") for column in resource.row.model_fields]
        assert head.split() == (" ".join(columns).split() if full else ["No", "entries."])


def test_every_get_command_finds_its_row_by_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(make(tmp_path, full=True))
    typing = Typing(tmp_path, capsys)
    for name, key in KEYS.items():
        row = typing.gets(name, "get", *(str(part) for part in key.values()))
        assert row.items() >= key.items()


def test_a_change_by_command_is_recorded_with_its_author(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(make(tmp_path, full=True))
    typing = Typing(tmp_path, capsys)
    assert typing.gets("wirings", "update", "1", "--bots", "yes", "--ignored", "accumulate")["bots"] is True
    [entry] = typing.gets("audit", "list", "--what", "wirings.update")
    assert entry["details"] == {
        "id": 1,
        "ignored": "accumulate",
        "bots": True,
        "group": "main",
        "place": "telegram:default:1",
    }
    assert entry["who"] == local_user_id(os.geteuid())


def test_a_command_without_effect_is_answered_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(make(tmp_path, full=False))
    assert main(["rules", "delete", "7", "--home", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-2:] == ["nanohost: there is no rule 7", "  hint: nanohost rules list"]
