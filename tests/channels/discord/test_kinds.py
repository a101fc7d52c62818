"""Every kind of message that people, apps and webhooks send on Discord reaches the agent as what it is, and the table
in docs/channels/discord.md says as what."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.channel_api import EventKind, InboundEvent, PartKind
from nanohost.testing.channel_suite import SuiteInbox, receiving
from nanohost.testing.simulators._changes import CHANGES
from nanohost.testing.simulators._discord_kinds import KINDS, SYSTEM
from nanohost.testing.simulators.discord import DM, GENERAL, DiscordSimulator
from tests.channels.reading import BEGIN, END, table_of

from .bench import DiscordBench

PAGE = Path(__file__).parents[3] / "docs" / "channels" / "discord.md"


async def test_every_kind_arrives_as_what_the_page_says_it_does(
    desk: DiscordBench, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    table = table_of(await _arrived(desk, platform, inbox))
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == table, f"the table should be:\n{table}"


async def test_no_kind_is_silence_and_somebody_elses_words_are_never_the_senders_own(
    desk: DiscordBench, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    for kind, [event] in (await _arrived(desk, platform, inbox)).items():
        assert event.text or event.parts or event.attachments, kind
        if kind.startswith("forward"):
            assert (event.text, event.parts[0].kind) == ("", PartKind.FORWARDED), kind
        if kind.startswith("reply"):
            assert "Tuesday" not in event.text, kind
            assert event.parts[0].kind is PartKind.QUOTED, kind


@pytest.mark.parametrize("kind", SYSTEM)
async def test_what_discord_says_itself_wakes_nobody(
    desk: DiscordBench, platform: DiscordSimulator, inbox: SuiteInbox, kind: str
) -> None:
    async with receiving(desk, inbox):
        await desk.listening()
        await platform.post(GENERAL, SYSTEM[kind], group=True)
        await platform.write(DM, "the end")
        await inbox.until_accepted("the end")
    assert [event.text for event in inbox.accepted] == ["the end"]


async def test_what_people_do_to_a_message_that_they_sent_is_told(
    desk: DiscordBench, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with receiving(desk, inbox):
        await desk.listening()
        for kind in CHANGES:
            await platform.send_kind(kind, DM)
        await platform.write(DM, "the end")
        await inbox.until_accepted("the end")
    assert [event.kind.value for event in inbox.accepted if event.kind is not EventKind.MESSAGE] == [
        "edit",
        "deletion",
        "reaction",
        "reaction_removed",
    ]


async def _arrived(desk: DiscordBench, platform: DiscordSimulator, inbox: SuiteInbox) -> dict[str, list[InboundEvent]]:
    """What the bot was told of each kind."""
    async with receiving(desk, inbox):
        await desk.listening()
        sent = {kind: await platform.send_kind(kind, DM) for kind in KINDS}
        await platform.write(DM, "the end")
        await inbox.until_accepted("the end")
    events = {event.platform_message_id: event for event in inbox.accepted}
    return {kind: [events[id] for id in ids] for kind, ids in sent.items()}
