"""The fake is a channel like any other, and each fault does what its name says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from nanohost.channel_api import (
    Accepted,
    Address,
    Ambiguous,
    AuthFailed,
    Capabilities,
    Channel,
    ChannelContext,
    ChannelDown,
    ChannelError,
    Form,
    OutboundText,
    RateLimited,
    Refused,
    ShowsTyping,
    Unit,
)
from nanohost.testing.channel_suite import ChannelHarness, ChannelSuite, SuiteInbox
from nanohost.testing.fake_channel import FakeChannel

CHAT = Address(platform_id="c1")


class FakeBench(ChannelHarness):
    def __init__(self, fake: FakeChannel) -> None:
        self.fake = fake
        self._writing: list[asyncio.Task[None]] = []

    @property
    def channel(self) -> Channel:
        return self.fake

    @property
    def address(self) -> Address:
        return CHAT

    async def go_online(self) -> None:
        self.fake.is_down = False

    async def go_offline(self) -> None:
        self.fake.is_down = True

    async def person_writes(self, text: str, *, message_id: str) -> None:
        self._writing.append(asyncio.create_task(self._write(text, message_id)))

    async def person_sees(self, count: int) -> Sequence[str]:
        return [message.text for message in await self.fake.wait_for_sent(count)]

    async def send_garbage(self) -> None:
        """This platform has no connection that could carry invalid data."""

    def acknowledged(self) -> Sequence[str]:
        return self.fake.acknowledged

    async def flush(self) -> None:
        """Nothing is in transit: the platform is the same object."""

    async def close(self) -> None:
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def _write(self, text: str, message_id: str) -> None:
        with suppress(OSError):
            await self.fake.person_writes(text, message_id=message_id)


class FakeSuite(ChannelSuite):
    capabilities = Capabilities()

    @pytest.fixture
    async def harness(self) -> AsyncIterator[ChannelHarness]:
        bench = FakeBench(FakeChannel(capabilities=self.capabilities))
        yield bench
        await bench.close()


@pytest.mark.behaviour("IN-01", "IN-02", "IN-07", "DL-04")
class TestFakeConforms(FakeSuite):
    pass


class TestFakeWithIdempotentSendConforms(FakeSuite):
    capabilities = Capabilities(idempotent_send=True)


@pytest.mark.behaviour("DL-06", "DL-11")
class TestFakeWithALimitConforms(FakeSuite):
    capabilities = Capabilities(form=Form.TELEGRAM, text_limit=200, text_unit=Unit.UTF16, counted_after_parsing=True)


@pytest.fixture
async def fake() -> AsyncIterator[FakeChannel]:
    fake = FakeChannel()
    async with fake.connected():
        yield fake


async def send(fake: FakeChannel, key: str = "k1") -> tuple[str, ...]:
    receipt = await fake.send(CHAT, OutboundText(text="hi", reply_to="m1"), idempotency_key=key)
    return receipt.platform_message_ids


async def test_a_sent_message_can_be_read_with_all_its_fields(fake: FakeChannel) -> None:
    assert await send(fake) == ("fake-1",)
    (message,) = await fake.wait_for_sent(1)
    assert (message.address, message.text, message.reply_to, message.key, message.order) == (CHAT, "hi", "m1", "k1", 1)


@pytest.mark.parametrize(
    ("mood", "value", "error"),
    [
        ("is_down", True, ChannelDown),
        ("rate_limited_after_s", 7.0, RateLimited),
        ("limited_chats", {"c1": 7.0}, RateLimited),
        ("errors_by_attempt", {1: Ambiguous("x")}, Ambiguous),
        ("should_refuse", True, Refused),
        ("credentials_revoked", True, AuthFailed),
        ("ambiguous_without_effect", 1, Ambiguous),
    ],
)
async def test_each_fault_raises_its_error_and_sends_nothing(
    fake: FakeChannel, mood: str, value: object, error: type[ChannelError]
) -> None:
    setattr(fake, mood, value)
    with pytest.raises(error) as raised:
        await send(fake)
    assert (fake.sent, fake.attempts["k1"]) == ([], 1)
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after_s == 7.0


async def test_a_chat_can_be_rate_limited_alone_and_a_single_send_fail(fake: FakeChannel) -> None:
    fake.limited_chats = {"c2": 7.0}
    fake.errors_by_attempt = {2: Refused("x")}
    await send(fake)
    with pytest.raises(Refused):
        await send(fake)
    await send(fake)
    assert fake.attempts["k1"] == 3
    assert len(fake.sent) == 2


@pytest.mark.parametrize(("idempotent", "seen"), [(False, 2), (True, 1)])
async def test_a_send_with_a_lost_response_is_shown_twice_unless_it_is_idempotent(idempotent: bool, seen: int) -> None:
    fake = FakeChannel(capabilities=Capabilities(idempotent_send=idempotent))
    fake.ambiguous_after_effect = 1
    async with fake.connected():
        with pytest.raises(Ambiguous):
            await send(fake)
        await send(fake)
    assert (len(fake.sent), fake.attempts["k1"]) == (seen, 2)


async def test_a_held_send_takes_effect_on_release_and_never_after_cancellation(
    fake: FakeChannel,
) -> None:
    fake.hold()
    kept, dropped = asyncio.create_task(send(fake, "k1")), asyncio.create_task(send(fake, "k2"))
    await fake.wait_for_attempts(2)
    dropped.cancel()
    fake.release()
    assert await kept == ("fake-1",)
    assert [message.key for message in fake.sent] == ["k1"]


async def test_a_send_while_disconnected_raises_not_sent() -> None:
    with pytest.raises(ChannelDown):
        await send(FakeChannel())


async def test_writing_waits_for_the_host_and_returns_its_result(fake: FakeChannel) -> None:
    inbox = SuiteInbox()
    writing = asyncio.create_task(fake.person_writes("hi", message_id="m1", thread="t", group=True, mentions=True))
    receiving = asyncio.create_task(fake.receive(inbox))
    assert await writing == Accepted(new=True)
    assert await fake.person_writes("hi", message_id="m1") == Accepted(new=False)
    event = inbox.accepted[0]
    assert (event.thread_id, event.is_group, event.mentions_bot) == ("t", True, True)
    fake.fail_receive(ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        await receiving
    with pytest.raises(AssertionError, match="still does not receive"):
        await fake.person_writes("anyone?", timeout_s=0.01)


async def test_a_failed_wait_reports_what_was_sent(fake: FakeChannel) -> None:
    await send(fake)
    with pytest.raises(AssertionError, match=r"does not send message 2; tried: \{'k1': 1\}, sent: \['hi'\]"):
        await fake.wait_for_sent(2, timeout_s=0.01)


async def test_the_fake_is_given_to_the_host_as_a_channel(fake: FakeChannel, tmp_path: Path) -> None:
    context = ChannelContext(instance="fake", settings={}, runtime_dir=tmp_path, home=tmp_path)
    channel: Channel = fake.create(context)
    assert channel is fake
    assert fake.context is context
    assert isinstance(channel, ShowsTyping)
    await channel.typing(CHAT)
    assert fake.typing_addresses == [CHAT]
