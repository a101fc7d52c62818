"""A platform accepts a message and reports its failure later: the delivery is failed, and its agent is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.channel_api import Ambiguous, Capabilities, ChannelError, Refused
from nanohost.db import deliveries, host_messages, late_failures, sessions
from nanohost.db.deliveries import DeliveryQueueKey, DeliveryStatus
from nanohost.db.domain_events import DeliveryDecided, DeliveryFailedLater
from nanohost.errors import MailboxError
from nanohost.model import SessionId
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.payloads import ChatOut, SystemIn, decode_in, encode
from nanohost_protocol.rows import MessageIn, Origin
from tests.delivery.test_parts import FAKE, LIMIT, LONG, Bench, running

WHY = "more than 24 hours have passed since they last wrote"
DEAD, SENT = DeliveryStatus.DEAD, DeliveryStatus.SENT


def late_fake(text_limit: int | None = None) -> FakeChannel:
    return FakeChannel(capabilities=Capabilities(fails_later=True, text_limit=text_limit))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        yield bench


async def report_late_failure(bench: Bench, id: str, *, key: str | None = None, channel: str = FAKE[0]) -> None:
    key = key or bench.fake.sent[-1].key
    await bench.delivery.record_late_failure((channel, FAKE[1]), key=key, platform_message_id=id, reason=WHY)


async def mailbox_rows(bench: Bench) -> list[MessageIn]:
    """The rows in the agent's mailbox."""
    session = await sessions.get(bench.store, bench.session)
    if not bench.mailboxes.layout(session).inbound_db.exists():
        return []
    # Its file may be in the making.
    with suppress(MailboxError):
        return await bench.mailboxes.read_inbound(
            session, lambda box: list(box.due(bench.clock.now() + timedelta(days=1)))
        )
    return []


@pytest.mark.behaviour("DL-16")
async def test_a_late_failure_is_recorded_and_reported_to_the_agent_without_waking_it(
    bench: Bench,
) -> None:
    await bench.enter("good morning", 1)
    [id] = (await bench.settled(1)).receipt
    for _ in range(2):  # a platform may report it again
        await report_late_failure(bench, id)
    failed = await bench.settled(1, DEAD)
    assert failed.reason == f"failed_later: {WHY}"
    [row] = await mailbox_rows(bench)
    note = decode_in(row.kind, row.content)
    assert isinstance(note, SystemIn)
    assert (row.trigger, note.about) == (False, "o1")
    assert "good morning" in note.text
    assert WHY in note.text


@pytest.mark.behaviour("DL-16")
async def test_a_restart_between_sending_and_a_late_failure_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        await bench.enter("good morning", 1)
        [id] = (await bench.settled(1)).receipt
        key = bench.fake.sent[-1].key
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        await report_late_failure(bench, id, key=key)
        await bench.settled(1, DEAD)
        assert len(await mailbox_rows(bench)) == 1


@pytest.mark.behaviour("DL-16")
async def test_an_agent_not_told_of_a_late_failure_before_a_kill_is_told_at_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        await bench.enter("good morning", 1)
        [id] = (await bench.settled(1)).receipt
        await report_late_failure(bench, id)
        async with bench.store.transaction() as tx:
            await tx.execute("UPDATE late_failures SET notified = 0")
    (await _mailbox(bench)).unlink()
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        assert len(await mailbox_rows(bench)) == 1


async def _mailbox(bench: Bench) -> Path:
    folder = bench.home.sessions
    [found] = await asyncio.to_thread(lambda: list(folder.rglob("inbound.db")))
    return found


@pytest.mark.behaviour("DL-16")
async def test_a_late_failure_reported_before_the_send_returns_counts_too(bench: Bench) -> None:
    bench.fake.hold()
    await bench.enter("good morning", 1)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not bench.fake.attempts:
            await bench.clock.advance(0)
    [key] = bench.fake.attempts
    await report_late_failure(bench, "fake-1", key=key)
    assert (await bench.known(1)).status is DeliveryStatus.SENDING
    bench.fake.release()
    await bench.settled(1, DEAD)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not await mailbox_rows(bench):
            await bench.clock.advance(0)


@pytest.mark.behaviour("DL-16")
async def test_the_late_failure_of_a_duplicate_changes_nothing(bench: Bench) -> None:
    await bench.enter("good morning", 1)
    [id] = (await bench.settled(1)).receipt
    await report_late_failure(bench, "another copy")
    await report_late_failure(bench, id, key="nobody's")
    await report_late_failure(bench, id, channel="another")
    assert (await bench.known(1)).status is SENT
    assert await mailbox_rows(bench) == []


