"""Inputs that failed once, as Telegram sends them, and what the agent must read of each: tests/cases/telegram.json.

A case that is added to the file is run. `input` or `input_series` are the fields of messages as the Bot API has them,
beside those that every message has; a photo may be a word; `edited`: an edit of the message before. `update`: an update
without its number, with "CHAT" for the chat's number and "ADA" for the sender's.
What must be so: `sees`, `never_sees` (of what the agent reads), `text` (the sender's own words, exactly), `files`,
`messages`, `turns`; `silent`: it wakes nobody. `then` is a sentence that a test of its own, named there, proves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from nanohost.clock import SystemClock
from nanohost.home import Home
from nanohost.testing.simulator import ADA
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.verify.checks import verify

from .reading import GROUP, Reading, reading

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "cases" / "telegram.json").read_text())
GIVEN = ("name", "chat", "input", "input_series", "update")
WANTED = ("sees", "never_sees", "text", "files", "messages", "turns", "silent", "then", "test")
NAME_OF_CASES = "nano_bot"


def _id(case: Mapping[str, Any]) -> str:
    return str(case["name"]).replace(" ", "-")


@pytest.mark.parametrize("case", [case for case in CASES if "then" not in case], ids=_id)
async def test_the_agent_reads_what_people_send_as_what_it_is(case: dict[str, Any], tmp_path: Path) -> None:
    chat = GROUP if case["chat"] == "group" else ADA.id
    telegram = TelegramSimulator(username=NAME_OF_CASES)
    async with reading(tmp_path, telegram, chat) as here:
        await _send(here, case)
        await here.all_read()
        said, prompt, files = await here.said(), await here.prompt(), _files(tmp_path)
        triggers = [row for row in await here.rows() if row.trigger]
        assert await verify(here.store, Home(tmp_path), clock=SystemClock(), host_running=True) == []
    for words in case.get("sees", []):
        assert words in _read(prompt), f"{words!r} is not in: {prompt}"
    for words in case.get("never_sees", []):
        assert words not in _read(prompt), f"{words!r} is in: {prompt}"
    if "text" in case:
        assert [re.sub(r"\n?\[file: .*\]", "", one.text) for one in said] == [case["text"]]
    if "files" in case:
        assert len(files) == case["files"], files
    if case.get("silent"):
        assert (said, here.woken) == ([], [])
    elif not {"messages", "turns"} & case.keys():
        assert len(triggers) == 1
    assert len(said) == case.get("messages", len(said))
    assert len(triggers) == case.get("turns", len(triggers)), "what is to be answered together is one message"


def test_a_case_says_nothing_that_is_not_looked_at() -> None:
    assert {key for case in CASES for key in case} <= {*GIVEN, *WANTED}
    assert all(
        "then" not in case or (Path(__file__).parents[3] / case["test"].split("::")[0]).exists() for case in CASES
    )


def _read(prompt: str) -> str:
    """The prompt as whoever knows XML reads it."""
    return prompt.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("sessions/*/*/in/inbox/*/*") if path.is_file())


async def _send(here: Reading, case: Mapping[str, Any]) -> None:
    if "update" in case:
        update = json.dumps(case["update"]).replace('"CHAT"', here.chat).replace('"ADA"', ADA.id)
        await here.telegram.push(json.loads(update))
        return
    before = ""
    for given in case.get("input_series") or [case["input"]]:
        content = deepcopy(given)
        if content.pop("edited", False):
            await here.telegram.edit_as(before, content, chat=here.chat)
        else:
            before = await here.telegram.post(here.chat, content, group=here.is_group)
