"""How fast messages are sent: tables of waits, and the order of waiting senders."""

from __future__ import annotations

import asyncio

import pytest

from nanohost.channel_api import Pace
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.delivery.rate_limiter import (
    PACE_MARGIN,
    RateLimiter,
    WindowLimit,
    channel_limits,
    chat_limits,
    required_wait_s,
)
from nanohost.model import SessionId
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

SECOND, GROUP = WindowLimit(1, 1.0), WindowLimit(3, 60.0)


def lane(session: str, chat: str) -> DeliveryQueueKey:
    return DeliveryQueueKey(SessionId(session), "fake", "default", chat)


@pytest.mark.behaviour("DL-08")
@pytest.mark.parametrize(
    ("rules", "sent", "now", "wait"),
    [
        ([], [1.0, 2.0], 2.0, 0.0),
        ([SECOND], [], 5.0, 0.0),
        ([SECOND], [5.0], 5.0, 1.0),
        ([SECOND], [5.0], 5.75, 0.25),
        ([SECOND], [5.0], 6.0, 0.0),
        ([GROUP], [1.0, 2.0], 2.0, 0.0),
        ([GROUP], [1.0, 2.0, 3.0], 3.0, 58.0),
        ([GROUP], [1.0, 2.0, 3.0, 61.0], 61.5, 0.5),
        ([SECOND, GROUP], [1.0, 2.0, 3.0], 3.5, 57.5),
        ([SECOND, GROUP], [1.0, 2.0, 61.9], 62.0, 0.9),
    ],
)
def test_the_next_message_waits_until_every_rule_allows_it(
    rules: list[WindowLimit], sent: list[float], now: float, wait: float
) -> None:
    assert required_wait_s(rules, sent, now) == pytest.approx(wait)


@pytest.mark.behaviour("DL-08")
def test_the_rate_limit_is_a_little_slower_than_the_platform_declares() -> None:
    assert 1.05 <= PACE_MARGIN <= 1.2
    pace = Pace(between_s=1.0, a_minute_in_a_group=20, a_second=30)
    assert chat_limits(pace, is_group=False) == [WindowLimit(1, PACE_MARGIN)]
    assert chat_limits(pace, is_group=True) == [WindowLimit(1, PACE_MARGIN), WindowLimit(20, 60 * PACE_MARGIN)]
    assert channel_limits(pace) == [WindowLimit(30, PACE_MARGIN)]
    assert chat_limits(Pace(), is_group=True) == channel_limits(Pace()) == []


