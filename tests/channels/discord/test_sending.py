"""Discord: what is sent, and what a failed send reports."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from channels.discord import DiscordChannel
from nanohost.channel_api import (
    Address,
    Ambiguous,
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
from nanohost.testing.simulator import Fault, simulate_outage
from nanohost.testing.simulator_suite import LONG_ANSWER, render_parts
from nanohost.testing.simulators.discord import DM, GENERAL, THREAD, TOKEN, DiscordSimulator

from .bench import IN_DM, IN_GENERAL, IN_THREAD, make_channel

TEXT = OutboundText(text="hello", plain="hello")
CARD = OutboundCard(text="hello", buttons=(Button(label="Yes", value="q:1"),))

Act = Callable[[DiscordChannel, Path], Awaitable[object]]


async def _send(channel: DiscordChannel, _: Path) -> object:
    return await channel.send(IN_DM, TEXT, idempotency_key="k")


async def _card(channel: DiscordChannel, _: Path) -> object:
    return await channel.send_card(IN_DM, CARD, idempotency_key="k")


async def _file(channel: DiscordChannel, home: Path) -> object:
    path = home / "a.txt"
    path.write_bytes(b"content")
    file = OutboundFile(name="a.txt", media_type="text/plain", size=7, content=path, text="hello")
    return await channel.send_file(IN_DM, file, idempotency_key="k")


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize("act", [_send, _card, _file])
@pytest.mark.parametrize(
    ("fault", "raised", "copies"),
    [
        (Fault.RESET_BEFORE, Ambiguous, 0),
        (Fault.RESET_AFTER, Ambiguous, 1),
        (Fault.SERVER_ERROR, Ambiguous, 0),
        (Fault.NOT_JSON, Ambiguous, 0),
        (Fault.UNAUTHORIZED, AuthFailed, 0),
    ],
)
async def test_each_fault_raises_its_error_and_a_repeat_makes_one_message(
    channel: DiscordChannel,
    platform: DiscordSimulator,
    tmp_path: Path,
    act: Act,
    fault: Fault,
    raised: type[ChannelError],
    copies: int,
) -> None:
    async with channel.connected():
        platform.faults.queue.append(fault)
        with pytest.raises(raised) as error:
            await act(channel, tmp_path)
        assert TOKEN not in str(error.value)
        assert len(platform.screen(DM)) == copies
        await act(channel, tmp_path)
    assert platform.texts(DM) == ["hello"]


@pytest.mark.parametrize("fault", [Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.SERVER_ERROR, Fault.NOT_JSON])
async def test_a_failed_edit_or_reaction_is_never_ambiguous(
    channel: DiscordChannel, platform: DiscordSimulator, fault: Fault
) -> None:
    async with channel.connected():
        [id] = (await channel.send(IN_DM, TEXT, idempotency_key="k")).platform_message_ids
        changed = OutboundText(text="changed")
        platform.faults.queue.append(fault)
        with pytest.raises(NotSent):
            await channel.edit(IN_DM, id, changed)
        await channel.edit(IN_DM, id, changed)
        platform.faults.queue.append(fault)
        with suppress(NotSent):  # a reset reaction may be set again by the transport itself, which is harmless
            await channel.react(IN_DM, id, "👍")
        await channel.react(IN_DM, id, "👍")
    [shown] = platform.screen(DM)
    assert (shown.text, shown.reactions) == ("changed", ("👍",))


@pytest.mark.behaviour("DL-05")
async def test_a_repeat_after_a_restart_is_the_same_message(
    channel: DiscordChannel, platform: DiscordSimulator, tmp_path: Path
) -> None:
    async with channel.connected():
        first = await channel.send(IN_DM, TEXT, idempotency_key="a long key of the host's, with any characters: ü\n")
    async with (again := make_channel(platform, tmp_path)).connected():
        assert first == await again.send(
            IN_DM, TEXT, idempotency_key="a long key of the host's, with any characters: ü\n"
        )
    assert platform.texts(DM) == ["hello"]


async def test_nothing_is_sent_during_an_outage_or_while_disconnected(
    channel: DiscordChannel, platform: DiscordSimulator
) -> None:
    with pytest.raises(ChannelDown, match="not connected"):
        await channel.send(IN_DM, TEXT, idempotency_key="k")
    async with channel.connected():
        async with simulate_outage(platform):
            with pytest.raises(ChannelDown, match="cannot be reached"):
                await channel.send(IN_DM, TEXT, idempotency_key="k")
        await channel.send(IN_DM, TEXT, idempotency_key="k")
    assert platform.texts(DM) == ["hello"]


@pytest.mark.behaviour("DL-08")
@pytest.mark.parametrize(("limited", "whole"), [(DM, False), ("", True)])
async def test_a_rate_limit_applies_to_one_chat_or_to_all_as_discord_says(
    channel: DiscordChannel, platform: DiscordSimulator, limited: str, whole: bool
) -> None:
    platform.faults.limits[limited] = (1, 3.5)
    async with channel.connected():
        with pytest.raises(RateLimited) as raised:
            await channel.send(IN_DM, TEXT, idempotency_key="k")
    assert (raised.value.retry_after_s, raised.value.whole_channel) == (3.5, whole)


@pytest.mark.parametrize("emoji", [".", "..", "", "👍" * 100, "ok?x=1"])
async def test_a_text_that_is_not_an_emoji_is_not_used_in_a_url(
    channel: DiscordChannel, platform: DiscordSimulator, emoji: str
) -> None:
    async with channel.connected():
        [id] = (await channel.send(IN_DM, TEXT, idempotency_key="k")).platform_message_ids
        with pytest.raises(RefusedHere, match="no emoji"):
            await channel.react(IN_DM, id, emoji)
    assert platform.screen(DM)[0].reactions == ()


@pytest.mark.parametrize("wait_s", [1e300, float("inf")])
async def test_a_rate_limit_of_any_length_is_reported_as_an_hour_at_most(
    channel: DiscordChannel, platform: DiscordSimulator, wait_s: float
) -> None:
    platform.faults.limits[DM] = (1, wait_s)
    async with channel.connected():
        with pytest.raises(RateLimited) as raised:
            await channel.send(IN_DM, TEXT, idempotency_key="k")
    assert raised.value.retry_after_s == 3600


async def test_a_refusal_gives_the_reason_and_a_remedy(channel: DiscordChannel, platform: DiscordSimulator) -> None:
    platform.closed_dms.add(DM)
    platform.forbidden.add(GENERAL)
    async with channel.connected():
        for where, words in [
            (IN_DM, "takes no DMs"),
            (IN_GENERAL, "allow it Send Messages"),
            (Address(platform_id="404"), "Unknown Channel"),
            (Address(platform_id="../../users/@me?x=/"), "Discord refuses it"),
        ]:
            with pytest.raises(Refused, match=words) as refused:
                await channel.send(where, TEXT, idempotency_key="k")
            assert refused.value.chat_closed is (words in ("takes no DMs", "Unknown Channel"))
        with pytest.raises(Refused, match="50006") as empty:
            await channel.send(IN_THREAD, OutboundText(text=" "), idempotency_key="k")
        assert not empty.value.chat_closed
        with pytest.raises(Refused, match=r"2000 or fewer"):
            await channel.send(IN_THREAD, OutboundText(text="\N{GRINNING FACE}" * 1500), idempotency_key="k")
        with pytest.raises(RefusedHere, match="2000 characters"):
            await channel.send(IN_THREAD, OutboundText(text="x" * 2001), idempotency_key="k")
        [id] = (await channel.send(IN_THREAD, TEXT, idempotency_key="k2")).platform_message_ids
        with pytest.raises(RefusedHere, match="no emoji"):
            await channel.react(IN_THREAD, id, "ok")
        with pytest.raises(Refused, match="Invalid Recipient"):
            await channel.open_dm("123456")


async def test_an_answer_refers_to_its_message_even_if_that_was_edited(
    channel: DiscordChannel, platform: DiscordSimulator
) -> None:
    async with channel.connected():
        for number, reply_to in enumerate(["123", "123:2030-01-01T00:00:00", "nonsense"]):
            await channel.send(IN_THREAD, OutboundText(text="x", reply_to=reply_to), idempotency_key=f"k{number}")
    assert [one.reply_to for one in platform.screen(GENERAL)] == ["123", "123", None]
    assert {one.thread for one in platform.screen(GENERAL)} == {THREAD}


@pytest.mark.behaviour("DL-12")
async def test_nobody_is_pinged_even_by_an_unrendered_text(channel: DiscordChannel, platform: DiscordSimulator) -> None:
    async with channel.connected():
        [id] = (
            await channel.send(IN_GENERAL, OutboundText(text="@everyone @here <@1001> <@&5>"), idempotency_key="k")
        ).platform_message_ids
        await channel.edit(IN_GENERAL, id, OutboundText(text="@here <@1002>"))
    [shown] = platform.screen(GENERAL)
    assert (shown.text, shown.notified, shown.edit_count) == ("@here <@1002>", frozenset(), 1)


@pytest.mark.behaviour("DL-06")
async def test_a_long_answer_keeps_its_code_and_its_text(channel: DiscordChannel, platform: DiscordSimulator) -> None:
    parts = render_parts(LONG_ANSWER, channel)
    async with channel.connected():
        for number, part in enumerate(parts):
            await channel.send(IN_DM, OutboundText(text=part.text, plain=part.plain), idempotency_key=f"k{number}")
    assert all(one.raw.count("```") % 2 == 0 for one in platform.screen(DM))
    text = "\n".join(platform.texts(DM)).replace("\u200b", "")
    for words in ("three w0004", "print('w0009', '<!channel>')", "let a = `w0146`;", "struck w0142", "[unbalanced("):
        assert words in text


async def test_two_bots_in_one_process_are_independent(
    channel: DiscordChannel, platform: DiscordSimulator, tmp_path: Path
) -> None:
    other = DiscordSimulator()
    async with other.running(), channel.connected(), (second := make_channel(other, tmp_path)).connected():
        await channel.send(IN_DM, OutboundText(text="one"), idempotency_key="k")
        await second.send(IN_DM, OutboundText(text="two"), idempotency_key="k")
    assert (platform.texts(), other.texts()) == (["one"], ["two"])


async def test_the_token_is_in_no_log(
    channel: DiscordChannel,
    platform: DiscordSimulator,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    async with channel.connected():
        for fault in (Fault.RESET_AFTER, Fault.SERVER_ERROR, Fault.UNAUTHORIZED):
            platform.faults.queue.append(fault)
            with pytest.raises(ChannelError):
                await channel.send(IN_DM, TEXT, idempotency_key="k")
    said = capsys.readouterr()
    assert TOKEN not in caplog.text + said.out + said.err + repr(channel._settings)
