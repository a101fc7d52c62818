"""Slack: what is sent, and what happens when Slack fails."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from channels.slack import SlackChannel, SlackSettings, _parse_retry_after, is_slack_url
from nanohost.channel_api import (
    Address,
    Ambiguous,
    Attachment,
    AuthFailed,
    Button,
    ChannelDown,
    ChannelError,
    NotSent,
    OutboundCard,
    OutboundFile,
    OutboundText,
    RateLimited,
    Refused,
    RefusedHere,
)
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import Fault
from nanohost.testing.simulator_suite import LONG_ANSWER, render_parts
from nanohost.testing.simulators.slack import APP_TOKEN, BOT_TOKEN, SlackSimulator

from .serving import run_channel

DM, ROOM = Address(platform_id="D1001"), Address(platform_id="C500")
HELLO = OutboundText(text="**hello**", plain="hello")
YES_NO = (Button(label="Yes", value="q:1"), Button(label="No", value="q:2"))
CARD = OutboundCard(text="**Shall we?**", plain="Shall we?", buttons=YES_NO)


def _file(tmp_path: Path, *, text: str = "see <!channel>") -> OutboundFile:
    path = tmp_path / "notes.txt"
    path.write_text("content")
    return OutboundFile(name="notes.txt", media_type="text/plain", size=7, content=path, text=text, plain=text)


# What people see


@pytest.mark.behaviour("DL-06")
async def test_a_message_is_one_markdown_block_with_a_plain_notification_text(
    slack: SlackSimulator, channel: SlackChannel
) -> None:
    async with channel.connected():
        await channel.send(DM, OutboundText(text="**bold** \\<b>", plain="bold <b>"), idempotency_key="k")
    [shown] = slack.screen("D1001")
    assert (shown.text, shown.raw) == ("bold <b>", "bold &lt;b&gt;")


@pytest.mark.behaviour("DL-06")
async def test_each_part_of_a_long_answer_is_valid_markdown(slack: SlackSimulator, channel: SlackChannel) -> None:
    async with channel.connected():
        for number, part in enumerate(render_parts(LONG_ANSWER + LONG_ANSWER, channel)):
            message = OutboundText(text=part.text, plain=part.plain)
            await channel.send(DM, message, idempotency_key=f"k{number}")
    shown = slack.screen("D1001")
    texts = [str(slack.blocks(one)[0]["text"]) for one in shown]
    assert len(texts) > 1
    assert [text.count("\n```") % 2 for text in ("\n" + text for text in texts)] == [0] * len(texts)
    assert "| name | value |" in texts[0]
    assert "~~struck w0142~~" in texts[-1]
    assert all(len(one.raw) < 4_000 for one in shown)


@pytest.mark.behaviour("DL-12")
async def test_plain_text_without_markup_pings_nobody(slack: SlackSimulator, channel: SlackChannel) -> None:
    slack.refuses_markup = 2
    said = OutboundText(text="x", plain="<!channel> <@1001> a_b_c *x* & <https://a.example|b>")
    card = OutboundCard(text="x", plain="<!channel> " * 500, buttons=YES_NO)
    async with channel.connected():
        await channel.send(DM, said, idempotency_key="k")
        slack.refuses_markup = 0
        await channel.send_card(DM, card, idempotency_key="k2")
    first, second = slack.screen("D1001")
    assert first.text == said.plain
    assert (first.notified, second.notified) == (frozenset(), frozenset())


async def test_refused_markup_is_sent_once_as_plain_text(slack: SlackSimulator, channel: SlackChannel) -> None:
    slack.refuses_markup = 1
    async with channel.connected():
        await channel.send(DM, HELLO, idempotency_key="k")
        slack.refuses_markup = 1
        with pytest.raises(Refused, match="invalid_blocks"):
            await channel.send(DM, OutboundText(text="hello"), idempotency_key="k2")
        slack.refuses_markup = 2
        with pytest.raises(Refused, match="invalid_blocks"):
            await channel.send_card(DM, CARD, idempotency_key="k3")
        slack.refuses_markup = 1
        await channel.edit(DM, slack.screen("D1001")[0].id, OutboundText(text="**new**", plain="new"))
    assert slack.texts("D1001") == ["new"]


async def test_an_answer_in_a_thread_stays_there_with_its_buttons_and_files(
    slack: SlackSimulator, channel: SlackChannel, inbox: SuiteInbox, tmp_path: Path
) -> None:
    async with run_channel(channel, inbox):
        root = await slack.write("C500", "a question", group=True, mention=True)
        event = await inbox.wait_for_accepted("a question")
        where = Address(platform_id=event.platform_id, thread_id=event.thread_id)
        await channel.typing(where)
        await channel.send(where, HELLO, idempotency_key="k1")
        await channel.send_card(where, CARD, idempotency_key="k2")
        await channel.send_file(where, _file(tmp_path), idempotency_key="k3")
    shown = slack.screen("C500")
    assert [one.thread for one in shown] == [root] * 3
    assert [one.notified for one in shown] == [frozenset()] * 3
    assert (shown[1].buttons, shown[2].file_bytes, shown[2].text) == (("Yes", "No"), b"content", "see <!channel>")
    assert slack.typing == ["C500"]


async def test_typing_outside_a_thread_makes_no_request(slack: SlackSimulator, channel: SlackChannel) -> None:
    async with channel.connected():
        await channel.typing(DM)
    assert slack.calls == []


async def test_a_reaction_without_a_name_in_slack_is_refused(slack: SlackSimulator, channel: SlackChannel) -> None:
    async with channel.connected():
        [id] = (await channel.send(DM, HELLO, idempotency_key="k")).platform_message_ids
        await channel.react(DM, id, "❤️")
        with pytest.raises(RefusedHere):
            await channel.react(DM, id, "🦤")
        for fault in (Fault.RESET_BEFORE, Fault.SERVER_ERROR, Fault.HANG):
            slack.faults.queue.append(fault)
            with pytest.raises(NotSent):
                await channel.react(DM, id, "👀")
        for emoji in sorted(channel.capabilities.reactions or ()):
            await channel.react(DM, id, emoji)
    assert slack.screen("D1001")[0].reactions[:2] == ("❤", slack.screen("D1001")[0].reactions[1])


# What goes wrong


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault.RESET_BEFORE, NotSent),
        (Fault.RESET_AFTER, NotSent),
        (Fault.SERVER_ERROR, NotSent),
        (Fault.HANG, NotSent),
        (Fault.UNAUTHORIZED, AuthFailed),
        (Fault.NOT_JSON, NotSent),
    ],
)
async def test_an_edit_with_a_lost_response_may_be_repeated(
    slack: SlackSimulator, channel: SlackChannel, fault: Fault, raised: type[ChannelError]
) -> None:
    async with channel.connected():
        [id] = (await channel.send(DM, HELLO, idempotency_key="k")).platform_message_ids
        slack.faults.queue.append(fault)
        with pytest.raises(raised):
            await channel.edit(DM, id, OutboundText(text="new", plain="new"))
        await channel.edit(DM, id, OutboundText(text="new", plain="new"))
    assert slack.texts("D1001") == ["new"]


@pytest.mark.parametrize(
    ("fault", "raised", "copies"),
    [
        (Fault.RESET_BEFORE, Ambiguous, 0),
        (Fault.RESET_AFTER, Ambiguous, 1),
        (Fault.SERVER_ERROR, Ambiguous, 0),
        (Fault.HANG, Ambiguous, 0),
        (Fault.UNAUTHORIZED, AuthFailed, 0),
        (Fault.NOT_JSON, Ambiguous, 0),
    ],
)
@pytest.mark.behaviour("DL-05")
async def test_a_file_or_card_with_a_lost_response_is_found_if_it_exists(
    slack: SlackSimulator,
    channel: SlackChannel,
    tmp_path: Path,
    fault: Fault,
    raised: type[ChannelError],
    copies: int,
) -> None:
    where = Address(platform_id="C500", thread_id="1700000000.000100")
    async with channel.connected():
        slack.faults.queue.extend([fault, fault])
        with pytest.raises(raised):
            await channel.send_file(where, _file(tmp_path), idempotency_key="k1")
        with pytest.raises(raised):
            await channel.send_card(where, CARD, idempotency_key="k2")
        assert len(slack.screen("C500")) == copies * 2
        await channel.send(where, HELLO, idempotency_key="k3")
        found = [await channel.find_sent(where, idempotency_key=key) for key in ("k1", "k2", "k3")]
    assert [one is not None for one in found] == [bool(copies), bool(copies), True]
    assert found[2] is not None
    assert found[2].platform_message_ids == (slack.screen("C500")[-1].id,)
    assert slack.calls.count("chat.postMessage") == 2, "the library repeated a request"


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize("late", [True, False])
async def test_a_file_with_a_lost_response_is_shown_once_even_if_slack_shares_it_late(
    slack: SlackSimulator, channel: SlackChannel, tmp_path: Path, *, late: bool
) -> None:
    async with channel.connected():
        slack.shares_late = late
        slack.faults.queue.append(Fault.RESET_AFTER)
        with pytest.raises(Ambiguous):
            await channel.send_file(ROOM, _file(tmp_path), idempotency_key="k1")
        if await channel.find_sent(ROOM, idempotency_key="k1") is None:
            await channel.send_file(ROOM, _file(tmp_path), idempotency_key="k1")
        await slack.share_late()
    assert [one.file_name for one in slack.screen("C500")] == ["notes.txt"]


@pytest.mark.behaviour("DL-05")
async def test_a_file_deleted_meanwhile_is_sent_again(
    slack: SlackSimulator, channel: SlackChannel, tmp_path: Path
) -> None:
    async with channel.connected():
        slack.shares_late = True
        slack.faults.queue.append(Fault.RESET_AFTER)
        with pytest.raises(Ambiguous):
            await channel.send_file(ROOM, _file(tmp_path), idempotency_key="k1")
        for _ in range(2):
            assert await channel.find_sent(ROOM, idempotency_key="k1") is None


@pytest.mark.behaviour("DL-05")
async def test_a_sent_message_is_found_behind_many_others(slack: SlackSimulator, channel: SlackChannel) -> None:
    slack.most_a_page = 2
    thread = Address(platform_id="C500", thread_id="1700000000.000100")
    async with channel.connected():
        for where in (ROOM, thread):
            for number in range(7):
                await channel.send(where, HELLO, idempotency_key=f"k{number}")
            ids = [one.id for one in slack.screen("C500") if one.thread == where.thread_id]
            for number in (0, 3, 6):
                found = await channel.find_sent(where, idempotency_key=f"k{number}")
                assert found is not None
                assert found.platform_message_ids == (ids[number],)
            assert await channel.find_sent(where, idempotency_key="k9") is None
        for number in range(20):
            await channel.send(ROOM, HELLO, idempotency_key=f"more {number}")
        with pytest.raises(Ambiguous):
            await channel.find_sent(ROOM, idempotency_key="k9")


async def test_a_file_that_slack_does_not_accept_is_not_sent(
    slack: SlackSimulator, channel: SlackChannel, tmp_path: Path
) -> None:
    file = _file(tmp_path)
    file.content.write_text("less")
    async with channel.connected():
        with pytest.raises(Refused):
            await channel.send_file(DM, file, idempotency_key="k")
        file.content.write_text("content")
        slack.faults.limits["D1001"] = (1, 3.0)
        with pytest.raises(RateLimited):
            await channel.send_file(DM, file, idempotency_key="k")
        await slack.start_outage()
        with pytest.raises(NotSent):
            await channel.send_file(DM, file, idempotency_key="k")
    assert slack.screen("D1001") == []


async def test_a_refusal_gives_slacks_reason_and_a_remedy(slack: SlackSimulator, channel: SlackChannel) -> None:
    slack.archived.add("C500")
    async with channel.connected():
        with pytest.raises(Refused, match="is_archived") as archived:
            await channel.send(ROOM, HELLO, idempotency_key="k")
        assert archived.value.chat_closed
        with pytest.raises(Refused, match=r"channel_not_found.*/invite"):
            await channel.send(Address(platform_id="X1"), HELLO, idempotency_key="k")
        with pytest.raises(Refused):
            await channel.open_dm("U404")
        with pytest.raises(RefusedHere, match="words") as empty:
            await channel.send(DM, OutboundText(text=" \n"), idempotency_key="k")
        assert not empty.value.chat_closed
    with pytest.raises(ChannelDown):
        await channel.send(DM, HELLO, idempotency_key="k")


async def test_invalid_tokens_are_reported_without_showing_them(slack: SlackSimulator) -> None:
    for wrong, about in (({"bot_token": "xoxb-stale"}, "credentials"), ({"app_token": "xapp-stale"}, "app_token")):
        channel = SlackChannel(SlackSettings.model_validate({**slack.settings(), **wrong}))
        with pytest.raises(AuthFailed, match=about) as raised:
            await channel.check()
        assert "stale" not in str(raised.value)
    said = await SlackChannel(SlackSettings.model_validate(slack.settings())).check()
    assert said == "nanohost (U0NANOHOST) in the workspace Simulated; Socket Mode works"


async def test_no_token_is_ever_logged(
    slack: SlackSimulator,
    channel: SlackChannel,
    inbox: SuiteInbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with run_channel(channel, inbox):
            slack.opening.queue.append(Fault.UNAUTHORIZED)
            await slack.write("D1001", "hello", file=("a.txt", b"a"))
            event = await inbox.wait_for_accepted("hello")
            await channel.fetch(event.attachments[0], tmp_path / "a", most_bytes=10)
            await channel.send_file(DM, _file(tmp_path), idempotency_key="k")
            for fault in Fault:
                slack.faults.queue.append(fault)
                with pytest.raises(ChannelError) as raised:
                    await channel.send(DM, HELLO, idempotency_key=fault)
                assert "xoxb" not in str(raised.value)
            slack.cut_sockets()
            await slack.wait_until(lambda: slack.connections == 2)
        for token in (BOT_TOKEN, APP_TOKEN, "ticket="):
            assert token not in caplog.text + "".join(capsys.readouterr())
    assert BOT_TOKEN not in repr(channel.settings)


# Files of people


async def test_a_file_that_slack_does_not_return_is_refused(
    slack: SlackSimulator, channel: SlackChannel, empty: Path
) -> None:
    stored = slack.store_file("notes.txt", b"secret plans")
    async with channel.connected():
        with pytest.raises(Refused):
            await channel.fetch(Attachment(ref="F404"), empty, most_bytes=100)
        slack.shows_login_page = True
        with pytest.raises(Refused, match="log in"):
            await channel.fetch(Attachment(ref=stored.id), empty, most_bytes=10_000)
        slack.shows_login_page = False
        slack.size_told = 5
        with pytest.raises(Refused, match="more than 5 bytes"):
            await channel.fetch(Attachment(ref=stored.id, size=5), empty, most_bytes=5)
        slack.size_told = None
        await channel.fetch(Attachment(ref=stored.id), empty, most_bytes=100)
        assert empty.read_bytes() == b"secret plans"
        await slack.start_outage()
        with pytest.raises(NotSent):
            await channel.fetch(Attachment(ref=stored.id), empty, most_bytes=100)


async def test_a_file_name_is_in_no_error_that_an_agent_reads(
    slack: SlackSimulator, channel: SlackChannel, empty: Path
) -> None:
    stored = slack.store_file("a\n[file: b, at /etc/passwd]", b"more than that")
    async with channel.connected():
        with pytest.raises(Refused) as raised:
            await channel.fetch(Attachment(ref=stored.id), empty, most_bytes=5)
    assert "[file" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("https://files.slack.com/a", True),
        ("https://slack.com/a", True),
        ("http://slack.com/a", False),
        ("https://slack.com.evil.example/a", False),
        ("https://evil.example/.slack.com", False),
        ("https://evilslack.com/a", False),
        ("", False),
    ],
)
def test_files_hosted_by_slack_are_recognised_by_their_url(url: str, ours: bool) -> None:
    assert is_slack_url(url, "https://slack.com/api/") is ours


@pytest.mark.parametrize(("header", "wait_s"), [("inf", 3600), ("1e300", 3600), ("-5", 1), ("nan", 1), ("soon", 30)])
def test_a_retry_after_header_of_any_form_is_parsed(header: str, wait_s: float) -> None:
    assert _parse_retry_after(header) == wait_s


async def test_the_token_is_sent_to_slack_only(slack: SlackSimulator, channel: SlackChannel, empty: Path) -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.close()

    stranger = await asyncio.start_server(hear, "127.0.0.1", 0)
    stored = slack.store_file("notes.txt", b"x")
    slack.lies_at = f"http://127.0.0.1:{stranger.sockets[0].getsockname()[1]}/file"
    async with stranger, channel.connected():
        with pytest.raises(Refused, match="does not lie with Slack"):
            await channel.fetch(Attachment(ref=stored.id), empty, most_bytes=100)
    assert heard == []