class Bench:
    """Keyed workers that acquire the rate limit, in the order in which they got it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pacing = RateLimiter(self.clock)
        self.passed: list[str] = []

    async def nap(self, seconds: float) -> bool:
        await self.clock.sleep(seconds)
        return True

    async def send(self, session: str, chat: str, times: int = 1, *, pace: Pace) -> None:
        for _ in range(times):
            assert await self.pacing.acquire(lane(session, chat), pace, is_group=False, sleep=self.nap)
            self.passed.append(session)
            await asyncio.sleep(0)


@pytest.mark.behaviour("DL-08")
async def test_sessions_that_share_a_chat_alternate_and_another_chat_does_not_wait() -> None:
    bench, pace = Bench(), Pace(between_s=1.0)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), asyncio.TaskGroup() as group:
        group.create_task(bench.send("a", "c1", 3, pace=pace))
        group.create_task(bench.send("b", "c1", 3, pace=pace))
        await bench.clock.advance(0.5)
        group.create_task(bench.send("other", "c2", pace=pace))
        await bench.clock.advance(0.1)
        assert bench.passed == ["a", "other"]
        await bench.clock.advance(4.0 * PACE_MARGIN)
        assert len(bench.passed) == 6
        await bench.clock.advance(1.0)
    assert [one for one in bench.passed if one != "other"] == ["a", "b"] * 3


@pytest.mark.behaviour("DL-08")
async def test_the_rate_limit_counts_from_the_platforms_response() -> None:
    bench, pace = Bench(), Pace(between_s=1.0)
    await bench.send("a", "c1", pace=pace)
    await bench.clock.advance(1.5)
    bench.pacing.record_response(lane("a", "c1"))
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), asyncio.TaskGroup() as group:
        group.create_task(bench.send("a", "c1", pace=pace))
        await bench.clock.advance(1.0)
        assert bench.passed == ["a"], "the first may have arrived at the end of the second and a half"
        await bench.clock.advance(0.2)
    assert bench.passed == ["a", "a"]


@pytest.mark.behaviour("DL-08")
async def test_the_rate_limit_of_a_channel_applies_to_all_its_chats_together() -> None:
    bench, pace = Bench(), Pace(a_second=2)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), asyncio.TaskGroup() as group:
        for chat in "vwxyz":
            group.create_task(bench.send(chat, chat, pace=pace))
        await bench.clock.advance(0.5)
        assert len(bench.passed) == 2
        await bench.clock.advance(1.0 * PACE_MARGIN)
        assert len(bench.passed) == 4
        await bench.clock.advance(1.0 * PACE_MARGIN)
    assert sorted(bench.passed) == list("vwxyz")


@pytest.mark.behaviour("DL-08")
async def test_a_pause_applies_to_one_chat_or_to_the_whole_channel() -> None:
    bench = Bench()
    bench.pacing.pause(lane("a", "c1"), 30, whole_channel=False)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), asyncio.TaskGroup() as group:
        group.create_task(bench.send("same chat", "c1", pace=Pace()))
        group.create_task(bench.send("other chat", "c2", pace=Pace()))
        await bench.clock.advance(29)
        assert bench.passed == ["other chat"]
        bench.pacing.pause(lane("a", "c3"), 10, whole_channel=True)
        group.create_task(bench.send("held", "c2", pace=Pace()))
        await bench.clock.advance(2)
        assert bench.passed == ["other chat"]
        await bench.clock.advance(9)
    assert sorted(bench.passed[1:]) == ["held", "same chat"]


@pytest.mark.behaviour("DL-08")
async def test_a_reset_by_the_operator_ends_a_pause() -> None:
    bench = Bench()
    bench.pacing.pause(lane("a", "c1"), 30, whole_channel=False)
    bench.pacing.reset(lane("a", "c1"))
    await bench.send("a", "c1", pace=Pace())
    assert bench.passed == ["a"]


async def test_a_waiting_sender_stops_when_the_host_closes() -> None:
    bench = Bench()
    bench.pacing.pause(lane("a", "c1"), 30, whole_channel=False)

    async def closing(seconds: float) -> bool:
        return False

    assert not await bench.pacing.acquire(lane("a", "c1"), Pace(), is_group=False, sleep=closing)


async def test_chats_that_no_longer_have_to_wait_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanohost.delivery.rate_limiter.MAX_TRACKED_GATES", 10)
    bench = Bench()
    for number in range(50):
        await bench.send("a", f"c{number}", pace=Pace(between_s=0.5))
        await bench.clock.advance(10)
    assert len(bench.pacing._gates) <= 10


@pytest.mark.behaviour("DL-08")
async def test_a_chat_is_forgotten_when_its_minute_is_over_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanohost.delivery.rate_limiter.MAX_TRACKED_GATES", 1)
    bench = Bench()
    await bench.send("a", "c1", pace=Pace(between_s=0.5))
    await bench.clock.advance(60 * PACE_MARGIN - 0.1)
    await bench.send("b", "c2", pace=Pace(between_s=0.5))
    assert len(bench.pacing._gates) == 2
    await bench.clock.advance(0.1)
    bench.pacing.pause(lane("a", "c3"), 30, whole_channel=False)
    assert [key[-1] for key in bench.pacing._gates] == ["c2", "c3"]
    await bench.clock.advance(120)
    await bench.send("a", "c4", pace=Pace(between_s=0.5))
    assert [key[-1] for key in bench.pacing._gates] == ["c4"]
    await bench.clock.advance(120)
    await bench.send("a", "c5", pace=Pace(between_s=0.5))
    assert [key[-1] for key in bench.pacing._gates] == ["c5"], "there is never more than one that nobody needs"


@pytest.mark.behaviour("DL-08")
async def test_a_chat_with_a_waiting_sender_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanohost.delivery.rate_limiter.MAX_TRACKED_GATES", 1)
    bench = Bench()
    bench.pacing.pause(lane("a", "c1"), 30, whole_channel=False)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), asyncio.TaskGroup() as group:
        group.create_task(bench.send("a", "c1", pace=Pace()))
        await bench.clock.advance(1)
        bench.pacing.record_response(lane("a", "c1"))
        gate = bench.pacing._gates["fake", "default", "c1"]
        gate.paused_until_s = 0.0
        bench.pacing.pause(lane("a", "c2"), 30, whole_channel=False)
        assert bench.pacing._gates["fake", "default", "c1"] is gate
        await bench.clock.advance(30)
    assert bench.passed == ["a"]


@pytest.mark.behaviour("DL-08")
async def test_the_rate_limit_for_groups_applies_to_groups_only() -> None:
    clock = ManualClock()
    pacing, pace = RateLimiter(clock), Pace(a_minute_in_a_group=1)

    async def at_once(_: float) -> bool:
        return False

    direct = [await pacing.acquire(lane("a", "dm"), pace, is_group=False, sleep=at_once) for _ in range(2)]
    group = [await pacing.acquire(lane("a", "group"), pace, is_group=True, sleep=at_once) for _ in range(2)]
    assert (direct, group) == ([True, True], [True, False])