@pytest.mark.behaviour("DL-16")
async def test_a_repeated_report_of_an_old_failure_does_not_fail_a_resent_message(
    bench: Bench,
) -> None:
    await bench.enter("good morning", 1)
    [id] = (await bench.settled(1)).receipt
    await report_late_failure(bench, id)
    failed = await bench.settled(1, DEAD)
    async with bench.store.transaction() as tx:
        assert await deliveries.resend(tx, failed, bench.clock.now())
    bench.store.bus.publish(DeliveryDecided(failed.queue))
    [again] = (await bench.settled(1)).receipt
    await report_late_failure(bench, id)
    assert (await bench.known(1)).status is SENT
    await report_late_failure(bench, again)
    await bench.settled(1, DEAD)
    assert len(await mailbox_rows(bench)) == 2


@pytest.mark.behaviour("DL-16", "DL-06")
async def test_a_late_failure_of_any_part_fails_a_long_message(tmp_path: Path) -> None:
    async with running(tmp_path, late_fake(text_limit=LIMIT), ManualClock()) as bench:
        await bench.enter(LONG, 1)
        first, *others = (await bench.settled(1)).receipt
        assert others
        await report_late_failure(bench, first, key=bench.fake.sent[0].key)
        await bench.settled(1, DEAD)


@pytest.mark.behaviour("DL-16")
async def test_a_late_failure_of_a_host_message_is_recorded_and_emitted_as_an_event(bench: Bench) -> None:
    place = Origin(channel_type=FAKE[0], instance=FAKE[1], platform_id="c1")
    heard: list[int] = []
    bench.store.bus.subscribe(DeliveryFailedLater, lambda event: heard.append(event.delivery.seq))
    async with bench.store.transaction() as tx:
        said = await host_messages.enqueue(tx, place, ChatOut(text="hello"), out_id="h1", now=bench.clock.now())
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while (found := await host_messages.find(bench.store, said.seq)) is None or found.status is not SENT:
            await bench.clock.advance(0)
    await report_late_failure(bench, found.receipt[0])
    failed = await host_messages.find(bench.store, said.seq)
    assert failed is not None
    assert (failed.status, heard) == (DEAD, [said.seq])


@pytest.mark.behaviour("DL-16")
async def test_simultaneous_late_failures_are_each_reported_once(bench: Bench) -> None:
    place = Origin(channel_type=FAKE[0], instance=FAKE[1], platform_id="c1")
    heard: list[int] = []
    bench.store.bus.subscribe(DeliveryFailedLater, lambda event: heard.append(event.delivery.seq))
    async with bench.store.transaction() as tx:
        said = [
            await host_messages.enqueue(tx, place, ChatOut(text="hello"), out_id=f"h{number}", now=bench.clock.now())
            for number in range(5)
        ]
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while (last := await host_messages.find(bench.store, said[-1].seq)) is None or last.status is not SENT:
            await bench.clock.advance(0)
    sent = [(one.key, f"fake-{one.order}") for one in bench.fake.sent]
    await asyncio.gather(*(report_late_failure(bench, id, key=key) for key, id in sent))
    assert sorted(heard) == sorted(one.seq for one in said)


async def add_unreported_failures(bench: Bench, session: SessionId, count: int) -> None:
    """So many messages of a session with unreported late failures."""
    now = bench.clock.now()
    async with bench.store.transaction() as tx:
        for number in range(count):
            dead = deliveries.Delivery(
                queue=DeliveryQueueKey(session, *FAKE, "c1"),
                seq=2 * number + 1,
                out_id=f"o{number}",
                kind="chat",
                thread_id=None,
                reply_to=None,
                content=encode(ChatOut(text="good morning")),
                status=DEAD,
                created_at=now,
            )
            await deliveries.add(tx, dead)
            await late_failures.add_not_accepted(tx, dead, WHY, now)


async def sessions_with_unreported(bench: Bench) -> set[SessionId]:
    rows = await bench.store.fetch_all("SELECT DISTINCT session_id FROM late_failures WHERE notified = 0")
    return {SessionId(row["session_id"]) for row in rows}


@pytest.mark.behaviour("DL-16")
async def test_all_late_failures_unreported_at_a_kill_are_reported_at_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        await add_unreported_failures(bench, bench.session, 2 * late_failures.BATCH_SIZE + 1)
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        assert await sessions_with_unreported(bench) == set()


