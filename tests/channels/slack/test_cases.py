"""The cases of Slack (see tests/support/cases.py): inputs that failed once, and what the agent must read of each.

`input`: the fields of a message event as Slack's documentation has them, beside those that every message has; a file
may be its name; BOT is the bot's id; `parent`: what somebody else wrote before the bot was there, and the message is in
its thread. `chat`: "group" or a direct message.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from channels.slack import SlackChannel
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import BOB
from nanohost.testing.simulators.slack import ME, SlackSimulator
from tests.support.agent_view import CASE_KEYS as CASE_KEYS
from tests.support.agent_view import check_case, fetch_files
from tests.support.cases import Case, case_id_of, cases_for

from .serving import run_channel

DM, ROOM = "D1001", "C500"
CASES = cases_for("slack")


@pytest.mark.parametrize("case", CASES, ids=case_id_of)
async def test_each_kind_of_message_reaches_the_agent_as_described(
    case: Case, slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, tmp_path: Path
) -> None:
    content = json.loads(json.dumps(case["input"]).replace("BOT", ME))
    is_group, thread = case.get("chat") == "group" or "thread_ts" in content, content.pop("thread_ts", None)
    if "parent" in content:
        await slack.post(ROOM, {"text": content.pop("parent")}, person=BOB, group=True, message_id=thread)
        slack.give_up()
    async with run_channel(channel, inbox) as ended:
        await slack.post(ROOM if is_group else DM, content, group=is_group, thread=thread)
        await slack.write(ROOM if is_group else DM, "the end")
        await inbox.wait_for_accepted("the end")
        await slack.wait_until(lambda: slack.unacknowledged == 0)
        events = [event for event in inbox.accepted if event.text != "the end"]
        files = await fetch_files(channel, events, tmp_path)
    assert ended == []
    check_case(case, events, files=files)
