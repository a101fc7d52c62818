"""A message whose channel is down is sent as soon as the channel shows activity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nanohost.channel_api import Address, Ambiguous, OutboundText, Receipt, Refused, RefusedHere
from nanohost.clock import Clock
from nanohost.config.home import Home
from nanohost.db import agent_groups, deliveries, sessions
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryQueueKey, DeliveryStatus
from nanohost.db.domain_events import ChannelActive, DeliveryDecided
from nanohost.delivery.outcome import SERVER_ERROR_RETRY_DELAYS_S
from nanohost.delivery.service import DeliveryService
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import START, ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.payloads import ChatOut, encode
from tests.support.template_home import opened_store

FAKE = ("fake", "default")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(Home(tmp_path), durable=False) as store:
        yield store


@asynccontextmanager
async def delivering(store: Store, root: Path, clock: Clock, fake: FakeChannel) -> AsyncIterator[DeliveryService]:
    """A running delivery stage, with one channel."""
    mailboxes = Mailboxes(Home(root).sessions, durable=False)
    delivery = DeliveryService(store=store, mailboxes=mailboxes, clock=clock, channels={FAKE: fake})
    async with mailboxes.opened(), fake.connected(), delivery.opened():
        yield delivery


async def _enter(
    store: Store, clock: ManualClock, text: str, seq: int, *, chat: str = "c1", not_before: datetime | None = None
) -> DeliveryQueueKey:
    now = clock.now()
    async with store.transaction() as tx:
        found = await sessions.find_by_prefix(tx, "")
        if found:
            id = found[0].id
        else:
            group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
            id = await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=now)
        lane = DeliveryQueueKey(SessionId(id), *FAKE, chat)
        await deliveries.add(
            tx,
            deliveries.Delivery(
                queue=lane,
                seq=seq,
                out_id=f"o{seq}",
                kind="chat",
                thread_id=None,
                reply_to=None,
                content=encode(ChatOut(text=text)),
                status=DeliveryStatus.PENDING,
                created_at=now,
                not_before=not_before,
            ),
        )
    return lane


@pytest.mark.behaviour("DL-04")
async def test_channel_activity_sends_waiting_messages_at_once(store: Store, tmp_path: Path) -> None:
    clock, fake = ManualClock(), FakeChannel()  # the clock stands still: no pause ends by itself
    async with delivering(store, tmp_path, clock, fake):
        fake.is_down = True
        await _enter(store, clock, "first", 1)
        await fake.wait_for_attempts(1)
        await clock.wait_for_sleeper()
        fake.is_down = False
        store.bus.publish(ChannelActive("other", "default"))
        assert fake.sent == []
        store.bus.publish(ChannelActive(*FAKE))
        assert [message.text for message in await fake.wait_for_sent(1)] == ["first"]


class CountingClock(ManualClock):
    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        self.sleeps += 1
        return super().sleep(seconds)


async def test_channel_activity_does_not_wake_queues_with_only_scheduled_messages(store: Store, tmp_path: Path) -> None:
    """Every message of a person is activity, and each chat may have a scheduled message."""
    clock, fake = CountingClock(), FakeChannel()
    async with delivering(store, tmp_path, clock, fake):
        await _enter(store, clock, "later", 1, not_before=clock.now() + timedelta(hours=1))
        await clock.wait_for_sleeper()
        before = clock.sleeps
        store.bus.publish(ChannelActive(*FAKE))
        await _enter(store, clock, "now", 3, chat="c2")
        await fake.wait_for_sent(1)
        assert clock.sleeps == before


@pytest.mark.behaviour("DL-07")
async def test_a_new_answer_is_sent_together_with_a_waiting_one(store: Store, tmp_path: Path) -> None:
    clock, fake = ManualClock(), FakeChannel()
    async with delivering(store, tmp_path, clock, fake):
        fake.is_down = True
        await _enter(store, clock, "first", 1)
        await fake.wait_for_attempts(1)
        await clock.wait_for_sleeper()
        fake.is_down = False
        await _enter(store, clock, "second", 3)
        assert [message.text for message in await fake.wait_for_sent(2)] == ["first", "second"]


class Failing(FakeChannel):
    """Its platform fails for all messages, or for those with a text. `asked`: what it was to send. `refusal`: the error
    for these."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_for: str | None = None
        self.asked: list[str] = []
        self.refusal: Refused | None = None

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        self.asked.append(message.text)
        if self.refusal is not None and "odd" in message.text:
            raise self.refusal
        if self.fails_for is not None and self.fails_for in message.text:
            raise Ambiguous("it answers 503", server_error=True)
        return await super().send(address, message, idempotency_key=idempotency_key)


