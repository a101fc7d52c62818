"""Inputs that failed once, as Slack sends them, and what the agent must read of each: the lines of slack in
tests/cases/discord_slack_whatsapp.json.

A case that is added to the file is run. `input`: the fields of a message event as Slack's documentation has them,
beside those that every message has; a file may be its name; BOT is the bot's id; `parent`: what somebody else wrote
before the bot was there, and the message is in its thread.
`chat`: "group" or a direct message. What must be so: `sees`, `never_sees` (of what the agent reads), `text` (the
sender's own words, exactly), `files` (that can be fetched), `mentions`; `silent`: nothing is handed in. `then` is a
sentence that the test named in `test` proves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from channels.slack import SlackChannel
from nanohost.testing.channel_suite import SuiteInbox, identity
from nanohost.testing.simulator import BOB
from nanohost.testing.simulators.slack import ME, SlackSimulator
from tests.channels.reading import prompt_of, unescaped

from .serving import serving

DM, ROOM = "D1001", "C500"
ROOT = Path(__file__).parents[3]
CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((ROOT / "tests" / "cases" / "discord_slack_whatsapp.json").read_text())
    if case["platform"] == "slack"
]
KEYS = frozenset(
    {
        *("platform", "name", "chat", "input", "sees", "never_sees", "text", "files", "mentions", "silent"),
        *("then", "test"),
    }
)


def _id(case: Mapping[str, Any]) -> str:
    return str(case["name"]).replace(" ", "-")


@pytest.mark.parametrize("case", [case for case in CASES if "then" not in case], ids=_id)
async def test_the_agent_reads_what_people_send_as_what_it_is(
    case: dict[str, Any], slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, tmp_path: Path
) -> None:
    content = json.loads(json.dumps(case["input"]).replace("BOT", ME))
    is_group, thread = case.get("chat") == "group" or "thread_ts" in content, content.pop("thread_ts", None)
    if "parent" in content:
        await slack.post(ROOM, {"text": content.pop("parent")}, person=BOB, group=True, message_id=thread)
        slack.give_up()
    fetched = []
    async with serving(channel, inbox) as ended:
        await slack.post(ROOM if is_group else DM, content, group=is_group, thread=thread)
        await slack.write(ROOM if is_group else DM, "the end")
        await inbox.until_accepted("the end")
        await slack.until(lambda: slack.unacknowledged == 0)
        for number, file in enumerate(one for event in inbox.accepted for one in event.attachments):
            (tmp_path / str(number)).touch()
            await channel.fetch(file, tmp_path / str(number), most_bytes=10_000)
            fetched.append((tmp_path / str(number)).read_bytes())
    assert ended == []
    events = [event for event in inbox.accepted if event.text != "the end"]
    if case.get("silent"):
        assert events == []
        return
    assert len({identity(event) for event in events}) == 1
    event = events[0]
    read = unescaped(prompt_of(event))
    for words in case.get("sees", []):
        assert words in read, f"{words!r} is not in: {read}"
    for words in case.get("never_sees", []):
        assert words not in read, f"{words!r} is in: {read}"
    assert event.text == case.get("text", event.text)
    assert event.mentions_bot == case.get("mentions", event.mentions_bot)
    assert len(set(fetched)) == case.get("files", 0)
    assert all(fetched)


def test_a_case_says_nothing_that_is_not_looked_at() -> None:
    assert {key for case in CASES for key in case} <= KEYS
    for case in CASES:
        if "then" in case:
            path, _, name = case["test"].partition("::")
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), case["name"]
