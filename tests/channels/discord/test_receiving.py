"""Discord: which events are received, and that none is lost with the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from channels.discord import CALL_TIMEOUT_S, IDENTIFY_BUDGET, MIN_RECONNECT_DELAY_S, DiscordChannel, _reconnect_delay_s
from nanohost.channel_api import (
    Address,
    Attachment,
    AuthFailed,
    Condition,
    EventKind,
    InboundEvent,
    NotSent,
    PartKind,
    Refused,
)
from nanohost.testing.channel_suite import SuiteInbox, event_identity, run_receive_loop
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import BOB, Fault, Person, simulate_outage
from nanohost.testing.simulator_suite import run_channel, send_text
from nanohost.testing.simulators.discord import DM, GENERAL, ME, MY_ROLE, THREAD, Denied, DiscordSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.channels.sending import send_message

from .bench import IN_DM, IN_GENERAL, DiscordHarness, make_channel

# Nothing is lost


@pytest.mark.behaviour("IN-01", "IN-07")
async def test_a_message_whose_commit_failed_arrives_again_before_the_next(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    inbox.fail_once()
    async with run_channel(harness, inbox):
        await harness.person_writes("first", message_id="1")
        await harness.person_writes("second", message_id="2")
        await inbox.wait_until(lambda: inbox.failed_commits == 1)
        inbox.release()
        await inbox.wait_for_accepted("second")
    assert _texts(inbox) == ["first", "second"]
    assert (platform.identified, platform.resumed) == (1, 1)


@pytest.mark.behaviour("IN-01")
async def test_a_message_being_committed_when_receive_is_cancelled_arrives_again(
    harness: DiscordHarness, channel: DiscordChannel, inbox: SuiteInbox
) -> None:
    inbox.hold()
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("keep this", message_id="1")
        await inbox.wait_until(lambda: len(inbox.received) == 1)
    inbox.release()
    async with run_receive_loop(harness, inbox):
        await inbox.wait_for_accepted("keep this")


async def test_a_lost_connection_is_resumed_without_losing_messages(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox) as host:
        await harness.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
        platform.cut_sockets()
        await platform.write(DM, "during")
        await inbox.wait_for_accepted("during")
        await platform.ask_to_reconnect()
        await platform.write(DM, "after")
        await inbox.wait_for_accepted("after")
        assert host.results == []
    assert _texts(inbox) == ["before", "during", "after"]
    assert (platform.identified, platform.resumed) == (1, 2)


@pytest.mark.behaviour("IN-02", "IN-07")
async def test_after_a_lost_stream_known_chats_are_read_from_their_newest_committed_message_on(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.write(DM, "d1")
        await platform.write(GENERAL, "g1", group=True)
        await platform.write(GENERAL, "t1", group=True, thread=THREAD)
        await inbox.wait_until(lambda: len(inbox.accepted) == 3)
        async with simulate_outage(platform):
            platform.forget_streams()
            for number in (2, 3):
                await platform.write(DM, f"d{number}")
                await platform.write(GENERAL, f"g{number}", group=True, mention=True)
                await platform.write(GENERAL, f"t{number}", group=True, thread=THREAD)
        await harness.wait_until_listening()
        await platform.write(DM, "d4")
        await inbox.wait_for_accepted("d4")
        await inbox.wait_for_accepted("t3")
    assert platform.identified == 2
    first = list(dict.fromkeys(_texts(inbox)))
    assert [text for text in first if text[0] == "d"] == ["d1", "d2", "d3", "d4"]
    assert [text for text in first if text[0] == "t"] == ["t1", "t2", "t3"]
    later = [event for event in inbox.accepted if "g2" in event.text or event.text == "t2"]
    assert {(event.platform_id, event.thread_id, event.is_group) for event in later} == {
        (GENERAL, None, True),
        (GENERAL, THREAD, True),
    }
    assert next(event.mentions_bot for event in inbox.accepted if "g2" in event.text)


async def test_a_restarted_host_reads_messages_from_while_it_was_down(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("number 0", message_id="0")
        await inbox.wait_for_accepted("number 0")
    platform.forget_streams()
    for number in range(1, 251):
        await platform.write(DM, f"number {number}")
    async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox):
        await inbox.wait_for_accepted("number 250")
    assert _texts(inbox) == [f"number {number}" for number in range(251)]
    assert {event.chat_name for event in inbox.accepted} == {"Ada"}


async def test_a_chat_that_can_no_longer_be_read_does_not_delay_others(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("known", message_id="1")
        event = await inbox.wait_for_accepted("known")
    inbox.accepted.insert(0, _elsewhere(event, "4040404"))
    platform.forget_streams()
    await platform.write(DM, "missed")
    async with run_receive_loop(harness, inbox):
        await inbox.wait_for_accepted("missed")


class OddHistory(DiscordSimulator):
    async def history(self, asked: dict[str, Any]) -> object:
        said = await super().history(asked)
        assert isinstance(said, list)
        return [one | {"timestamp": "yesterday"} if one["content"] == "odd" else one for one in said]


async def test_an_invalid_message_does_not_hide_other_missed_messages(inbox: SuiteInbox, tmp_path: Path) -> None:
    platform = OddHistory()
    async with platform.running():
        desk = DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM)
        async with run_receive_loop(desk, inbox):
            await desk.person_writes("known", message_id="1")
            await inbox.wait_for_accepted("known")
        platform.forget_streams()
        await platform.write(DM, "odd")
        await platform.write(DM, "missed")
        async with run_receive_loop(desk, inbox):
            await inbox.wait_for_accepted("missed")
    assert "odd" not in _texts(inbox)


def test_repeated_identifications_stay_below_discords_daily_limit() -> None:
    assert 24 * 3600 / _reconnect_delay_s(1, introductions=IDENTIFY_BUDGET + 1) < 1000
    assert _reconnect_delay_s(1, introductions=IDENTIFY_BUDGET) <= MIN_RECONNECT_DELAY_S


async def test_an_outage_before_the_first_connection_is_reported_and_waited_out(
    harness: DiscordHarness, channel: DiscordChannel, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    await platform.start_outage()
    async with run_channel(harness, inbox):
        await _until_told(channel, "cannot be reached")
        assert channel.condition()[0] is Condition.DOWN
        await platform.end_outage()
        await harness.person_writes("there you are", message_id="1")
        await inbox.wait_for_accepted("there you are")
        assert channel.condition() == (Condition.UP, "")


class NoRolesAtFirst(DiscordSimulator):
    asked = 0

    async def roles(self, asked: dict[str, Any]) -> object:
        self.asked += 1
        if self.asked == 1:
            raise Denied(503, 0, "Service Unavailable")
        return await super().roles(asked)


async def test_a_role_mention_is_recognised_even_if_the_roles_could_not_be_read_at_first(
    inbox: SuiteInbox, tmp_path: Path
) -> None:
    platform = NoRolesAtFirst()
    async with platform.running():
        async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox):
            await platform.wait_until(lambda: platform.is_listened_to)
            await platform.write(DM, "before")
            await inbox.wait_for_accepted("before")
        await platform.write(GENERAL, f"<@&{MY_ROLE}> hello", group=True)
        async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox) as host:
            event = await inbox.wait_for_accepted("hello")
            assert host.results == []
    assert (event.mentions_bot, platform.asked) == (True, 2)


@pytest.mark.parametrize("fault", [Fault.RESET_BEFORE, Fault.SERVER_ERROR, Fault.NOT_JSON])
async def test_a_failed_request_to_discord_is_repeated(
    harness: DiscordHarness, channel: DiscordChannel, platform: DiscordSimulator, inbox: SuiteInbox, fault: Fault
) -> None:
    platform.reading.queue.extend([fault, fault])
    async with run_receive_loop(harness, inbox) as host:
        await harness.person_writes("there you are", message_id="1")
        await inbox.wait_for_accepted("there you are")
        assert host.results == []
        assert channel.condition() == (Condition.UP, "")


async def test_missed_messages_are_read_even_if_discord_rate_limits_or_fails_meanwhile(
    platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    channel = make_channel(platform, tmp_path, gateway_url=f"ws://{platform.address}/gateway")
    desk = DiscordHarness(platform, channel, chat=DM)
    async with run_receive_loop(desk, inbox) as host:
        await desk.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
        async with simulate_outage(platform):
            platform.forget_streams()
            await platform.write(DM, "missed")
            platform.reading.limits[DM] = (2, 0.01)
            platform.reading.queue.append(Fault.SERVER_ERROR)
        await inbox.wait_for_accepted("missed")
        assert host.results == []
    assert _texts(inbox) == ["before", "missed"]
    assert platform.identified == 3


async def test_a_restarted_host_resumes_the_stream_of_the_last(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
    await platform.write("70001002", "the first of Bob's", person=BOB)
    await platform.write("5003", "to the bot", group=True, mention=True)
    await platform.write(GENERAL, f"<@&{MY_ROLE}> in a thread", group=True, thread=THREAD)
    async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox):
        await inbox.wait_for_accepted("in a thread")
    assert _texts(inbox) == ["before", "the first of Bob's", "to the bot", "in a thread"]
    assert (platform.identified, platform.resumed) == (1, 1)
    assert inbox.accepted[-1].mentions_bot, "the roles are asked for: a stream that is resumed does not tell them"
    assert (inbox.accepted[-1].platform_id, inbox.accepted[-1].thread_id) == (GENERAL, THREAD)


async def test_an_event_whose_commit_failed_is_not_skipped_after_a_restart(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
        inbox.fail_once()
        await harness.person_writes("keep this", message_id="2")
        await inbox.wait_until(lambda: inbox.failed_commits == 1)
    inbox.release()
    async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox):
        await inbox.wait_for_accepted("keep this")
    assert _texts(inbox) == ["before", "keep this"]


@pytest.mark.parametrize("saved", ["", "{}", "nonsense", '{"bot": "900", "session": "s", "sequence": 7}'])
async def test_an_invalid_checkpoint_is_ignored(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, saved: str
) -> None:
    inbox.saved_checkpoint = saved
    async with run_receive_loop(harness, inbox) as host:
        await harness.person_writes("hello", message_id="1")
        await inbox.wait_for_accepted("hello")
        assert host.results == []
    assert (platform.identified, platform.resumed) == (1, 0)


@pytest.mark.parametrize("spoiled", ["its gateway", "the stream"])
async def test_a_stream_that_cannot_be_resumed_is_started_again(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path, spoiled: str
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
    assert inbox.saved_checkpoint is not None
    if spoiled == "its gateway":
        inbox.saved_checkpoint = inbox.saved_checkpoint.replace(platform.address, "127.0.0.1:9")
    else:
        platform.closes_resumed = True
    await platform.write(DM, "meanwhile")
    async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox) as host:
        await inbox.wait_for_accepted("meanwhile")
        assert host.results == []
    assert platform.identified == (1 if spoiled == "its gateway" else 2)


async def test_a_stream_of_another_bot_is_not_resumed(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
    assert inbox.saved_checkpoint is not None
    inbox.saved_checkpoint = inbox.saved_checkpoint.replace(f'"{ME.id}"', '"901"')
    async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox):
        await platform.wait_until(lambda: platform.identified == 2)
    assert platform.resumed == 0


async def test_after_a_lost_stream_an_unknown_channel_is_read_from_the_newest_known_message_on(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    await platform.write("5003", "long ago", group=True, mention=True)
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
    platform.forget_streams()
    await platform.write("5003", "now", group=True, mention=True)
    await platform.write("5003", "and in a thread", group=True, mention=True, thread="5104")
    async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox):
        await inbox.wait_for_accepted("now")
        await inbox.wait_for_accepted("and in a thread")
    assert "long ago" not in _texts(inbox)
    places = {event.text: (event.platform_id, event.thread_id) for event in inbox.accepted}
    assert (places["now"], places["and in a thread"]) == (("5003", None), ("5003", "5104"))


async def test_a_limited_number_of_unknown_channels_is_read(
    harness: DiscordHarness,
    platform: DiscordSimulator,
    inbox: SuiteInbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("channels.discord.MAX_SEARCHED_CHANNELS", 2)
    async with run_receive_loop(harness, inbox):
        await harness.person_writes("before", message_id="1")
        await inbox.wait_for_accepted("before")
    platform.forget_streams()
    for chat in ("5003", "5004", "5005"):
        await platform.write(chat, "missed", group=True, mention=True)
    with capture_logs() as logs:
        async with run_receive_loop(DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM), inbox):
            await inbox.wait_until(lambda: len(inbox.accepted) == 3)
            await platform.write(DM, "the end")
            await inbox.wait_for_accepted("the end")
    read = [event.platform_id for event in inbox.accepted if event.text == "missed"]
    left_out = [log["chat"] for log in logs if log["event"] == "discord_search_failed"]
    assert (len(read), {*read, *left_out}) == (2, {"5003", "5004", "5005"})


class NotedHistory(DiscordSimulator):
    def __init__(self) -> None:
        super().__init__()
        self.read = list[str]()

    async def history(self, asked: dict[str, Any]) -> object:
        self.read.append(str(asked["channel"]))
        return await super().history(asked)


async def test_messages_from_before_the_bot_joined_a_server_are_not_read(inbox: SuiteInbox, tmp_path: Path) -> None:
    platform = NotedHistory()
    async with platform.running():
        desk = DiscordHarness(platform, make_channel(platform, tmp_path), chat=DM)
        for text in ("hello", "again"):
            async with run_receive_loop(desk, inbox) as host:
                await platform.wait_until(lambda: platform.is_listened_to)
                channels = [{"id": "6001", "type": 0, "name": "news", "last_message_id": "9999999999999999999"}]
                await platform.tell("GUILD_CREATE", {"id": "6000", "name": "Other", "channels": channels})
                await platform.write(DM, text)
                await inbox.wait_for_accepted(text)
                assert host.results == []
            platform.forget_streams()
    assert set(platform.read) == {DM}


# Not let in


async def test_an_invalid_token_is_reported_with_what_to_do(
    platform: DiscordSimulator, tmp_path: Path, inbox: SuiteInbox
) -> None:
    channel = make_channel(platform, tmp_path, token="wrong.secret.token")
    async with channel.connected():
        with pytest.raises(AuthFailed, match="Reset Token") as raised:
            await channel.receive(inbox)
    assert channel.condition() == (Condition.AUTH_FAILED, str(raised.value))
    assert "wrong.secret" not in str(raised.value)


async def test_a_bot_without_the_message_content_intent_is_told_which_switch_to_turn_on(
    channel: DiscordChannel, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    platform.allows_content = False
    async with channel.connected():
        with pytest.raises(AuthFailed, match="Message Content Intent"):
            await channel.receive(inbox)
    assert channel.condition()[0] is Condition.AUTH_FAILED


# What is said


async def test_the_bot_is_addressed_by_its_name_its_role_or_a_reply(
    harness: DiscordHarness, channel: DiscordChannel, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        receipt = await send_text(channel, IN_GENERAL, "what is it?", "k1")
        await platform.write(GENERAL, "by name", group=True, mention=True)
        await platform.write(GENERAL, f"<@&{MY_ROLE}> by role", group=True)
        await platform.reply(GENERAL, "by reply", to=receipt.platform_message_ids[0], person=BOB)
        other = await platform.write(GENERAL, "to <@1002> and <@31337>", group=True)
        await platform.reply(GENERAL, "not for you", to=other, person=BOB)
        await inbox.wait_for_accepted("not for you")
    assert [event.mentions_bot for event in inbox.accepted] == [True, True, True, False, False]
    assert [event.refers_to for event in inbox.accepted] == [None, None, receipt.platform_message_ids[0], None, other]
    assert _texts(inbox)[0] == "by name"
    assert _texts(inbox)[3] == "to @Bob and <@31337>"
    assert inbox.accepted[0].chat_name == "#general"


@pytest.mark.behaviour("RT-01")
async def test_an_unknown_thread_is_looked_up(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.write(GENERAL, "in a new thread", group=True, thread="5102")
        event = await inbox.wait_for_accepted("in a new thread")
        await platform.write("5003", "in a new channel", group=True)
        elsewhere = await inbox.wait_for_accepted("in a new channel")
    assert (event.platform_id, event.thread_id, event.is_group) == (GENERAL, "5102", True)
    assert (elsewhere.platform_id, elsewhere.thread_id, elsewhere.is_group) == ("5003", None, True)


@pytest.mark.behaviour("IN-05", "RT-11")
async def test_link_previews_and_the_bots_own_actions_are_not_events(
    harness: DiscordHarness, channel: DiscordChannel, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        link = await platform.write(DM, "https://example.com")
        await platform.preview(link)
        [id] = (await send_text(channel, IN_DM, "working", "k1")).platform_message_ids
        await platform.edit(id, "worked", chat=DM)
        await platform.react(link, "👍", chat=DM, person=ME)
        await platform.write(GENERAL, "beep", group=True, person=Person(id="77", name="Robot", is_bot=True))
        await inbox.wait_for_accepted("beep")
    assert [(event.text, event.sender.is_bot) for event in inbox.accepted] == [
        ("https://example.com", False),
        ("beep", True),
    ]


@pytest.mark.content(ContentKind.REPLY, ContentKind.THREAD)
async def test_a_thread_attaches_its_first_message_once_when_the_bot_is_mentioned_in_it(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    root = await platform.write(GENERAL, "The meeting is on Tuesday", group=True, person=BOB)
    async with run_receive_loop(harness, inbox) as host:
        await harness.wait_until_listening()
        await platform.write(GENERAL, "chatter", group=True, thread=root)
        await platform.write(GENERAL, "right?", group=True, thread=root, mention=True)
        await platform.write(GENERAL, "sure?", group=True, thread=root, mention=True)
        await platform.write(GENERAL, "a thread of no message", group=True, thread=THREAD, mention=True)
        await platform.write(GENERAL, "the end", group=True)
        await inbox.wait_for_accepted("the end")
        assert host.results == []
    brought = {event.text: event.parts for event in inbox.accepted if event.parts}
    [part] = brought.pop("right?")
    assert brought == {}
    assert (part.kind, part.author, part.text) == (PartKind.QUOTED, "Bob", "The meeting is on Tuesday")


@pytest.mark.content(ContentKind.THREAD)
async def test_a_forum_post_is_attached_only_for_a_bot_that_did_not_receive_it(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        for post, is_for_the_bot in (("5201", True), ("5202", False)):
            await platform.write(
                GENERAL, "Who brings what?", group=True, thread=post, message_id=post, mention=is_for_the_bot
            )
            await platform.write(GENERAL, f"and I in {post}?", group=True, thread=post, mention=True)
        await inbox.wait_for_accepted("and I in 5202?")
    brought = {event.text: [part.text for part in event.parts] for event in inbox.accepted if event.parts}
    assert brought == {"and I in 5202?": ["Who brings what?"]}


@pytest.mark.content(ContentKind.THREAD)
@pytest.mark.parametrize("what", ["text", "card", "file"])
async def test_a_thread_that_the_bot_wrote_in_attaches_nothing(
    harness: DiscordHarness,
    channel: DiscordChannel,
    platform: DiscordSimulator,
    inbox: SuiteInbox,
    tmp_path: Path,
    what: str,
) -> None:
    root = await platform.write(GENERAL, "The meeting is on Tuesday", group=True, person=BOB)
    there = Address(platform_id=GENERAL, thread_id=root)
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.write(GENERAL, "chatter", group=True, thread=root)
        await inbox.wait_for_accepted("chatter")
        await send_message(channel, there, what, tmp_path)
        await platform.write(GENERAL, "right?", group=True, thread=root, mention=True)
        event = await inbox.wait_for_accepted("right?")
    assert event.parts == ()


@pytest.mark.content(ContentKind.THREAD)
async def test_a_thread_start_that_could_not_be_read_comes_with_the_next_message(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    root = await platform.write(GENERAL, "The meeting is on Tuesday", group=True, person=BOB)
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.write(GENERAL, "chatter", group=True, thread=root)
        await inbox.wait_for_accepted("chatter")
        platform.reading.persistent = Fault.SERVER_ERROR
        await platform.write(GENERAL, "right?", group=True, thread=root, mention=True)
        before = await inbox.wait_for_accepted("right?")
        platform.reading.persistent = None
        await platform.write(GENERAL, "sure?", group=True, thread=root, mention=True)
        after = await inbox.wait_for_accepted("sure?")
    assert (before.parts, [part.text for part in after.parts]) == ((), ["The meeting is on Tuesday"])


@pytest.mark.content(ContentKind.REPLY)
async def test_the_lookup_of_a_replied_to_message_has_a_timeout(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.discord.LOOKUP_TIMEOUT_S", scaled_timeout(0.05))
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        platform.reading.persistent = Fault.HANG
        reference = {"type": 0, "message_id": "41", "channel_id": DM}
        await platform.post(DM, {"content": "hm", "type": 19, "message_reference": reference})
        async with asyncio.timeout(scaled_timeout(CALL_TIMEOUT_S / 2)):
            event = await inbox.wait_for_accepted("hm")
    [part] = event.parts
    assert (part.kind, part.text) == (PartKind.QUOTED, "[a message that is not there any more, or cannot be read here]")


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.EDIT_WITH_MENTION)
async def test_an_edit_that_adds_a_mention_is_marked_as_one(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        id = await platform.write(GENERAL, "what time is it?", group=True)
        await platform.edit(id, f"<@{ME.id}> what time is it in Lima?", chat=GENERAL)
        edit = await inbox.wait_for_accepted("what time is it in Lima?")
    assert [event.mentions_bot for event in inbox.accepted] == [False, True]
    assert (edit.kind, edit.refers_to) == (EventKind.EDIT, id)


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.DELETION, ContentKind.REACTION_REMOVED)
@pytest.mark.case("a message deleted")
async def test_deletions_and_removed_reactions_are_reported(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        [dm, *several] = [
            await platform.write(DM, "in a DM"),
            await platform.write(GENERAL, "one", group=True, thread=THREAD),
            await platform.write(GENERAL, "two", group=True, thread=THREAD),
        ]
        await platform.react(dm, "👍", chat=DM)
        await platform.remove_reaction(dm, "👍", chat=DM)
        await platform.react(dm, "👍", chat=DM)
        await platform.delete(dm, chat=DM)
        await platform.delete(*several, chat=GENERAL)
        await inbox.wait_until(lambda: len(inbox.accepted) == 9)
    on, off, again, *gone = inbox.accepted[3:]
    reaction, removed = EventKind.REACTION, EventKind.REACTION_REMOVED
    assert [(event.kind, event.text, event.refers_to) for event in (on, off, again)] == [
        (reaction, "👍", dm),
        (removed, "👍", dm),
        (reaction, "👍", dm),
    ]
    assert off.sender.name == "Ada"
    assert event_identity(on) != event_identity(again)
    assert [(event.kind, event.text, event.refers_to) for event in gone] == [
        (EventKind.DELETION, "", id) for id in (dm, *several)
    ]
    assert [(event.platform_id, event.thread_id, event.is_group) for event in gone] == [
        (DM, None, False),
        (GENERAL, THREAD, True),
        (GENERAL, THREAD, True),
    ]


@pytest.mark.behaviour("RT-11")
@pytest.mark.content(ContentKind.EDIT, ContentKind.REACTION, ContentKind.THREAD)
async def test_edits_and_reactions_in_a_thread_belong_to_it(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        id = await platform.write(GENERAL, "teh", group=True, thread=THREAD, person=BOB)
        await platform.edit(id, "the", chat=GENERAL, person=BOB)
        await platform.react(id, "🎉", chat=GENERAL, person=BOB)
        await inbox.wait_until(lambda: len(inbox.accepted) == 3)
    _, edit, reaction = inbox.accepted
    assert (edit.kind, edit.text, edit.refers_to) == (EventKind.EDIT, "the", id)
    assert (reaction.kind, reaction.text, reaction.refers_to) == (EventKind.REACTION, "🎉", id)
    for event in inbox.accepted:
        assert (event.platform_id, event.thread_id, event.sender.name) == (GENERAL, THREAD, "Bob")


@pytest.mark.behaviour("IN-06")
async def test_an_error_page_in_place_of_a_file_is_refused(
    harness: DiscordHarness, channel: DiscordChannel, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.write(DM, "", file=("plan.pdf", b"content"))
        await inbox.wait_until(lambda: len(inbox.accepted) == 1)
        [attachment] = inbox.accepted[0].attachments
        platform.should_serve_error_page = True
        with pytest.raises(NotSent):
            await channel.fetch(attachment, tmp_path / "file", most_bytes=10_000)


async def test_a_file_is_fetched_without_sending_the_token_and_a_missing_one_is_refused(
    harness: DiscordHarness, channel: DiscordChannel, platform: DiscordSimulator, inbox: SuiteInbox, tmp_path: Path
) -> None:
    into = tmp_path / "file"
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        await platform.write(DM, "", file=("a b&c.txt", b"content"))
        await inbox.wait_until(lambda: len(inbox.accepted) == 1)
        [attachment] = inbox.accepted[0].attachments
        assert (attachment.name, attachment.size) == ("a b&c.txt", 7)
        await channel.fetch(attachment, into, most_bytes=7)
        assert into.read_bytes() == b"content"
        platform.forget_files()
        with pytest.raises(Refused, match="any more"):
            await channel.fetch(attachment, into, most_bytes=7)
        for wrong in ("file:///etc/passwd", "no address", f"http://{platform.address}/api/v10/users/@me"):
            with pytest.raises(Refused):
                await channel.fetch(Attachment(ref=wrong), into, most_bytes=7)
        await platform.start_outage()
        with pytest.raises(NotSent):
            await channel.fetch(attachment, into, most_bytes=7)


# Buttons


@pytest.mark.content(ContentKind.BUTTON_PRESS)
async def test_a_press_is_acknowledged_after_it_is_committed(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox):
        await harness.wait_until_listening()
        card = await platform.write(GENERAL, "card", group=True, thread=THREAD)
        await inbox.wait_for_accepted("card")
        inbox.hold()
        said = {"id": card, "channel_id": THREAD, "guild_id": "5000", "components": []}
        await platform.press_as(said, "q:1", person=BOB)
        await inbox.wait_until(lambda: len(inbox.received) == 2)
        await harness.flush()
        assert not platform.presses[0].is_answered
        inbox.release()
        await platform.wait_until(lambda: platform.presses[0].is_answered)
    click = inbox.accepted[-1]
    assert (click.kind, click.value, click.refers_to, click.sender.name) == (EventKind.CLICK, "q:1", card, "Bob")
    assert (click.platform_id, click.thread_id, click.is_group) == (GENERAL, THREAD, True)


async def test_a_press_that_can_no_longer_be_acknowledged_still_counts(
    harness: DiscordHarness, platform: DiscordSimulator, inbox: SuiteInbox
) -> None:
    async with run_receive_loop(harness, inbox) as host:
        await harness.wait_until_listening()
        await platform.press_as({"id": "1", "channel_id": DM, "components": []}, "q:1")
        await inbox.wait_until(lambda: len(inbox.accepted) == 1)
        platform.presses.clear()  # Discord has forgotten all of them
        await platform.press_as({"id": "1", "channel_id": DM, "components": []}, "q:2")
        platform.presses.clear()
        await harness.person_writes("still there?", message_id="1")
        await inbox.wait_for_accepted("still there?")
        assert host.results == []
    assert [event.value for event in inbox.accepted] == ["q:1", "q:2", None]


async def _until_told(channel: DiscordChannel, words: str) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while words not in channel.condition()[1]:  # noqa: ASYNC110 - a condition is looked at, as status does
            await asyncio.sleep(0.01)


def _texts(inbox: SuiteInbox) -> Sequence[str]:
    return [event.text for event in inbox.accepted]


def _elsewhere(event: InboundEvent, chat: str) -> InboundEvent:
    return InboundEvent(
        platform_id=chat,
        platform_message_id="1",
        sender=event.sender,
        text="elsewhere",
        sent_at=event.sent_at,
    )