async def _until_asked(clock: ManualClock, fake: Failing, more: int) -> None:
    """Advance the clock through pauses until the platform got so many more requests."""
    wanted = len(fake.asked) + more
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while len(fake.asked) < wanted:
            await clock.advance(min(clock.remaining_sleeps_s(), default=0.0))


async def _statuses(store: Store) -> list[str]:
    return [row["status"] for row in await store.fetch_all("SELECT status FROM deliveries ORDER BY platform_id, seq")]


@pytest.mark.behaviour("DL-04", "DL-07")
async def test_during_an_outage_messages_wait_and_all_are_sent_once_it_ends(store: Store, tmp_path: Path) -> None:
    clock, fake = ManualClock(), Failing()
    async with delivering(store, tmp_path, clock, fake):
        fake.fails_for = ""
        for seq, text in ((1, "one"), (3, "two")):
            await _enter(store, clock, text, seq)
        await _enter(store, clock, "elsewhere", 5, chat="c2")
        await _until_asked(clock, fake, 100)
        assert clock.now() - START > timedelta(minutes=20)
        assert set(await _statuses(store)) <= {"pending", "sending"}
        fake.fails_for = None
        await _until_asked(clock, fake, 1)
        sent = await fake.wait_for_sent(3)
        assert [one.text for one in sent if one.address.platform_id == "c1"] == ["one", "two"]
        assert len(sent) == 3


@pytest.mark.behaviour("DL-03", "DL-07")
async def test_a_message_that_fails_while_others_succeed_is_given_up_and_its_chat_continues(
    store: Store, tmp_path: Path
) -> None:
    clock, fake = ManualClock(), Failing()
    async with delivering(store, tmp_path, clock, fake):
        fake.fails_for = "spoiled"
        await _enter(store, clock, "spoiled", 1)
        await _enter(store, clock, "behind it", 3)
        for number in range(25):
            before = len(fake.sent)
            await _enter(store, clock, f"well {number}", 5 + 2 * number, chat="c2")
            await fake.wait_for_sent(before + 1)
            if "behind it" in fake.asked:
                break
            await _until_asked(clock, fake, 1)
        assert "behind it" in fake.asked
        assert (await _statuses(store))[0] == "dead"
        tries = len(SERVER_ERROR_RETRY_DELAYS_S) + 1
        assert tries <= fake.asked.count("spoiled") <= tries + 2, "the first failures may have been the platform's"


@pytest.mark.behaviour("DL-03", "DL-04")
@pytest.mark.parametrize(("refusal", "given_up"), [(Refused("no"), True), (RefusedHere("no"), False)])
async def test_a_refusal_shows_that_the_platform_works_only_if_the_platform_was_asked(
    store: Store, tmp_path: Path, refusal: Refused, given_up: bool
) -> None:
    clock, fake = ManualClock(), Failing()
    async with delivering(store, tmp_path, clock, fake):
        fake.fails_for, fake.refusal = "hello", refusal
        await _enter(store, clock, "hello", 1)
        await _until_asked(clock, fake, 1)
        for number in range(25):
            asked = fake.asked.count("hello")
            await _enter(store, clock, f"odd {number}", 3 + 2 * number, chat="c2")
            async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
                while (await _statuses(store))[-1] != "dead":
                    await clock.advance(0)
            if (await _statuses(store))[0] == "dead":
                break
            await clock.wait_for_sleeper()
            assert given_up or fake.asked.count("hello") == asked, "nobody is woken"
            await _until_asked(clock, fake, 1)
        assert ((await _statuses(store))[0] == "dead") is given_up


