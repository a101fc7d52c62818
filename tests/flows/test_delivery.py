"""From the ledger to the platform: waiting for a channel, no duplicates, no chat waits for another."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from nanohost.channel_api import Address, Capabilities, OutboundText, Receipt
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.host_fixture import HostTestEnv
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import RunningHost


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


async def attempts(flow: RunningHost) -> list[str]:
    """The outcome of each attempt, once none is in progress."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            rows = await flow.host.store.fetch_all("SELECT outcome FROM delivery_attempts ORDER BY seq, number")
            if all(row["outcome"] for row in rows):
                return [row["outcome"] for row in rows]
            await asyncio.sleep(0.01)


async def statuses(flow: RunningHost, wanted: list[str]) -> None:
    """Wait until the ledger says this of its messages."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            rows = await flow.host.store.fetch_all("SELECT status FROM deliveries ORDER BY seq")
            if [row["status"] for row in rows] == wanted:
                return
            await asyncio.sleep(0.01)


@pytest.mark.behaviour("DL-04", "DL-02")
async def test_a_delivery_waits_for_a_channel_that_is_down_and_is_sent_once(host_env: HostTestEnv) -> None:
    host_env.fake.is_down = True
    async with host_env.run_host(clock=AcceleratedClock(200)) as flow:
        await flow.wire()
        await host_env.fake.person_writes("hi")
        await host_env.fake.wait_for_attempts(8)
        assert flow.texts() == []
        host_env.fake.is_down = False
        await host_env.fake.wait_for_sent(1)
        *before, last = await attempts(flow)
    assert (set(before), last) == ({"down"}, "sent")
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-03", "DL-04")
async def test_an_outage_of_a_channel_uses_no_attempts_of_later_failures(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake.is_down = True
    async with host_env_with_events.run_host(clock=AcceleratedClock(200)) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_attempts(8)
        host_env_with_events.fake.ambiguous_without_effect = 2
        host_env_with_events.fake.is_down = False
        await host_env_with_events.fake.wait_for_sent(1)
        assert (await attempts(flow))[-3:] == ["ambiguous", "ambiguous", "sent"]


@pytest.mark.behaviour("DL-04")
async def test_a_delivery_waits_for_a_missing_channel(host_env_with_events: HostTestEnv) -> None:
    host_env_with_events.fake.is_down = True
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_attempts(1)
    host_env_with_events.fake.is_down = False
    async with host_env_with_events.run_host(
        should_verify_clean=False, with_channel=False, clock=AcceleratedClock(200)
    ) as flow:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while len(await attempts(flow)) < 4:  # noqa: ASYNC110 - the ledger announces itself to nobody
                await asyncio.sleep(0.02)
        [row] = await flow.host.store.fetch_all("SELECT status, reason FROM deliveries")
        assert "there is no channel fake:default" in row["reason"]
    async with host_env_with_events.run_host(clock=AcceleratedClock(200)):
        await host_env_with_events.fake.wait_for_sent(1)
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-07")
async def test_a_chat_that_hangs_delays_no_other(host_env_with_events: HostTestEnv) -> None:
    host_env_with_events.fake = slow = SlowChat("c1")
    async with host_env_with_events.run_host() as flow:
        for chat in ("c1", "c2"):
            await flow.wire(chat)
            await slow.person_writes("hi", chat=chat)
        await slow.wait_for_sent(1)
        await slow.person_writes("still there", chat="c2")
        await slow.wait_for_sent(2)
        assert flow.texts() == ["echo: hi", "echo: still there"]
        assert flow.texts("c1") == []
        slow.free.set()
        await slow.wait_for_sent(3)


@pytest.mark.behaviour("DL-05")
async def test_a_host_killed_while_sending_sends_again_with_the_same_key(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake = FakeChannel(capabilities=Capabilities(idempotent_send=True))
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        [sent] = await host_env_with_events.fake.wait_for_sent(1)
    with closing(sqlite3.connect(flow.home.database)) as database, database:
        database.execute("UPDATE deliveries SET status = 'sending', receipt = '[]'")
        database.execute("UPDATE delivery_attempts SET ended_at = NULL, outcome = NULL")
    async with host_env_with_events.run_host() as flow:
        await host_env_with_events.fake.wait_for_attempts(2)
        await statuses(flow, ["sent"])
        assert await attempts(flow) == ["ambiguous", "sent"]
    assert host_env_with_events.fake.attempts == {sent.key: 2}
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-05")
async def test_a_send_cancelled_by_the_channels_library_is_retried(host_env_with_events: HostTestEnv) -> None:
    host_env_with_events.fake = LosesItsConnection()
    async with host_env_with_events.run_host(clock=AcceleratedClock(200)) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
        assert await attempts(flow) == ["ambiguous", "sent"]


@pytest.mark.behaviour("DL-03")
async def test_a_message_that_the_platform_refuses_is_dead_and_the_next_is_sent(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake.should_refuse = True
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await statuses(flow, ["dead"])
        host_env_with_events.fake.should_refuse = False
        await host_env_with_events.fake.person_writes("two")
        await statuses(flow, ["dead", "sent"])
    assert flow.texts() == ["echo: two"]


@pytest.mark.behaviour("DL-03")
async def test_a_message_that_cannot_be_sent_is_dead_after_six_attempts_and_so_is_its_notice(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake.ambiguous_without_effect = 100
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await host_env_with_events.fake.wait_for_attempts(1)
    async with host_env_with_events.run_host(clock=AcceleratedClock(1000)) as flow:
        await statuses(flow, ["dead", "dead"])
        assert await attempts(flow) == ["ambiguous"] * 12


async def test_the_last_answer_of_a_dead_container_is_delivered_by_the_next_host(
    host_env_with_events: HostTestEnv,
) -> None:
    # The runner is never idle: it would prune what was sent, as it may once the host has recorded it.
    settings: dict[str, object] = {"poll_interval_s": 60}
    async with host_env_with_events.run_host(settings) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
        session = await flow.session()
    with closing(sqlite3.connect(flow.home.database)) as database, database:
        database.execute("DELETE FROM delivery_attempts")
        database.execute("DELETE FROM deliveries")
        database.execute("UPDATE sessions SET out_cursor = 0 WHERE id = ?", (session.id,))
    async with host_env_with_events.run_host():
        [_, again] = await host_env_with_events.fake.wait_for_sent(2)
    assert again.text == "echo: hi"
