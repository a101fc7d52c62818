"""Every kind of message that people, apps and workflows send in Slack reaches the agent as what it is, and the table in
docs/channels/slack.md says as what."""

from __future__ import annotations

from pathlib import Path

import pytest

from channels.slack import SlackChannel
from nanohost.channel_api import EventKind, InboundEvent, PartKind
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators._changes import CHANGES
from nanohost.testing.simulators._slack_kinds import KINDS, SYSTEM
from nanohost.testing.simulators.slack import SlackSimulator
from tests.channels.reading import BEGIN, END, table_of

from .serving import serving

PAGE = Path(__file__).parents[3] / "docs" / "channels" / "slack.md"
DM, ROOM = "D1001", "C500"


async def test_every_kind_arrives_as_what_the_page_says_it_does(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    table = table_of(await _arrived(slack, channel, inbox))
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == table, f"the table should be:\n{table}"


async def test_no_kind_is_silence_and_somebody_elses_words_are_never_the_senders_own(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    for kind, [event] in (await _arrived(slack, channel, inbox)).items():
        assert event.text or event.parts or event.attachments, kind
        if kind.startswith("shared message"):
            assert event.text in ("", "is that right?"), kind
            assert event.parts[0].kind is PartKind.FORWARDED, kind


@pytest.mark.parametrize("kind", SYSTEM)
async def test_what_slack_says_itself_wakes_nobody(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, kind: str
) -> None:
    async with serving(channel, inbox):
        await slack.post(ROOM, SYSTEM[kind], group=True)
        await slack.write(ROOM, "the end", group=True)
        await inbox.until_accepted("the end")
        await slack.until(lambda: slack.unacknowledged == 0)
    assert [event.text for event in inbox.accepted] == ["the end"]


async def test_what_people_do_to_a_message_that_they_sent_is_told(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox
) -> None:
    async with serving(channel, inbox):
        for kind in CHANGES:
            await slack.send_kind(kind, DM)
        await slack.write(DM, "the end")
        await inbox.until_accepted("the end")
    assert [event.kind.value for event in inbox.accepted if event.kind is not EventKind.MESSAGE] == [
        "edit",
        "deletion",
        "reaction",
        "reaction_removed",
    ]


async def _arrived(slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox) -> dict[str, list[InboundEvent]]:
    """What the bot was told of each kind."""
    async with serving(channel, inbox):
        sent = {kind: await slack.send_kind(kind, DM) for kind in KINDS}
        await slack.write(DM, "the end")
        await inbox.until_accepted("the end")
    events = {event.platform_message_id: event for event in inbox.accepted}
    return {kind: [events[id] for id in ids] for kind, ids in sent.items()}
