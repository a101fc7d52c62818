"""Long messages are sent in parts, each once and in order, whatever comes between; and what else a queue waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from nanohost.channel_api import Ambiguous, Capabilities, ChannelDown, Form, NotSent, Pace, RateLimited, Refused
from nanohost.chat_mover import ChatMover
from nanohost.config.home import Home
from nanohost.db import agent_groups, deliveries, messaging_groups, sessions
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryQueueKey, DeliveryStatus
from nanohost.delivery.rate_limiter import PACE_MARGIN
from nanohost.delivery.sender import send_timeout_s
from nanohost.delivery.service import DeliveryService
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import AgentGroupId, SessionId, UnknownSender
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import ChatOut, encode
from tests.support.template_home import opened_store

FAKE = ("fake", "default")
LIMIT = 2_000
LONG = "\n\n".join(" ".join(f"w{paragraph}-{number}" for number in range(130)) for paragraph in range(15))
"""Some 12,000 characters."""


def words(*texts: str) -> list[str]:
    return " ".join(texts).split()


@dataclass(kw_only=True)
class Bench:
    """A delivery stage with a fake platform and a manual clock."""

    store: Store
    home: Home
    clock: ManualClock
    fake: FakeChannel
    delivery: DeliveryService
    mailboxes: Mailboxes
    moving: ChatMover
    session: SessionId

    async def wrote(self, put: Callable[[InboundWriter], None]) -> None:
        """Write a row into the session's mailbox."""
        await self.mailboxes.update(await sessions.get(self.store, self.session), put)

    async def enter(
        self,
        text: str,
        seq: int,
        *,
        chat: str = "c1",
        session: SessionId | None = None,
        in_s: float | None = None,
        thread: str | None = None,
    ) -> None:
        now = self.clock.now()
        lane = DeliveryQueueKey(session or self.session, *FAKE, chat)
        entry = deliveries.Delivery(
            queue=lane,
            seq=seq,
            out_id=f"o{seq}",
            kind="chat",
            thread_id=thread,
            reply_to="m1",
            content=encode(ChatOut(text=text)),
            status=DeliveryStatus.PENDING,
            created_at=now,
            not_before=None if in_s is None else now + timedelta(seconds=in_s),
        )
        async with self.store.transaction() as tx:
            await deliveries.add(tx, entry)

    async def another_session(self, thread: str) -> SessionId:
        async with self.store.transaction() as tx:
            [group] = await agent_groups.list_all(tx)
            return await sessions.add(
                tx, agent_group=group.id, messaging_group=None, thread_id=thread, now=self.clock.now()
            )

    async def known(self, seq: int) -> deliveries.Delivery:
        found = await deliveries.find(self.store, self.session, seq)
        assert found is not None
        return found

    async def settled(self, seq: int, status: DeliveryStatus = DeliveryStatus.SENT) -> deliveries.Delivery:
        """The delivery once it has this status."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while (found := await self.known(seq)).status is not status:
                await self.clock.advance(0)
        return found

    def texts(self, chat: str | None = None) -> list[str]:
        return [one.text for one in self.fake.sent if chat in (None, one.address.platform_id)]


@asynccontextmanager
async def running(
    root: Path,
    fake: FakeChannel,
    clock: ManualClock,
    *,
    ask: bool = False,
    limit_s: Callable[[int], float] = send_timeout_s,
) -> AsyncIterator[Bench]:
    async def nobody(_: AgentGroupId) -> None: ...

    home = Home(root)
    async with opened_store(home, durable=False) as store:
        found = [one async for one in sessions.iter_all(store.reports)]
        if found:
            session = found[0].id
        else:
            async with store.transaction() as tx:
                group = await agent_groups.add(
                    tx, folder="main", name="main", provider=None, model=None, now=clock.now()
                )
                session = await sessions.add(
                    tx, agent_group=group.id, messaging_group=None, thread_id=None, now=clock.now()
                )
        mailboxes = Mailboxes(home.sessions, durable=False)
        moving = ChatMover(store=store, clock=clock, zone=UTC, notify_agents=nobody)
        delivery = DeliveryService(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            channels={FAKE: fake},
            hold_ambiguous=ask,
            timeout_s=limit_s,
            on_chat_moved=moving.move,
        )
        async with mailboxes.opened(), fake.connected(), delivery.opened():
            yield Bench(
                store=store,
                home=home,
                clock=clock,
                fake=fake,
                delivery=delivery,
                mailboxes=mailboxes,
                moving=moving,
                session=session,
            )


@pytest.fixture
def fake() -> FakeChannel:
    return FakeChannel(capabilities=Capabilities(text_limit=LIMIT))


@pytest.fixture
async def bench(tmp_path: Path, fake: FakeChannel) -> AsyncIterator[Bench]:
    async with running(tmp_path, fake, ManualClock()) as bench:
        yield bench


@pytest.mark.behaviour("DL-06")
async def test_a_long_message_arrives_complete_in_order_and_once(bench: Bench) -> None:
    assert len(LONG) > 12_000
    await bench.enter(LONG, 1)
    await bench.enter("and then", 3)
    await bench.settled(3)
    *parts, last = bench.texts()
    assert last == "and then"
    assert len(parts) > 5
    assert words(*parts) == words(LONG)
    assert set(bench.fake.attempts.values()) == {1}
    done = await bench.settled(1)
    assert done.receipt == tuple(f"fake-{number}" for number in range(1, len(parts) + 1))
    assert [one.reply_to for one in bench.fake.sent[:2]] == ["m1", None]
    assert await deliveries.part_progress(bench.store, done) == (0, 0)


@pytest.mark.behaviour("DL-06")
@pytest.mark.parametrize(
    "error",
    [NotSent("x"), RateLimited("x", retry_after_s=3), ChannelDown("x"), Ambiguous("x")],
    ids=lambda error: type(error).__name__,
)
async def test_a_retry_begins_with_the_part_that_failed(bench: Bench, error: NotSent | Ambiguous) -> None:
    bench.fake.errors_by_attempt = {3: error}
    await bench.enter(LONG, 1)
    await bench.fake.wait_for_attempts(3)
    await bench.settled(1, DeliveryStatus.PENDING)
    assert await deliveries.part_progress(bench.store, await bench.known(1)) == (2, len(await parts_of(bench)))
    await bench.clock.wait_for_sleeper()
    await bench.clock.advance(6)
    await bench.settled(1)
    assert words(*bench.texts()) == words(LONG)
    assert sorted(bench.fake.attempts.values()) == [1] * (len(bench.texts()) - 1) + [2]


async def parts_of(bench: Bench) -> list[str]:
    return [row["text"] for row in await bench.store.fetch_all("SELECT text FROM delivery_parts ORDER BY number")]


@pytest.mark.behaviour("DL-06")
async def test_a_message_that_failed_midway_resumes_there_when_the_operator_resends_it(bench: Bench) -> None:
    bench.fake.errors_by_attempt = {3: Refused("x")}
    await bench.enter(LONG, 1)
    await bench.enter("next", 3)
    dead = await bench.settled(1, DeliveryStatus.DEAD)
    await bench.settled(3)
    async with bench.store.transaction() as tx:
        assert await deliveries.resend(tx, dead, bench.clock.now())
    await bench.settled(1)
    texts = [text for text in bench.texts() if text != "next"]
    assert words(*texts) == words(LONG)


@pytest.mark.behaviour("DL-06")
async def test_a_version_that_splits_differently_continues_with_the_recorded_parts(tmp_path: Path) -> None:
    clock, before = ManualClock(), FakeChannel(capabilities=Capabilities(text_limit=LIMIT))
    before.errors_by_attempt = {3: NotSent("x")}
    async with running(tmp_path, before, clock) as bench:
        await bench.enter(LONG, 1)
        await before.wait_for_attempts(3)
        await bench.settled(1, DeliveryStatus.PENDING)
    after = FakeChannel(capabilities=Capabilities(text_limit=LIMIT * 3))
    clock = ManualClock(clock.now() + timedelta(minutes=1))
    async with running(tmp_path, after, clock) as bench:
        await bench.settled(1)
    assert words(*(one.text for one in [*before.sent, *after.sent])) == words(LONG)
    assert max(len(one.text) for one in after.sent) <= LIMIT


@pytest.mark.behaviour("DL-06", "DL-05")
async def test_an_ambiguous_part_is_held_and_sending_resumes_from_it(tmp_path: Path) -> None:
    fake = FakeChannel(capabilities=Capabilities(text_limit=LIMIT))
    fake.errors_by_attempt = {2: Ambiguous("x")}
    async with running(tmp_path, fake, ManualClock(), ask=True) as bench:
        await bench.enter(LONG, 1)
        held = await bench.settled(1, DeliveryStatus.UNKNOWN)
        async with bench.store.transaction() as tx:
            assert await deliveries.resend(tx, held, bench.clock.now())
        await bench.settled(1)
        assert words(*bench.texts()) == words(LONG)


@pytest.mark.behaviour("DL-06", "DL-03")
async def test_a_part_that_was_sent_resets_the_attempts_of_the_next(bench: Bench) -> None:
    bench.fake.errors_by_attempt = {number: NotSent("x") for number in (1, 2, 3, 4, 5, 7, 8, 9)}
    await bench.enter(LONG, 1)
    for _ in range(8):
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(300)
    await bench.settled(1)
    assert words(*bench.texts()) == words(LONG)


async def test_a_message_that_fits_is_not_split(bench: Bench) -> None:
    bench.fake.errors_by_attempt = {1: NotSent("x")}
    await bench.enter("short", 1)
    await bench.fake.wait_for_attempts(1)
    await bench.settled(1, DeliveryStatus.PENDING)
    assert await parts_of(bench) == []
    await bench.clock.wait_for_sleeper()
    await bench.clock.advance(6)
    assert (await bench.settled(1)).receipt == ("fake-1",)


async def test_a_message_that_cannot_be_rendered_is_sent_anyway_without_mentions(tmp_path: Path) -> None:
    fake = FakeChannel(capabilities=Capabilities(form=Form.TELEGRAM, text_limit=10))  # no form can be that short
    async with running(tmp_path, fake, ManualClock()) as bench:
        await bench.enter("hi @all", 1)
        await bench.settled(1)
        assert bench.texts() == ["hi @\u200ball"]


@pytest.mark.behaviour("DL-08")
async def test_a_rate_limited_chat_delays_all_its_sessions_and_no_other_chat(bench: Bench) -> None:
    other = await bench.another_session("t2")
    bench.fake.limited_chats = {"c1": 30.0}
    await bench.enter("first", 1)
    await bench.fake.wait_for_attempts(1)
    await bench.settled(1, DeliveryStatus.PENDING)
    await bench.enter("same chat, other session", 1, session=other)
    await bench.enter("same session, other chat", 3, chat="c2")
    await bench.settled(3)
    await bench.clock.advance(29)
    assert bench.texts() == ["same session, other chat"]
    assert bench.fake.attempts.total() == 2
    bench.fake.limited_chats = {}
    await bench.clock.advance(2)
    assert len(await bench.fake.wait_for_sent(3)) == 3


@pytest.mark.behaviour("DL-08")
async def test_a_rate_limit_of_the_channel_delays_all_its_chats(bench: Bench) -> None:
    bench.fake.rate_limited_after_s, bench.fake.is_limit_channel_wide = 30.0, True
    await bench.enter("first", 1)
    await bench.fake.wait_for_attempts(1)
    await bench.settled(1, DeliveryStatus.PENDING)
    bench.fake.rate_limited_after_s = None
    await bench.enter("elsewhere", 3, chat="c2")
    await bench.clock.advance(29)
    assert bench.texts() == []
    await bench.clock.advance(2)
    await bench.fake.wait_for_sent(2)


@pytest.mark.behaviour("DL-08")
async def test_a_declared_rate_limit_is_kept_and_waiting_is_not_an_attempt(tmp_path: Path) -> None:
    pace = Pace(between_s=1.0, a_minute_in_a_group=3)
    fake = FakeChannel(capabilities=Capabilities(pace=pace))
    async with running(tmp_path, fake, ManualClock()) as bench:
        async with bench.store.transaction() as tx:
            for chat, is_group in (("group", True), ("dm", False)):
                await messaging_groups.add(
                    tx,
                    channel_type=FAKE[0],
                    instance=FAKE[1],
                    platform_id=chat,
                    is_group=is_group,
                    name=chat,
                    unknown_sender=UnknownSender.PUBLIC,
                    now=bench.clock.now(),
                )
        for number in range(5):
            await bench.enter(f"{number}", 1 + 4 * number, chat="group")
            await bench.enter(f"{number}", 3 + 4 * number, chat="dm")
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while (passed_s := bench.clock.monotonic()) < 60 * PACE_MARGIN:
                assert len(bench.texts("dm")) <= passed_s + 1
                assert len(bench.texts("group")) <= min(3, passed_s + 1)
                await bench.clock.wait_for_sleeper()
                await bench.clock.advance(0.5)
                await bench.known(1)
        assert bench.texts("dm") == list("01234")
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while len(bench.texts("group")) < 5:
                await bench.clock.advance(0.5)
                await bench.known(1)
        assert bench.texts("group") == list("01234")
        assert set(fake.attempts.values()) == {1}


@pytest.mark.behaviour("TK-07")
async def test_a_scheduled_message_delays_nothing_and_is_sent_on_time(bench: Bench) -> None:
    await bench.enter("in an hour", 1, in_s=3600)
    await bench.enter("in a minute", 3, in_s=60)
    await bench.enter("now", 5)
    await bench.settled(5)
    await bench.clock.wait_for_sleeper()
    await bench.clock.advance(59)
    assert bench.texts() == ["now"]
    await bench.clock.advance(1)
    await bench.settled(3)
    await bench.enter("meanwhile", 7)
    await bench.settled(7)
    await bench.clock.wait_for_sleeper()
    await bench.clock.advance(3600)
    await bench.settled(1)
    assert bench.texts() == ["now", "in a minute", "meanwhile", "in an hour"]


@pytest.mark.behaviour("TK-07")
async def test_a_scheduled_message_survives_a_restart_of_the_host(tmp_path: Path) -> None:
    clock, fake = ManualClock(), FakeChannel()
    async with running(tmp_path, fake, clock) as bench:
        await bench.enter("later", 1, in_s=60)
        await clock.wait_for_sleeper()
    clock = ManualClock(clock.now() + timedelta(seconds=30))
    async with running(tmp_path, fake, clock) as bench:
        await clock.wait_for_sleeper()
        assert bench.texts() == []
        await clock.advance(31)
        await bench.settled(1)
    assert bench.texts() == ["later"]
