"""The conformance suite is useful only if channels that break the contract fail it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nanohost.channel_api import Accepted, Address, InboundEvent, Inbox, OutboundText, Receipt
from nanohost.testing.channel_suite import ChannelSuite, SuiteInbox
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S
from tests.channels.receiving import run_channel

from .test_fake_channel import FakeBench

SUITE = ChannelSuite()


class AcknowledgesTooEarly(FakeChannel):
    async def emit_event(self, event: InboundEvent, *, timeout_s: float = HANG_TIMEOUT_S) -> Accepted:
        self.acknowledged.append(event.platform_message_id)
        return await super().emit_event(event, timeout_s=timeout_s)


class MakesUpIds(FakeChannel):
    async def person_writes(self, text: str, **named: object) -> Accepted:
        return await super().person_writes(text)


class ShortensText(FakeChannel):
    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        short = OutboundText(text=message.text.strip()[:20])
        return await super().send(address, short, idempotency_key=idempotency_key)


class PretendsToBeUp(FakeChannel):
    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return Receipt() if self.is_down else await super().send(address, message, idempotency_key=idempotency_key)


class GivesUp(FakeChannel):
    async def receive(self, inbox: Inbox) -> None:
        await super().receive(_OneOnly(inbox, self))


class Returns(FakeChannel):
    async def receive(self, inbox: Inbox) -> None:
        return


class _OneOnly(SuiteInbox):
    def __init__(self, inbox: Inbox, channel: FakeChannel) -> None:
        super().__init__()
        self._inbox, self._channel = inbox, channel

    async def accept(self, event: InboundEvent) -> Accepted:
        self._channel.fail_receive(ValueError("one is enough"))
        return await self._inbox.accept(event)


class SwallowsCancellation(FakeChannel):
    async def receive(self, inbox: Inbox) -> None:
        try:
            await super().receive(inbox)
        except asyncio.CancelledError:
            return


class WorksOnce(FakeChannel):
    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        assert self.connection_count == 0, "the session is closed"
        async with super().connected():
            yield


@asynccontextmanager
async def bench_of(fake: FakeChannel) -> AsyncIterator[FakeBench]:
    bench = FakeBench(fake)
    try:
        yield bench
    finally:
        await bench.close()


async def test_an_acknowledgement_before_the_commit_is_detected() -> None:
    async with bench_of(AcknowledgesTooEarly()) as bench:
        with pytest.raises(AssertionError):
            await SUITE.test_the_platform_gets_no_acknowledgement_before_the_commit(bench, SuiteInbox())
        with pytest.raises(AssertionError):
            await SUITE.test_an_event_that_could_not_be_committed_is_not_acknowledged(bench, SuiteInbox())


async def test_ids_that_change_between_deliveries_are_detected() -> None:
    async with bench_of(MakesUpIds()) as bench:
        with pytest.raises(AssertionError):
            await SUITE.test_the_same_event_twice_has_the_same_identity(bench, SuiteInbox())


async def test_a_changed_text_is_detected() -> None:
    async with bench_of(ShortensText()) as bench:
        with pytest.raises(AssertionError):
            await SUITE.test_send_returns_a_receipt_and_the_person_sees_the_text_exactly(bench)
    async with bench_of(ShortensText()) as bench:
        with pytest.raises(AssertionError):
            await SUITE.test_a_long_text_split_at_the_declared_limit_arrives_complete_and_in_order(bench)


async def test_a_receipt_for_an_unsent_message_is_detected() -> None:
    async with bench_of(PretendsToBeUp()) as bench:
        with pytest.raises(pytest.fail.Exception):
            await SUITE.test_a_send_to_an_unreachable_chat_certainly_failed(bench)


async def test_a_receive_that_gives_up_is_detected() -> None:
    async with bench_of(GivesUp()) as bench:
        with pytest.raises(AssertionError):
            await SUITE.test_an_awkward_text_from_a_person_does_not_break_the_channel(bench, SuiteInbox(), "")


async def test_a_receive_that_returns_is_detected_also_without_a_host() -> None:
    with pytest.raises(AssertionError, match="receive ended"):
        async with run_channel(Returns(), SuiteInbox()):
            pass


async def test_a_receive_that_does_not_end_as_cancelled_is_detected() -> None:
    async with bench_of(SwallowsCancellation()) as bench:
        with pytest.raises(pytest.fail.Exception):
            await SUITE.test_receive_can_be_cancelled_and_called_again(bench, SuiteInbox())


async def test_a_connection_that_cannot_be_repeated_is_detected() -> None:
    async with bench_of(WorksOnce()) as bench:
        with pytest.raises(AssertionError):
            await SUITE.test_connected_can_be_entered_again(bench, SuiteInbox())
