"""System messages of Slack wake nobody. What people send there: tests/channels/test_kinds.py."""

from __future__ import annotations

import pytest

from channels.slack import SlackChannel
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.content import ContentKind
from nanohost.testing.simulators._slack_kinds import SYSTEM
from nanohost.testing.simulators.slack import SlackSimulator

from .serving import run_channel

ROOM = "C500"


@pytest.mark.parametrize("kind", SYSTEM)
@pytest.mark.content(ContentKind.SERVICE)
async def test_system_messages_of_slack_wake_nobody(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, kind: str
) -> None:
    async with run_channel(channel, inbox):
        await slack.post(ROOM, SYSTEM[kind], group=True)
        await slack.write(ROOM, "the end", group=True)
        await inbox.wait_for_accepted("the end")
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert [event.text for event in inbox.accepted] == ["the end"]


@pytest.mark.content(ContentKind.PHOTO)
async def test_the_description_of_a_picture_comes_with_it(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    file = {"id": "F9", "name": "may.png", "mimetype": "image/png", "alt_txt": "our <b>garden"}
    async with run_channel(channel, inbox):
        await slack.post(ROOM, {"text": "", "subtype": "file_share", "files": [file]}, group=True)
        await slack.write(ROOM, "the end", group=True)
        await inbox.wait_for_accepted("the end")
    [picture, _] = inbox.accepted
    assert [(one.title, one.text) for one in picture.parts] == [("description of may.png", "our <b>garden")]
    assert len(picture.attachments) == 1
