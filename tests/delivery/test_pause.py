"""Only messages of the host itself are sent during a pause."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.db import agent_groups, deliveries, host_messages, paused, questions, sessions
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryQueueKey, DeliveryStatus
from nanohost.delivery.service import DeliveryService
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.scheduler.task_messages import MIN_SEQ
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.payloads import ChatOut, OutPayload, QuestionOut, encode
from nanohost_protocol.rows import Origin
from tests.support.template_home import opened_store

FAKE = ("fake", "default")
PLACE = Origin(channel_type="fake", instance="default", platform_id="c1")


@dataclass(frozen=True, slots=True)
class DeliveryHarness:
    store: Store
    delivery: DeliveryService
    fake: FakeChannel
    clock: ManualClock
    session: SessionId

    async def enter(self, text: str, seq: int, *, not_before: datetime | None = None) -> DeliveryQueueKey:
        entry = self._entry("chat", ChatOut(text=text), seq)
        async with self.store.transaction() as tx:
            await deliveries.add(tx, replace(entry, not_before=not_before))
        return entry.queue

    async def ask(self, text: str, seq: int) -> None:
        entry = self._entry("question", QuestionOut(text=text, options=()), seq)
        async with self.store.transaction() as tx:
            await deliveries.add(tx, entry)
            await questions.add(tx, entry, self.clock.now())

    def _entry(self, kind: str, payload: OutPayload, seq: int) -> deliveries.Delivery:
        return deliveries.Delivery(
            queue=DeliveryQueueKey(self.session, *FAKE, "c1"),
            seq=seq,
            out_id=f"o{seq}",
            kind=kind,
            thread_id=None,
            reply_to=None,
            content=encode(payload),
            status=DeliveryStatus.PENDING,
            created_at=self.clock.now(),
        )

    async def pause(self) -> None:
        async with self.store.transaction() as tx:
            await paused.begin(tx, by="fake:boss", at=self.clock.now(), place=None)

    async def go_on(self) -> None:
        async with self.store.transaction() as tx:
            await paused.end(tx)
        await self.delivery.resume()

    async def host_says(self, text: str) -> None:
        async with self.store.transaction() as tx:
            await host_messages.enqueue(tx, PLACE, ChatOut(text=text), out_id=text, now=self.clock.now())

    def texts(self) -> list[str]:
        return [one.text for one in self.fake.sent]


@asynccontextmanager
async def open_delivery(tmp_path: Path, fake: FakeChannel) -> AsyncIterator[DeliveryHarness]:
    clock = ManualClock()
    mailboxes = Mailboxes(Home(tmp_path).sessions, durable=False)
    async with opened_store(Home(tmp_path), durable=False) as store:
        async with store.transaction() as tx:
            group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=clock.now())
            session = await sessions.add(
                tx, agent_group=group.id, messaging_group=None, thread_id=None, now=clock.now()
            )
        delivery = DeliveryService(store=store, mailboxes=mailboxes, clock=clock, channels={FAKE: fake})
        async with mailboxes.opened(), fake.connected(), delivery.opened():
            yield DeliveryHarness(store, delivery, fake, clock, session)


@pytest.mark.behaviour("SE-12")
async def test_during_a_pause_host_messages_are_sent_and_those_of_agents_and_tasks_wait(tmp_path: Path) -> None:
    async with open_delivery(tmp_path, FakeChannel()) as here:
        await here.pause()
        await here.enter("of the agent", 1)
        await here.enter("of a task", MIN_SEQ + 2)
        await here.enter("a notice", -65)
        await here.host_says("a card")
        await here.fake.wait_for_sent(2)
        assert sorted(here.texts()) == ["a card", "a notice"]
        await here.go_on()
        await here.fake.wait_for_sent(4)
    assert here.texts()[2:] == ["of a task", "of the agent"]


@pytest.mark.behaviour("SE-12")
async def test_scheduled_messages_do_not_count_in_the_backlog_of_a_pause(tmp_path: Path) -> None:
    async with open_delivery(tmp_path, FakeChannel()) as here:
        await here.pause()
        now = here.clock.now()
        await here.enter("now", 1)
        await here.enter("on time", 3, not_before=now)
        await here.enter("tomorrow", 5, not_before=now + timedelta(days=1))
        await here.enter("a notice", -65)
        assert (await paused.backlog(here.store, now, tasks_within=timedelta())).to_send == 2
        await here.fake.wait_for_sent(1)


@pytest.mark.behaviour("AP-09", "SE-12")
async def test_a_question_closed_by_clear_before_it_was_sent_is_not_sent(tmp_path: Path) -> None:
    """People would press, and read that nobody waits for their answer."""
    async with open_delivery(tmp_path, FakeChannel()) as here:
        await here.pause()
        await here.ask("Which one?", 1)
        async with here.store.transaction() as tx:
            await questions.close_all(tx, here.session)
        await here.ask("Who are you?", 3)
        await here.go_on()
        await here.fake.wait_for_sent(1)
        unasked = await deliveries.find(here.store, here.session, 1)
    assert here.texts() == ["Who are you?"]
    assert unasked is not None
    assert unasked.status is DeliveryStatus.DROPPED


@pytest.mark.behaviour("DL-01", "SE-12")
async def test_a_send_interrupted_by_a_kill_is_dropped_after_a_pause_if_its_chat_was_removed(
    tmp_path: Path,
) -> None:
    async with open_delivery(tmp_path, FakeChannel()) as here:
        await here.pause()
        lane = await here.enter("of before", 1)
        async with here.store.transaction() as tx:
            await tx.execute("UPDATE deliveries SET status = 'sending', attempts = 1")
            [cut_off] = await deliveries.list_waiting(tx, lane)
            assert not await deliveries.drop(tx, cut_off, "taken away", here.clock.now())
            await deliveries.forbid_retry(tx, cut_off, "taken away")
        await here.enter("of after", 3)
        await here.go_on()
        await here.fake.wait_for_sent(1)
        settled = await deliveries.find(here.store, here.session, 1)
    assert here.texts() == ["of after"]
    assert settled is not None
    assert (settled.status, settled.reason) == (DeliveryStatus.DROPPED, "taken away")


@pytest.mark.behaviour("SE-12")
async def test_nothing_is_sent_once_a_pause_is_recorded(tmp_path: Path) -> None:
    """Also if the sender has checked before: it checks again in the transaction that begins the send."""
    async with open_delivery(tmp_path, FakeChannel()) as here:
        here.fake.is_down = True
        lane = await here.enter("waits", 1)
        await here.fake.wait_for_attempts(1)
        await here.clock.wait_for_sleeper()
        seen = await deliveries.next_in_queue(here.store, lane, here.clock.now())
        assert seen is not None
        await here.pause()
        async with here.store.transaction() as tx:
            assert not await deliveries.begin_attempt(tx, seen, here.clock.now())
        here.fake.is_down = False
        await here.clock.advance(3600)
        assert here.fake.attempts.total() == 1
        await here.go_on()
        await here.fake.wait_for_sent(1)
    assert here.texts() == ["waits"]
