"""System messages of Discord wake nobody. What people send there: tests/channels/test_kinds.py."""

from __future__ import annotations

import pytest

from nanohost.testing.channel_suite import SuiteInbox, run_receive_loop
from nanohost.testing.content import ContentKind
from nanohost.testing.simulators._discord_kinds import SYSTEM
from nanohost.testing.simulators.discord import DM, GENERAL, DiscordSimulator

from .bench import DiscordHarness


@pytest.mark.parametrize("kind", SYSTEM)
@pytest.mark.content(ContentKind.SERVICE)
async def test_system_messages_of_discord_wake_nobody(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, kind: str
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.post(GENERAL, SYSTEM[kind], group=True)
        await platform.write(DM, "the end")
        await inbox.wait_for_accepted("the end")
    assert [event.text for event in inbox.accepted] == ["the end"]


@pytest.mark.content(ContentKind.PHOTO)
async def test_the_description_of_a_picture_comes_with_it(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    file = {"id": "9", "filename": "may.png", "url": "https://example.com/may.png", "description": "our <b>garden"}
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.post(DM, {"content": "", "attachments": [file]})
        await platform.write(DM, "the end")
        await inbox.wait_for_accepted("the end")
    [picture, _] = inbox.accepted
    assert [(one.title, one.text) for one in picture.parts] == [("description of may.png", "our <b>garden")]
    assert len(picture.attachments) == 1
