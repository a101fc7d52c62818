"""The cases of Discord (see tests/support/cases.py): inputs that failed once, and what the agent must read of each.

`input`: the fields of a message as Discord's documentation has them, beside those that every message has; a file may be
its name; BOT and ROLE_OF_BOT are their ids. `chat`: "group" or a direct message.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from channels.discord import DiscordChannel
from nanohost.testing.channel_suite import SuiteInbox, run_receive_loop
from nanohost.testing.simulators.discord import DM, GENERAL, ME, MY_ROLE, DiscordSimulator
from tests.support.agent_view import CASE_KEYS as CASE_KEYS
from tests.support.agent_view import check_case, fetch_files
from tests.support.cases import Case, case_id_of, cases_for

from .bench import DiscordHarness

CASES = cases_for("discord")


@pytest.mark.parametrize("case", CASES, ids=case_id_of)
async def test_each_kind_of_message_reaches_the_agent_as_described(
    case: Case,
    harness: DiscordHarness,
    channel: DiscordChannel,
    platform: DiscordSimulator,
    inbox: SuiteInbox,
    tmp_path: Path,
) -> None:
    content = json.loads(json.dumps(case["input"]).replace("ROLE_OF_BOT", MY_ROLE).replace("BOT", ME.id))
    is_group = case.get("chat") == "group"
    async with run_receive_loop(harness, inbox) as host:
        await harness.wait_until_listening()
        await platform.post(GENERAL if is_group else DM, content, group=is_group)
        await platform.write(DM, "the end")
        await inbox.wait_for_accepted("the end")
        events = inbox.accepted[:-1]
        files = await fetch_files(channel, events, tmp_path)
        assert host.results == []
    check_case(case, events, files=files)