@pytest.mark.behaviour("DL-04")
async def test_a_short_burst_of_failures_delays_a_chat_by_seconds(store: Store, tmp_path: Path) -> None:
    clock, fake = ManualClock(), Failing()
    async with delivering(store, tmp_path, clock, fake):
        fake.fails_for = ""
        await _enter(store, clock, "hello", 1)
        await _until_asked(clock, fake, 2)
        fake.fails_for = None
        await _until_asked(clock, fake, 1)
        await fake.wait_for_sent(1)
        assert clock.now() - START < timedelta(seconds=10)


@pytest.mark.behaviour("DL-04")
async def test_failures_while_other_messages_succeed_delay_a_chat_by_at_most_half_a_minute(
    store: Store, tmp_path: Path
) -> None:
    clock, fake = ManualClock(), Failing()
    async with delivering(store, tmp_path, clock, fake):
        fake.fails_for = "mine"
        await _enter(store, clock, "mine", 1)
        for number in range(5):
            await _enter(store, clock, f"well {number}", 3 + 2 * number, chat="c2")
            await fake.wait_for_sent(number + 1)
            await _until_asked(clock, fake, 1)
        fake.fails_for, over = None, clock.now()
        await _until_asked(clock, fake, 1)
        await fake.wait_for_sent(6)
        assert clock.now() - over <= timedelta(seconds=30)


@pytest.mark.behaviour("DL-04", "DL-07")
async def test_channel_activity_retries_messages_of_a_failing_platform_at_once(store: Store, tmp_path: Path) -> None:
    clock, fake = ManualClock(), Failing()
    async with delivering(store, tmp_path, clock, fake):
        fake.fails_for = ""
        await _enter(store, clock, "hello", 1)
        await _until_asked(clock, fake, 8)
        await clock.wait_for_sleeper()
        fake.fails_for = None
        store.bus.publish(ChannelActive(*FAKE))
        await fake.wait_for_sent(1)


@pytest.mark.behaviour("DL-03", "DL-04")
async def test_a_message_that_breaks_its_platform_does_not_block_its_chat_for_ever(
    store: Store, tmp_path: Path
) -> None:
    clock, fake = ManualClock(), Failing()
    async with delivering(store, tmp_path, clock, fake):
        fake.fails_for = "spoiled"
        await _enter(store, clock, "spoiled", 1)
        await _enter(store, clock, "behind it", 3)
        while clock.now() - START < timedelta(hours=1, minutes=1):
            await _until_asked(clock, fake, 1)
        assert set(await _statuses(store)) <= {"pending", "sending"}
        store.bus.publish(ChannelActive(*FAKE))
        while "behind it" not in fake.asked:
            await _until_asked(clock, fake, 1)
        assert clock.now() - START < timedelta(hours=1, minutes=15)


@pytest.mark.behaviour("DL-03")
async def test_an_operators_decision_is_carried_out_at_once_also_after_a_full_disk(
    store: Store, tmp_path: Path
) -> None:
    clock, fake = ManualClock(), FakeChannel()
    async with delivering(store, tmp_path, clock, fake):
        async with store.transaction() as tx:
            await tx.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(FAIL, 'disk full'); END"
            )
        lane = await _enter(store, clock, "first", 1)
        await clock.wait_for_sleeper()
        async with store.transaction() as tx:
            await tx.execute("DROP TRIGGER full")
        store.bus.publish(DeliveryDecided(lane))
        assert [message.text for message in await fake.wait_for_sent(1)] == ["first"]
    assert clock.now() == START
