"""Typing is shown while a turn runs, where its messages came from, and never in the way of anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.channel_api import Address, Capabilities
from nanohost.delivery.typing import MOST_S
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import InKind, NewMessageIn, Origin
from tests.delivery.test_parts import FAKE, Bench, running

pytestmark = pytest.mark.behaviour("DL-11")


async def person_wrote(bench: Bench, id: str, *, thread: str | None = None, kind: InKind = InKind.CHAT) -> None:
    origin = Origin(channel_type=FAKE[0], instance=FAKE[1], platform_id="c1", thread_id=thread)
    message = NewMessageIn(id=id, kind=kind, timestamp=bench.clock.now(), origin=origin, content="{}")

    def put(box: InboundWriter) -> None:
        box.put(message)

    await bench.wrote(put)


async def test_a_quick_turn_shows_nothing(tmp_path: Path) -> None:
    fake = FakeChannel()
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.delivery.on_working(bench.session, ["m1"])
        await bench.clock.somebody_sleeps()
        await bench.clock.advance(0.4)
        bench.delivery.on_working(bench.session, [])
        await bench.clock.advance(60)
        assert fake.typings == []


async def test_it_is_shown_in_the_thread_until_the_turn_ends(tmp_path: Path) -> None:
    fake = FakeChannel(capabilities=Capabilities(typing_every_s=3.0))
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1", thread="t7")
        bench.delivery.on_working(bench.session, ["m1"])
        for count in range(1, 4):
            await bench.clock.somebody_sleeps()
            await bench.clock.advance(3.0)
            await fake.wait_for_typings(count)
            bench.delivery.on_working(bench.session, ["m1"])
        assert set(fake.typings) == {Address(platform_id="c1", thread_id="t7")}
        bench.delivery.on_working(bench.session, [])
        await bench.clock.advance(60)
        assert len(fake.typings) == 3


async def test_an_answer_stops_it_even_before_the_turn_is_known_to_be_over(tmp_path: Path) -> None:
    fake = FakeChannel()
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.delivery.on_working(bench.session, ["m1"])
        await bench.clock.somebody_sleeps()
        await bench.clock.advance(0.5)
        await fake.wait_for_typings(1)
        await bench.clock.somebody_sleeps()
        await bench.clock.advance(3.5)
        await bench.enter("the answer", 1)
        await bench.settled(1)
        await bench.clock.advance(1)
        assert len(fake.typings) == 1


async def test_what_no_person_wrote_shows_nothing(tmp_path: Path) -> None:
    fake = FakeChannel()
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "t1", kind=InKind.TASK)
        bench.delivery.on_working(bench.session, ["t1"])
        for _ in range(3):
            await bench.clock.somebody_sleeps()
            await bench.clock.advance(4)
        assert fake.typings == []


async def test_a_channel_that_hangs_over_it_keeps_no_message_waiting(tmp_path: Path) -> None:
    fake = FakeChannel()
    fake.typing_hangs = True
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.delivery.on_working(bench.session, ["m1"])
        await bench.clock.somebody_sleeps()
        await bench.clock.advance(1)
        await fake.wait_for_typings(1)
        await bench.enter("the answer", 1)
        await bench.settled(1)


async def test_nobody_sees_it_for_longer_than_an_hour(tmp_path: Path) -> None:
    fake = FakeChannel(capabilities=Capabilities(typing_every_s=900.0))
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.delivery.on_working(bench.session, ["m1"])
        for count in range(1, 5):
            await bench.clock.somebody_sleeps()
            await bench.clock.advance(900)
            await fake.wait_for_typings(count)
        await bench.clock.advance(MOST_S)
        assert len(fake.typings) <= 5
