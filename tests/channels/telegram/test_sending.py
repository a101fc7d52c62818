"""What the bot sends on Telegram, and how it handles a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from telegram.constants import ReactionEmoji

from channels.telegram import EMOJI_FALLBACKS, TelegramChannel, nearest_reaction
from nanohost.channel_api import (
    Address,
    Button,
    ChannelDown,
    ChannelError,
    ChatMoved,
    Edits,
    FetchesFiles,
    NotSent,
    OpensDms,
    OutboundCard,
    OutboundFile,
    OutboundText,
    RateLimited,
    Reacts,
    Refused,
    SaysItsCondition,
    SendsCards,
    SendsFiles,
    ShowsTyping,
    ThreadGone,
)
from nanohost.testing.simulator import ADA, Fault
from nanohost.testing.simulators.telegram import A_MINUTE_IN_A_GROUP, REACTIONS, TelegramSimulator

from .bench import GROUP, make_bot

DM = Address(platform_id=ADA.id)
IN_GROUP = Address(platform_id=GROUP)
PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramSimulator]:
    simulator = TelegramSimulator()
    async with simulator.running():
        yield simulator


@pytest.fixture
async def channel(telegram: TelegramSimulator) -> AsyncIterator[TelegramChannel]:
    channel = make_bot(telegram)
    async with channel.connected():
        yield channel


async def send_text(channel: TelegramChannel, text: str, *, to: Address = DM, plain: str | None = None) -> str:
    [id] = (await channel.send(to, OutboundText(text=text, plain=plain), idempotency_key="k")).platform_message_ids
    return id


def a_file(
    folder: Path, name: str, media_type: str, content: bytes, *, text: str = "", plain: str = ""
) -> OutboundFile:
    (folder / name).write_bytes(content)
    return OutboundFile(
        name=name, media_type=media_type, size=len(content), content=folder / name, text=text, plain=plain
    )


def test_the_channel_declares_every_capability_of_telegram(telegram: TelegramSimulator) -> None:
    channel = make_bot(telegram)
    for ability in (SendsCards, SendsFiles, Edits, Reacts, OpensDms, FetchesFiles, ShowsTyping, SaysItsCondition):
        assert isinstance(channel, ability)


@pytest.mark.behaviour("DL-06")
async def test_the_length_limit_is_counted_without_tags_in_utf_16(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    await send_text(channel, f"<b>{'😀' * 2048}</b>")
    with pytest.raises(Refused, match=r"(?i)message is too long"):
        await send_text(channel, "😀" * 2048 + "x")
    assert telegram.texts() == ["😀" * 2048]


@pytest.mark.behaviour("DL-12")
async def test_broken_markup_is_sent_once_as_plain_text(telegram: TelegramSimulator, channel: TelegramChannel) -> None:
    with capture_logs() as lines:
        await send_text(channel, "<b>bold", plain="bold, but < and & too")
    [shown] = telegram.screen(ADA.id)
    assert (shown.text, shown.raw) == ("bold, but < and & too",) * 2
    assert [line["event"] for line in lines] == ["telegram_markup_rejected"]
    assert "can't find end tag" in lines[0]["error"].lower()
    with pytest.raises(Refused, match=r"(?i)can't parse entities"):
        await send_text(channel, "<b>bold")


async def test_lone_surrogates_are_replaced_and_not_refused(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    await send_text(channel, "a\ud800b")
    assert telegram.texts() == ["a\ufffdb"]


async def test_an_answer_quotes_its_question_in_a_group_and_not_in_a_direct_chat(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    for chat in (ADA.id, GROUP):
        asked = await telegram.write(chat, "well?", group=chat == GROUP)
        for reply_to in (asked, f"{asked}:7001", "4711", "no number"):
            text = OutboundText(text="yes", reply_to=reply_to)
            await channel.send(Address(platform_id=chat), text, idempotency_key="k")
    assert [one.reply_to for one in telegram.screen(ADA.id)] == [None] * 4
    assert [one.reply_to for one in telegram.screen(GROUP)] == [asked, asked, None, None]


async def test_a_refused_send_is_reported_in_telegrams_words(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    telegram.blocked.add("5")
    telegram.never_started.add("6")
    telegram.migrated["-7"] = "-1007"
    with pytest.raises(Refused, match="blocked by the user") as blocked:
        await send_text(channel, "hi", to=Address(platform_id="5"))
    assert blocked.value.chat_closed
    with pytest.raises(Refused, match="can't initiate conversation"):
        await channel.open_dm("6")
    with pytest.raises(ChatMoved) as moved:
        await send_text(channel, "hi", to=Address(platform_id="-7"))
    assert moved.value.to == "-1007"
    with pytest.raises(Refused, match=r"(?i)message text is empty") as empty:
        await send_text(channel, " \n ")
    assert not empty.value.chat_closed


async def test_a_deleted_or_closed_topic_is_reported_and_the_chat_itself_is_refused_as_usual(
    telegram: TelegramSimulator, channel: TelegramChannel, tmp_path: Path
) -> None:
    telegram.deleted_topics.add((GROUP, "77"))
    telegram.closed_topics |= {(GROUP, "78"), (GROUP, "1")}
    picture = a_file(tmp_path, "cat.png", "image/png", PNG)
    for thread in ("77", "78"):
        topic = Address(platform_id=GROUP, thread_id=thread)
        with pytest.raises(ThreadGone):
            await send_text(channel, "hi", to=topic)
        with pytest.raises(ThreadGone):
            await channel.send_file(topic, picture, idempotency_key="k")
    with pytest.raises(Refused, match=r"(?i)topic_closed"):
        await send_text(channel, "hi", to=IN_GROUP)


async def test_a_rate_limit_applies_to_one_chat(telegram: TelegramSimulator, channel: TelegramChannel) -> None:
    telegram.faults.limits[GROUP] = (1, 30.0)
    with pytest.raises(RateLimited) as limited:
        await send_text(channel, "hi", to=IN_GROUP)
    assert (limited.value.retry_after_s, limited.value.whole_channel) == (30.0, False)
    await send_text(channel, "hi")


@pytest.mark.behaviour("DL-08")
async def test_the_declared_rate_limit_for_groups_is_twenty_messages_and_edits_a_minute(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    telegram.enforces_pace = True
    pace = channel.capabilities.pace
    assert (pace.between_s, pace.a_minute_in_a_group, pace.a_second) == (1.0, A_MINUTE_IN_A_GROUP, 30)
    id = await send_text(channel, "0 %", to=IN_GROUP)
    for step in range(1, A_MINUTE_IN_A_GROUP):
        await channel.edit(IN_GROUP, id, OutboundText(text=f"{step * 5} %"))
    with pytest.raises(RateLimited) as limited:
        await channel.edit(IN_GROUP, id, OutboundText(text="100 %"))
    assert 50 < limited.value.retry_after_s <= 60
    assert telegram.texts() == ["95 %"]
    assert telegram.screen(GROUP)[0].edit_count == A_MINUTE_IN_A_GROUP - 1


@pytest.mark.behaviour("DL-05", "OP-05")
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.HANG])
async def test_an_error_is_one_line_in_words_without_the_text_of_a_proxy(
    telegram: TelegramSimulator, channel: TelegramChannel, fault: Fault
) -> None:
    telegram.faults.persistent = fault
    with pytest.raises(ChannelError) as error:
        await send_text(channel, "hi")
    said = str(error.value)
    assert not any(noise in said for noise in ("Parsing the server", "<html", "b'", "\n")), said
    assert not said.endswith((":", " ")), said


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.HANG])
async def test_no_error_of_any_call_shows_the_token(
    telegram: TelegramSimulator,
    channel: TelegramChannel,
    fault: Fault,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[ChannelError] = []
    card = OutboundCard(text="Shall we?", buttons=(Button(label="Yes", value="q:1"),))
    file = a_file(tmp_path, "a.png", "image/png", PNG)
    id = await send_text(channel, "hi")
    with capture_logs() as lines:
        for call in (
            lambda: send_text(channel, "hi"),
            lambda: channel.send_card(DM, card, idempotency_key="k"),
            lambda: channel.send_file(DM, file, idempotency_key="k"),
            lambda: channel.edit(DM, id, card),
            lambda: channel.react(DM, id, "👍"),
        ):
            telegram.faults.queue.append(fault)
            try:
                await call()
            except ChannelError as error:
                errors.append(error)
    assert [error.__cause__ for error in errors] == [None] * 5
    assert telegram.token not in "".join(map(str, [*errors, *lines])) + caplog.text
    copies = 2 if fault is Fault.RESET_AFTER else 0
    assert [one.text for one in telegram.screen(ADA.id)].count("Shall we?") == copies


async def test_an_edit_or_reaction_with_a_lost_response_may_be_repeated(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    id = await send_text(channel, "hi")
    telegram.faults.queue.extend([Fault.RESET_AFTER] * 2)
    with pytest.raises(NotSent):
        await channel.edit(DM, id, OutboundText(text="ho"))
    with pytest.raises(NotSent):
        await channel.react(DM, id, "👍")
    await channel.edit(DM, id, OutboundText(text="ho"))
    await channel.react(DM, id, "👍")
    [shown] = telegram.screen(ADA.id)
    assert (shown.text, shown.reactions) == ("ho", ("👍",))


@pytest.mark.parametrize("id", ["4711", "nothing", "4711:5"])
async def test_a_missing_message_can_be_neither_edited_nor_reacted_to(
    telegram: TelegramSimulator, channel: TelegramChannel, id: str
) -> None:
    with pytest.raises(Refused):
        await channel.edit(DM, id, OutboundText(text="ho"))
    with pytest.raises(Refused):
        await channel.react(DM, id, "👍")


def test_the_allowed_reactions_are_those_that_telegram_lets_bots_set() -> None:
    assert {emoji.value for emoji in ReactionEmoji} == REACTIONS
    assert set(EMOJI_FALLBACKS.values()) <= REACTIONS


@pytest.mark.behaviour("DL-09")
@pytest.mark.parametrize(
    ("wanted", "set_"), [("👀", "👀"), ("✅", "👍"), ("❌", "👎"), ("✔️", "👍"), ("❤️", "❤"), ("❤️‍🔥", "❤️‍🔥")]
)
async def test_an_emoji_that_bots_cannot_set_becomes_the_nearest_allowed_one(
    telegram: TelegramSimulator, channel: TelegramChannel, wanted: str, set_: str
) -> None:
    assert nearest_reaction(wanted) == set_
    id = await telegram.write(ADA.id, "look")
    await channel.react(DM, id, wanted)
    assert telegram.screen(ADA.id, sender=None)[0].reactions == (set_,)


async def test_a_card_accepts_the_longest_button_values_and_long_labels_get_their_own_row(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    assert channel.capabilities.buttons <= 100
    buttons = tuple(Button(label=f"{number} " + "x" * 30, value=f"q:{number:030}") for number in range(30))
    await channel.send_card(DM, OutboundCard(text="Which?", buttons=buttons), idempotency_key="k")
    [shown] = telegram.screen(ADA.id)
    assert shown.buttons == tuple(button.label for button in buttons)


async def test_a_card_with_refused_markup_keeps_its_buttons(
    telegram: TelegramSimulator, channel: TelegramChannel
) -> None:
    card = OutboundCard(text="<i>Shall we?", plain="Shall we?", buttons=(Button(label="Yes", value="q:1"),))
    await channel.send_card(DM, card, idempotency_key="k")
    [shown] = telegram.screen(ADA.id)
    assert (shown.text, shown.buttons) == ("Shall we?", ("Yes",))


async def test_a_picture_is_shown_and_an_invalid_one_is_sent_as_a_file(
    telegram: TelegramSimulator, channel: TelegramChannel, tmp_path: Path
) -> None:
    for name, content in (("good.png", PNG), ("bad.png", b"not a picture"), ("notes.txt", b"words")):
        media_type = "text/plain" if name == "notes.txt" else "image/png"
        file = a_file(tmp_path, name, media_type, content, text="<b>see", plain="see")
        await channel.send_file(DM, file, idempotency_key="k")
    assert [(one.file_name, one.file_bytes, one.text) for one in telegram.screen(ADA.id)] == [
        ("good.png", PNG, "see"),
        ("bad.png", b"not a picture", "see"),
        ("notes.txt", b"words", "see"),
    ]
    # Each name once for the markup, once in plain words; the bad picture is refused as one before its words are read.
    assert [call for call in telegram.calls if call.startswith("send")].count("sendPhoto") == 3


async def test_a_file_of_the_declared_size_is_accepted_and_an_unreadable_one_is_not_sent(
    telegram: TelegramSimulator, channel: TelegramChannel, tmp_path: Path
) -> None:
    content = bytes(channel.capabilities.file_bytes)
    await channel.send_file(DM, a_file(tmp_path, "big.bin", "", content), idempotency_key="k")
    assert telegram.screen(ADA.id)[0].file_bytes == content
    gone = a_file(tmp_path, "gone.bin", "", b"x")
    gone.content.unlink()
    with pytest.raises(NotSent, match="cannot be read"):
        await channel.send_file(DM, gone, idempotency_key="k")


async def test_a_send_during_an_outage_certainly_failed(telegram: TelegramSimulator, channel: TelegramChannel) -> None:
    await send_text(channel, "before")
    await telegram.start_outage()
    with pytest.raises(ChannelDown):
        await send_text(channel, "hello?")
    with pytest.raises(NotSent):
        await channel.open_dm(ADA.id)
    await channel.typing(DM)
    await telegram.end_outage()
    await send_text(channel, "after")
    assert telegram.texts() == ["before", "after"]


async def test_links_have_no_preview(telegram: TelegramSimulator, channel: TelegramChannel) -> None:
    await send_text(channel, '<a href="https://example.com/?secret">look</a>')
    assert telegram.previews == 0


async def test_a_call_that_hangs_times_out(telegram: TelegramSimulator, channel: TelegramChannel) -> None:
    telegram.faults.queue.append(Fault.HANG)
    with pytest.raises(ChannelError, match="lost"):
        await send_text(channel, "hello?")
    with suppress(ChannelError):
        await send_text(channel, "after")
    assert telegram.texts() == ["after"]
