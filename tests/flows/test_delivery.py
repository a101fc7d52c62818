"""From the ledger to the platform: waiting for a channel, nothing twice, nobody waits for somebody else."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from nanohost.channel_api import Address, Capabilities, OutboundText, Receipt
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.limits import HANG_S, seconds
from tests.flows.stage import Stage
from tests.support.flow import Flow
from tests.support.hasty_clock import HastyClock


class SlowChat(FakeChannel):
    """A platform on which one chat hangs until `free` is set."""

    def __init__(self, chat: str) -> None:
        super().__init__()
        self._chat = chat
        self.free = asyncio.Event()

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        if address.platform_id == self._chat:
            await self.free.wait()
        return await super().send(address, message, idempotency_key=idempotency_key)


class LosesItsConnection(FakeChannel):
    """Its library cancels the first request when the connection breaks."""

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        if not self.attempts:
            self.attempts[idempotency_key] += 1
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost
        return await super().send(address, message, idempotency_key=idempotency_key)


async def attempts(flow: Flow) -> list[str]:
    """How each attempt ended, once none is under way."""
    async with asyncio.timeout(seconds(HANG_S)):
        while True:
            rows = await flow.host.store.all("SELECT outcome FROM delivery_attempts ORDER BY seq, number")
            if all(row["outcome"] for row in rows):
                return [row["outcome"] for row in rows]
            await asyncio.sleep(0.01)


async def statuses(flow: Flow, wanted: list[str]) -> None:
    """Wait until the ledger says this of its messages."""
    async with asyncio.timeout(seconds(HANG_S)):
        while True:
            rows = await flow.host.store.all("SELECT status FROM deliveries ORDER BY seq")
            if [row["status"] for row in rows] == wanted:
                return
            await asyncio.sleep(0.01)


@pytest.mark.behaviour("DL-04", "DL-02")
async def test_what_is_to_be_sent_waits_for_a_channel_that_is_down_and_is_sent_once(stage: Stage) -> None:
    stage.fake.down = True
    async with stage.host(clock=HastyClock(200)) as flow:
        await flow.wire()
        await stage.fake.person_writes("hi")
        await stage.fake.wait_for_attempts(8)
        assert flow.texts() == []
        stage.fake.down = False
        await stage.fake.wait_for(1)
        *before, last = await attempts(flow)
    assert (set(before), last) == ({"down"}, "sent")
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-03", "DL-04")
async def test_a_channel_that_was_down_for_long_leaves_all_its_tries_to_what_comes_after(watched: Stage) -> None:
    watched.fake.down = True
    async with watched.host(clock=HastyClock(200)) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for_attempts(8)
        watched.fake.ambiguous_without_effect = 2
        watched.fake.down = False
        await watched.fake.wait_for(1)
        assert (await attempts(flow))[-3:] == ["ambiguous", "ambiguous", "sent"]


@pytest.mark.behaviour("DL-04")
async def test_what_is_to_be_sent_waits_for_a_channel_that_is_missing(watched: Stage) -> None:
    watched.fake.down = True
    async with watched.host(clean=False) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for_attempts(1)
    watched.fake.down = False
    async with watched.host(clean=False, with_channel=False, clock=HastyClock(200)) as flow:
        async with asyncio.timeout(seconds(HANG_S)):
            while len(await attempts(flow)) < 4:  # noqa: ASYNC110 - the ledger announces itself to nobody
                await asyncio.sleep(0.02)
        [row] = await flow.host.store.all("SELECT status, reason FROM deliveries")
        assert "there is no channel fake:default" in row["reason"]
    async with watched.host(clock=HastyClock(200)):
        await watched.fake.wait_for(1)
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-07")
async def test_a_chat_that_hangs_keeps_no_other_waiting(watched: Stage) -> None:
    watched.fake = slow = SlowChat("c1")
    async with watched.host() as flow:
        for chat in ("c1", "c2"):
            await flow.wire(chat)
            await slow.person_writes("hi", chat=chat)
        await slow.wait_for(1)
        await slow.person_writes("still there", chat="c2")
        await slow.wait_for(2)
        assert flow.texts() == ["echo: hi", "echo: still there"]
        assert flow.texts("c1") == []
        slow.free.set()
        await slow.wait_for(3)


@pytest.mark.behaviour("DL-05")
async def test_a_host_that_was_killed_while_sending_sends_again_under_the_same_key(watched: Stage) -> None:
    watched.fake = FakeChannel(capabilities=Capabilities(idempotent_send=True))
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        [sent] = await watched.fake.wait_for(1)
    with closing(sqlite3.connect(flow.home.database)) as database, database:
        database.execute("UPDATE deliveries SET status = 'sending', receipt = '[]'")
        database.execute("UPDATE delivery_attempts SET ended_at = NULL, outcome = NULL")
    async with watched.host() as flow:
        await watched.fake.wait_for_attempts(2)
        await statuses(flow, ["sent"])
        assert await attempts(flow) == ["ambiguous", "sent"]
    assert watched.fake.attempts == {sent.key: 2}
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-05")
async def test_a_send_that_a_channels_library_cancelled_is_tried_again(watched: Stage) -> None:
    watched.fake = LosesItsConnection()
    async with watched.host(clock=HastyClock(200)) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(1)
        assert await attempts(flow) == ["ambiguous", "sent"]


@pytest.mark.behaviour("DL-03")
async def test_a_message_that_the_platform_refuses_is_dead_and_the_next_one_is_sent(watched: Stage) -> None:
    watched.fake.refuses = True
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await statuses(flow, ["dead"])
        watched.fake.refuses = False
        await watched.fake.person_writes("two")
        await statuses(flow, ["dead", "sent"])
    assert flow.texts() == ["echo: two"]


@pytest.mark.behaviour("DL-03")
async def test_a_message_that_can_never_be_sent_is_given_up_after_six_tries_and_so_is_the_word_of_that(
    watched: Stage,
) -> None:
    watched.fake.ambiguous_without_effect = 100
    async with watched.host(clean=False) as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await watched.fake.wait_for_attempts(1)
    async with watched.host(clock=HastyClock(1000)) as flow:
        await statuses(flow, ["dead", "dead"])
        assert await attempts(flow) == ["ambiguous"] * 12


async def test_what_a_dead_container_said_last_is_delivered_though_the_host_died_before_it_looked(
    watched: Stage,
) -> None:
    # Its runner is never idle: it would forget what was sent, as it may once the host has said that it is.
    settings: dict[str, object] = {"poll_interval_s": 60}
    async with watched.host(settings) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(1)
        session = await flow.session()
    with closing(sqlite3.connect(flow.home.database)) as database, database:
        database.execute("DELETE FROM delivery_attempts")
        database.execute("DELETE FROM deliveries")
        database.execute("UPDATE sessions SET out_cursor = 0 WHERE id = ?", (session.id,))
    async with watched.host():
        [_, again] = await watched.fake.wait_for(2)
    assert again.text == "echo: hi"
