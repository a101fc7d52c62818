"""What protects a person's own number: consent, safe mode and the daily cap; and linking it."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from channels._whatsapp_linked import CONSENT, DailyCap, LinkedChannel, create, to_chat_id
from channels.whatsapp import create as create_whatsapp
from nanohost.channel_api import (
    Address,
    AuthFailed,
    ChannelContext,
    ChannelDown,
    ChannelError,
    Condition,
    OutboundText,
    RateLimited,
    Receipt,
    RefusedHere,
)
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import BOB, Person
from nanohost.testing.simulator_suite import SimulatorHarness, run_channel
from nanohost.testing.simulators._whatsapp_lines import StateName
from nanohost.testing.simulators.whatsapp_linked import ME, WhatsAppLinkedSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

from .conftest import Make, wait_until

ADAS = "1001@s.whatsapp.net"
BOBS = "1002@s.whatsapp.net"


async def _send(channel: LinkedChannel, chat: str, text: str = "hello") -> Receipt:
    return await channel.send(Address(platform_id=chat), OutboundText(text=text), idempotency_key=text)


async def _until(channel: LinkedChannel, condition: Condition) -> str:
    await wait_until(lambda: channel.condition()[0] is condition)
    return channel.condition()[1]


# Consent and settings


@pytest.mark.parametrize("said", [None, "", "yes", "i accept"])
def test_without_consent_nothing_starts_and_the_required_setting_is_shown(make: Make, said: str | None) -> None:
    with pytest.raises(ChannelError, match="may be banned") as raised:
        make(consent=said)
    assert f'consent = "{CONSENT}"' in str(raised.value)


def test_the_channel_file_delegates_to_the_linked_backend(tmp_path: Path) -> None:
    settings = {"backend": "linked", "consent": CONSENT}
    context = ChannelContext(instance="x", settings=settings, runtime_dir=tmp_path, home=tmp_path)
    assert type(create_whatsapp(context)).__name__ == type(create(context)).__name__ == "LinkedChannel"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pace_s", 1, "3 or more"),
        ("daily_cap", 0, "1 or more"),
        ("phone", "Ada", "country code"),
        ("safe_mode", "perhaps", "true or false"),
        ("tokne", "x", "tokne"),
    ],
)
@pytest.mark.behaviour("OP-05")
def test_an_invalid_setting_is_reported_with_what_is_expected(make: Make, key: str, value: object, words: str) -> None:
    with pytest.raises(ChannelError, match=words):
        make(**{key: value})


@pytest.mark.behaviour("DL-08")
def test_messages_are_sent_every_three_seconds_or_more_slowly_if_configured(make: Make) -> None:
    assert make().capabilities.pace.between_s == 3.0
    assert make(pace_s="10").capabilities.pace.between_s == 10.0


def test_a_chat_may_be_given_as_a_phone_number_or_as_a_whatsapp_id() -> None:
    assert to_chat_id(" +49 (170) 123-4567 ") == "491701234567@s.whatsapp.net"
    assert to_chat_id("1203630@g.us") == "1203630@g.us"


# Safe mode


async def test_in_safe_mode_only_people_who_wrote_first_are_written_to(
    phone: WhatsAppLinkedSimulator, make: Make
) -> None:
    channel, inbox = make(allow=None), SuiteInbox()
    async with run_channel(SimulatorHarness(phone, channel, chat=ADAS), inbox):
        await phone.write(ADAS, "hello")
        await inbox.wait_for_accepted("hello")
        await _send(channel, ADAS, "hello Ada")
        with pytest.raises(RefusedHere, match=r"has not written first.*allow"):
            await _send(channel, BOBS, "buy this")
        with pytest.raises(RefusedHere):
            await channel.open_dm(BOB.id)
        await phone.write(BOBS, "hi", person=BOB)
        await inbox.wait_for_accepted("hi")
        await _send(channel, BOBS, "hello Bob")
    assert phone.texts() == ["hello Ada", "hello Bob"]


async def test_people_who_wrote_before_a_restart_are_remembered(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    inbox = SuiteInbox()
    async with run_channel(SimulatorHarness(phone, make(allow=None), chat=ADAS), inbox):
        await phone.write(ADAS, "hello")
        await inbox.wait_for_accepted("hello")
    channel = make(allow=None)
    async with channel.connected():
        with pytest.raises(ChannelDown, match="not known yet"):
            await _send(channel, ADAS)
    async with run_channel(SimulatorHarness(phone, channel, chat=ADAS), inbox):
        await _until(channel, Condition.UP)
        await _send(channel, ADAS, "hello again")
    assert phone.texts() == ["hello again"]


async def test_allowed_numbers_and_oneself_are_written_to(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    channel = make(allow=["+1002"])
    async with run_channel(SimulatorHarness(phone, channel, chat=ADAS), SuiteInbox()):
        await _until(channel, Condition.UP)
        await _send(channel, BOBS, "allowed")
        await _send(channel, ME, "a note")
    assert phone.texts() == ["allowed", "a note"]


async def test_without_safe_mode_anyone_is_written_to(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    channel = make(allow=None, safe_mode="false")
    async with channel.connected():
        await _send(channel, BOBS)
    assert phone.texts(BOBS) == ["hello"]


async def test_a_note_to_oneself_counts_as_a_persons_message(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    inbox = SuiteInbox()
    async with run_channel(SimulatorHarness(phone, make(), chat=ME), inbox):
        await phone.write(ME, "remind me", person=Person(id=ME, name="Me"))
        event = await inbox.wait_for_accepted("remind me")
    assert (event.sender.is_self, event.is_group) == (False, False)


# The daily cap


@pytest.mark.behaviour("DL-08")
async def test_above_the_daily_cap_messages_wait_for_the_next_day_also_after_a_restart(
    phone: WhatsAppLinkedSimulator, make: Make
) -> None:
    for text in ("one", "two"):
        channel = make(daily_cap="2")
        async with channel.connected():
            await _send(channel, ADAS, text)
    async with channel.connected():
        with pytest.raises(RateLimited, match="daily_cap") as limited:
            await _send(channel, ADAS, "three")
    assert limited.value.whole_channel
    assert 0 < limited.value.retry_after_s <= 86_400
    assert phone.texts() == ["one", "two"]


def test_a_new_day_resets_the_daily_cap_and_a_corrupt_file_counts_as_empty(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, 23, 0, tzinfo=UTC)
    tally = DailyCap(tmp_path / "sent", cap=1)
    tally.consume(now)
    with pytest.raises(RateLimited) as limited:
        tally.consume(now)
    assert limited.value.retry_after_s == 3600.0
    tally.consume(now + timedelta(hours=1))
    (tmp_path / "sent").write_text("what?")
    tally.consume(now)


# Linking


async def test_an_unlinked_device_waits_and_names_the_file_with_the_code_to_scan(
    phone: WhatsAppLinkedSimulator, make: Make, tmp_path: Path
) -> None:
    channel = make()
    phone.state = "unpaired"
    async with channel.connected():
        await _until(channel, Condition.WAITING)
        await phone.show_pairing(picture="▄▀▄ scan me ▄▀▄")
        await wait_until(lambda: any(path.stat().st_size for path in tmp_path.rglob("pairing.txt")))
        [path] = tmp_path.rglob("pairing.txt")
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("▄▀▄ scan me ▄▀▄", 0o600)
        assert str(path) in channel.condition()[1]
        with pytest.raises(ChannelDown, match="unpaired"):
            await _send(channel, ADAS)
        await phone.become("up")
        await _until(channel, Condition.UP)
        assert not path.exists()


async def test_a_pairing_code_is_shown_by_the_condition(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    channel = make(phone="+49 170 1234567")
    phone.state = "unpaired"
    async with channel.connected():
        await wait_until(lambda: phone.pair_code in channel.condition()[1])


async def test_the_check_shows_the_code_to_scan_waits_for_it_and_names_the_account(
    phone: WhatsAppLinkedSimulator, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    phone.state = "unpaired"
    channel = make()
    check = asyncio.create_task(channel.check())
    await phone.wait_until(lambda: len(phone.opened) == 1)
    shown = ""
    for picture in ("first code", "second code"):
        await phone.show_pairing(picture=picture)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while picture not in shown:
                await asyncio.sleep(0.01)
                shown += capsys.readouterr().err
    await phone.become("up")
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        assert await check == f"linked to WhatsApp as {ME}, in safe mode"


async def test_the_chat_with_oneself_is_a_link_once_the_number_is_known(
    phone: WhatsAppLinkedSimulator, make: Make
) -> None:
    phone.state = "unpaired"
    channel = make()
    async with channel.connected():
        assert await channel.deep_link("K7QM-2X9P") is None
        await phone.wait_until(lambda: len(phone.opened) == 1)
        await phone.become("up")
        await _until(channel, Condition.UP)
        assert await channel.deep_link("K7QM-2X9P") == f"https://wa.me/{ME.partition('@')[0]}?text=K7QM-2X9P"


@pytest.mark.parametrize(
    ("state", "condition", "raised"),
    [
        ("logged_out", Condition.AUTH_FAILED, AuthFailed),
        ("banned", Condition.AUTH_FAILED, AuthFailed),
        ("replaced", Condition.CONFLICT, ChannelDown),
        ("busy", Condition.CONFLICT, ChannelDown),
        ("missing", Condition.DOWN, ChannelDown),
    ],
)
async def test_each_problem_of_the_phone_is_reported(
    phone: WhatsAppLinkedSimulator, make: Make, state: StateName, condition: Condition, raised: type[ChannelError]
) -> None:
    channel = make()
    async with channel.connected():
        await _until(channel, Condition.UP)
        await phone.become(state, "said the phone")
        assert "said the phone" in await _until(channel, condition)
        with pytest.raises(raised, match="said the phone"):
            await _send(channel, ADAS)
