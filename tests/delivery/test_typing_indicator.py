"""Typing is shown while a turn runs, in the chat of its messages, and delays nothing."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.channel_api import Address, Capabilities, Work
from nanohost.db import sessions
from nanohost.db.domain_events import SessionWorking
from nanohost.delivery.typing_indicator import MAX_TOOL_NAME_CHARS, MAX_TURN_S, parse_work
from nanohost.mailbox.queries import RunnerProgress
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.inbound import InboundWriter, inbound_snapshot
from nanohost_protocol.outbound import OutboundWriter
from nanohost_protocol.rows import InKind, NewMessageIn, Origin
from nanohost_protocol.times import to_text
from tests.delivery.test_parts import FAKE, Bench, running

pytestmark = pytest.mark.behaviour("DL-11")


async def person_wrote(bench: Bench, id: str, *, thread: str | None = None, kind: InKind = InKind.CHAT) -> None:
    origin = Origin(channel_type=FAKE[0], instance=FAKE[1], platform_id="c1", thread_id=thread)
    message = NewMessageIn(id=id, kind=kind, timestamp=bench.clock.now(), origin=origin, content="{}")

    def put(box: InboundWriter) -> None:
        box.insert(message)

    await bench.wrote(put)


async def test_a_quick_turn_shows_no_typing(tmp_path: Path) -> None:
    fake = FakeChannel()
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(0.4)
        bench.store.bus.publish(SessionWorking(bench.session, frozenset()))
        await bench.clock.advance(60)
        assert fake.typing_addresses == []


async def test_typing_is_shown_in_the_thread_until_the_turn_ends(tmp_path: Path) -> None:
    fake = FakeChannel(capabilities=Capabilities(typing_every_s=3.0))
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1", thread="t7")
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        for count in range(1, 4):
            await bench.clock.wait_for_sleeper()
            await bench.clock.advance(3.0)
            await fake.wait_for_typings(count)
            bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        assert set(fake.typing_addresses) == {Address(platform_id="c1", thread_id="t7")}
        bench.store.bus.publish(SessionWorking(bench.session, frozenset()))
        await bench.clock.advance(60)
        assert len(fake.typing_addresses) == 3


async def test_an_answer_ends_typing_even_before_the_turn_is_known_to_be_over(tmp_path: Path) -> None:
    fake = FakeChannel()
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(0.5)
        await fake.wait_for_typings(1)
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(3.5)
        await bench.enter("the answer", 1)
        await bench.settled(1)
        await bench.clock.advance(1)
        assert len(fake.typing_addresses) == 1


async def test_a_turn_without_a_persons_message_shows_no_typing(tmp_path: Path) -> None:
    fake = FakeChannel()
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "t1", kind=InKind.TASK)
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["t1"])))
        for _ in range(3):
            await bench.clock.wait_for_sleeper()
            await bench.clock.advance(4)
        assert fake.typing_addresses == []


async def test_a_channel_that_hangs_while_typing_delays_no_message(tmp_path: Path) -> None:
    fake = FakeChannel()
    fake.should_hang_typing = True
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(1)
        await fake.wait_for_typings(1)
        await bench.enter("the answer", 1)
        await bench.settled(1)


async def test_typing_is_shown_for_an_hour_at_most(tmp_path: Path) -> None:
    fake = FakeChannel(capabilities=Capabilities(typing_every_s=900.0))
    async with running(tmp_path, fake, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        for count in range(1, 5):
            await bench.clock.wait_for_sleeper()
            await bench.clock.advance(900)
            await fake.wait_for_typings(count)
        await bench.clock.advance(MAX_TURN_S)
        assert len(fake.typing_addresses) <= 5


class Shows(FakeChannel):
    """A channel that also shows what an agent is doing."""

    def __init__(self) -> None:
        super().__init__(capabilities=Capabilities(typing_every_s=1.0))
        self.works: list[Work] = []

    async def working(self, address: Address, work: Work) -> None:
        self.works.append(work)
        await self.typing(address)


async def test_a_capable_channel_is_told_the_current_activity_and_its_duration(tmp_path: Path) -> None:
    shows = Shows()
    async with running(tmp_path, shows, ManualClock()) as bench:
        await person_wrote(bench, "m1")
        layout = bench.mailboxes.layout(await sessions.get(bench.store, bench.session))
        with inbound_snapshot(layout.inbound_db) as written:
            message = written.find("m1")
        assert message is not None
        with closing(OutboundWriter(layout.outbound_db, container_id="c1", durable=False)) as box:
            box.claim("t1", [message], bench.clock.now())
            box.set_progress({"state": "turn", "tool": "mcp__nanohost__Bash", "tool_since": to_text(bench.clock.now())})
        bench.store.bus.publish(SessionWorking(bench.session, frozenset(["m1"])))
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(2)
        await shows.wait_for_typings(1)
    assert shows.works[0] == Work(for_s=2.0, tool="Bash", tool_for_s=2.0)


@pytest.mark.parametrize("since", ["", "yesterday", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"])
def test_a_runners_reported_activity_is_sanitized(since: str) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    doing = RunnerProgress(claims=[], state={"tool": "\x1b]0;x" * 40, "tool_since": since}, highest_seq=0, since=now)
    work = parse_work(doing, now)
    assert work.tool.isprintable()
    assert len(work.tool) <= MAX_TOOL_NAME_CHARS
    assert 0 <= work.tool_for_s <= MAX_TURN_S