@pytest.mark.behaviour("DL-16")
async def test_a_damaged_mailbox_does_not_delay_late_failures_of_other_sessions(tmp_path: Path) -> None:
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        refusing, other = sorted([bench.session, await bench.another_session("t2")])
        await add_unreported_failures(bench, refusing, late_failures.BATCH_SIZE + 1)
        await add_unreported_failures(bench, other, 1)
        path = bench.mailboxes.layout(await sessions.get(bench.store, refusing)).inbound_db
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no database at all" * 100)
    async with running(tmp_path, late_fake(), ManualClock()) as bench:
        assert await sessions_with_unreported(bench) == {refusing}


@pytest.mark.behaviour("DL-16", "DL-05")
async def test_a_late_failure_of_a_lost_send_does_not_fail_its_retry(bench: Bench) -> None:
    bench.fake.errors_by_attempt[1] = Ambiguous("the answer was lost")
    await bench.enter("good morning", 1)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not (await bench.known(1)).reason:
            await bench.clock.advance(0)
        [key] = bench.fake.attempts
        await report_late_failure(bench, "lost copy", key=key)
        while (await bench.known(1)).status is not SENT:
            await bench.clock.advance(1)
    assert await mailbox_rows(bench) == []


# --- immediate refusals ---


async def notes(bench: Bench, count: int = 1) -> list[SystemIn]:
    """The notes to the agent, once there are so many."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while len(rows := await mailbox_rows(bench)) < count:
            await bench.clock.advance(0)
    assert not any(row.trigger for row in rows)
    found = [decode_in(row.kind, row.content) for row in rows]
    return [one for one in found if isinstance(one, SystemIn)]


@pytest.mark.behaviour("DL-16", "DL-03")
@pytest.mark.parametrize(
    ("error", "tries", "read_by"), [(Refused(WHY), 1, "Nobody has read it"), (Ambiguous(WHY), 6, "It is not known")]
)
async def test_the_agent_is_told_of_a_failed_message_without_being_woken(
    tmp_path: Path, error: ChannelError, tries: int, read_by: str
) -> None:
    async with running(tmp_path, FakeChannel(), ManualClock()) as bench:
        bench.fake.errors_by_attempt = dict.fromkeys(range(1, tries + 1), error)
        await bench.enter("good morning", 1)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while (await bench.known(1)).status is not DEAD:
                await bench.clock.advance(300)
        [note] = await notes(bench)
        assert note.about == "o1"
        assert f"could not be sent: {WHY}. {read_by}" in note.text
        assert "good morning" in note.text
        assert (await bench.known(1)).reason == f"{error.reason}: {WHY}"
        bench.fake.errors_by_attempt = {}
        await bench.enter("good evening", 3)
        await bench.settled(3)


@pytest.mark.behaviour("DL-16", "DL-06")
async def test_the_agent_is_told_how_much_of_a_partly_sent_message_arrived(tmp_path: Path) -> None:
    fake = FakeChannel(capabilities=Capabilities(text_limit=LIMIT))
    async with running(tmp_path, fake, ManualClock()) as bench:
        fake.errors_by_attempt[3] = Refused(WHY)
        await bench.enter(LONG, 1)
        await bench.settled(1, DEAD)
        [note] = await notes(bench)
        assert "Only the first 2 of its " in note.text


@pytest.mark.behaviour("DL-16", "TK-01")
async def test_the_agent_is_told_of_a_failed_scheduled_message_and_not_of_a_failed_notice(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, FakeChannel(), ManualClock()) as bench:
        bench.fake.should_refuse = True
        for number in (-(2**63) + 4, -(2**63) + 5, -7):
            await bench.enter("good morning", number)
            await bench.settled(number, DEAD)
        [note] = await notes(bench)
        assert note.about == f"o{-(2**63) + 4}"


@pytest.mark.behaviour("DL-16")
async def test_a_message_that_fails_again_after_a_resend_is_reported_again_also_across_a_kill(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, FakeChannel(), ManualClock()) as bench:
        bench.fake.should_refuse = True
        await bench.enter("good morning", 1)
        failed = await bench.settled(1, DEAD)
        await notes(bench)
        async with bench.store.transaction() as tx:
            assert await deliveries.resend(tx, failed, bench.clock.now())
        bench.store.bus.publish(DeliveryDecided(failed.queue))
        await notes(bench, 2)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while await late_failures.list_unnotified(bench.store):
                await bench.clock.advance(0)
        async with bench.store.transaction() as tx:
            await tx.execute("UPDATE late_failures SET notified = 0")
    (await _mailbox(bench)).unlink()
    async with running(tmp_path, FakeChannel(), ManualClock()) as bench:
        assert len(await notes(bench, 2)) == 2
