"""The cases of Discord (see tests/support/cases.py): inputs that failed once, and what the agent must read of each.

`input`: the fields of a message as Discord's documentation has them, beside those that every message has; a file may be
its name; BOT and ROLE_OF_BOT are their ids. `chat`: "group" or a direct message.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from channels.discord import DiscordChannel
from nanohost.testing.channel_suite import SuiteInbox, receiving
from nanohost.testing.simulators.discord import DM, GENERAL, ME, MY_ROLE, DiscordSimulator
from tests.support.arrivals import KEYS as KEYS
from tests.support.arrivals import check, fetched
from tests.support.cases import Case, id_of, inputs

from .bench import DiscordBench

CASES = inputs("discord")


@pytest.mark.parametrize("case", CASES, ids=id_of)
async def test_the_agent_reads_what_people_send_as_what_it_is(
    case: Case,
    desk: DiscordBench,
    channel: DiscordChannel,
    platform: DiscordSimulator,
    inbox: SuiteInbox,
    tmp_path: Path,
) -> None:
    content = json.loads(json.dumps(case["input"]).replace("ROLE_OF_BOT", MY_ROLE).replace("BOT", ME.id))
    is_group = case.get("chat") == "group"
    async with receiving(desk, inbox) as host:
        await desk.listening()
        await platform.post(GENERAL if is_group else DM, content, group=is_group)
        await platform.write(DM, "the end")
        await inbox.until_accepted("the end")
        events = inbox.accepted[:-1]
        files = await fetched(channel, events, tmp_path)
        assert host.ended == []
    check(case, events, files=files)
