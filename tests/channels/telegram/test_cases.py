"""The cases of Telegram (see tests/support/cases.py): inputs that failed once, and what the agent must read of each.

`input` or `input_series` are the fields of messages as the Bot API has them, beside those that every message has; a
file may be its name, a photo a word; `edited`: an edit of the message before. `update`: an update without its number,
with "CHAT" for the chat's number and "ADA" for the sender's. What must be so: `wait_for_text`, `not` (of what the agent
reads), `text` (the sender's own words, exactly), `files`, `messages`, `turns`; `silent`: it wakes nobody.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest

from nanohost.clock import SystemClock
from nanohost.config.home import Home
from nanohost.testing.simulator import ADA
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.verify.checks import verify
from tests.support.agent_view import check_prompt
from tests.support.cases import Case, case_id_of, cases_for

from .reading import GROUP, AgentChat, open_agent_chat

CASES = cases_for("telegram")
CASE_KEYS = frozenset({"sees", "not", "text", "files", "messages", "turns", "silent"})
NAME_OF_CASES = "nano_bot"


@pytest.mark.parametrize("case", CASES, ids=case_id_of)
async def test_each_kind_of_message_reaches_the_agent_as_described(case: Case, tmp_path: Path) -> None:
    chat = GROUP if case.get("chat") == "group" else ADA.id
    telegram = TelegramSimulator(username=NAME_OF_CASES)
    async with open_agent_chat(tmp_path, telegram, chat) as here:
        await _send(here, case)
        await here.wait_until_read()
        said, prompt, files = await here.messages(), await here.prompt(), _files(tmp_path)
        triggers = [row for row in await here.rows() if row.trigger]
        assert await verify(here.store, Home(tmp_path), clock=SystemClock(), is_host_running=True) == []
    check_prompt(case, prompt)
    if "text" in case:
        assert [re.sub(r"\n?\[file: .*\]", "", one.text) for one in said] == [case["text"]]
    if "files" in case:
        assert len(files) == case["files"], files
    if case.get("silent"):
        assert (said, here.woken_sessions) == ([], [])
    elif not {"messages", "turns"} & case.keys():
        assert len(triggers) == 1
    assert len(said) == case.get("messages", len(said))
    assert len(triggers) == case.get("turns", len(triggers)), "what is to be answered together is one message"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("sessions/*/*/in/inbox/*/*") if path.is_file())


async def _send(here: AgentChat, case: Case) -> None:
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
