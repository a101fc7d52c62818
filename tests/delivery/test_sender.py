"""A message whose channel is down goes out as soon as there is a sign that the channel is back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nanohost.app import opened_store
from nanohost.delivery.delivery import Delivery
from nanohost.home import Home
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.store import agent_groups, deliveries, sessions
from nanohost.store.database import Store
from nanohost.store.deliveries import DeliveryStatus, LaneKey
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.payloads import ChatOut, encode

FAKE = ("fake", "default")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened_store(Home(tmp_path), durable=False) as store:
        yield store


async def _enter(
    store: Store, clock: ManualClock, text: str, seq: int, *, chat: str = "c1", not_before: datetime | None = None
) -> LaneKey:
    now = clock.now()
    async with store.transaction() as tx:
        found = await sessions.starting_with(tx, "")
        if found:
            id = found[0].id
        else:
            group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
            id = await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=now)
        lane = LaneKey(SessionId(id), *FAKE, chat)
        await deliveries.add(
            tx,
            deliveries.Delivery(
                lane=lane,
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
async def test_what_waits_for_a_channel_goes_out_at_the_first_sign_of_life(store: Store, tmp_path: Path) -> None:
    clock, fake = ManualClock(), FakeChannel()  # the clock stands still: no pause ends by itself
    mailboxes = Mailboxes(Home(tmp_path).sessions, durable=False)
    delivery = Delivery(store=store, mailboxes=mailboxes, clock=clock, channels={FAKE: fake})
    async with mailboxes.opened(), fake.connected(), delivery.opened():
        fake.down = True
        lane = await _enter(store, clock, "first", 1)
        delivery.on_entry(lane)
        await fake.wait_for_attempts(1)
        await clock.somebody_sleeps()
        fake.down = False
        delivery.on_sign_of_life("other", "default")
        assert fake.sent == []
        delivery.on_sign_of_life(*FAKE)
        assert [message.text for message in await fake.wait_for(1)] == ["first"]


class CountingClock(ManualClock):
    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await super().sleep(seconds)


async def test_a_sign_of_life_wakes_nobody_who_waits_for_a_later_time(store: Store, tmp_path: Path) -> None:
    """Every message of a person is one, and each chat may have something for later."""
    clock, fake = CountingClock(), FakeChannel()
    mailboxes = Mailboxes(Home(tmp_path).sessions, durable=False)
    delivery = Delivery(store=store, mailboxes=mailboxes, clock=clock, channels={FAKE: fake})
    async with mailboxes.opened(), fake.connected(), delivery.opened():
        delivery.on_entry(await _enter(store, clock, "later", 1, not_before=clock.now() + timedelta(hours=1)))
        await clock.somebody_sleeps()
        before = clock.sleeps
        delivery.on_sign_of_life(*FAKE)
        delivery.on_entry(await _enter(store, clock, "now", 3, chat="c2"))
        await fake.wait_for(1)
        assert clock.sleeps == before


@pytest.mark.behaviour("DL-07")
async def test_a_new_answer_takes_the_one_that_waited_along(store: Store, tmp_path: Path) -> None:
    clock, fake = ManualClock(), FakeChannel()
    mailboxes = Mailboxes(Home(tmp_path).sessions, durable=False)
    delivery = Delivery(store=store, mailboxes=mailboxes, clock=clock, channels={FAKE: fake})
    async with mailboxes.opened(), fake.connected(), delivery.opened():
        fake.down = True
        delivery.on_entry(await _enter(store, clock, "first", 1))
        await fake.wait_for_attempts(1)
        await clock.somebody_sleeps()
        fake.down = False
        delivery.on_entry(await _enter(store, clock, "second", 3))
        assert [message.text for message in await fake.wait_for(2)] == ["first", "second"]


@pytest.mark.behaviour("DL-03")
async def test_what_an_operator_decided_is_done_at_once_also_after_the_disk_was_full(
    store: Store, tmp_path: Path
) -> None:
    clock, fake = ManualClock(), FakeChannel()
    mailboxes = Mailboxes(Home(tmp_path).sessions, durable=False)
    delivery = Delivery(store=store, mailboxes=mailboxes, clock=clock, channels={FAKE: fake})
    async with mailboxes.opened(), fake.connected(), delivery.opened():
        async with store.transaction() as tx:
            await tx.run("CREATE TRIGGER full BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(FAIL, 'disk full'); END")
        lane = await _enter(store, clock, "first", 1)
        delivery.on_entry(lane)
        await clock.somebody_sleeps()
        async with store.transaction() as tx:
            await tx.run("DROP TRIGGER full")
        delivery.on_decision(lane)
        assert [message.text for message in await fake.wait_for(1)] == ["first"]
    assert clock.now() == START
