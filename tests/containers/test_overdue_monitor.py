"""Every message gets an answer or an error: each cause of a late message, and who is notified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from nanohost.channel_api import InboundEvent, Sender
from nanohost.containers.overdue_monitor import (
    CHECK_INTERVAL_S,
    PENDING_NOTICE,
    QUARANTINED_NOTICE,
    UNDELIVERED_NOTICE,
    OverdueMonitor,
)
from nanohost.db import deliveries, events, messaging_groups, overdue_messages, routes, sessions, wirings
from nanohost.db.database import Value
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.events import ChatKey
from nanohost.db.overdue_messages import LateMessage
from nanohost.db.routes import Route, RouteOutcome
from nanohost.errors import SpawnError
from nanohost.model import EngageMode, EventId, Session, SessionMode
from nanohost.routing.session_resolver import SessionResolver
from nanohost.runtimes.runtime_api import Container, ContainerSpec
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import ErrorClass, TurnError, Usage
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, make_message, run_manager
from tests.containers.test_manager import claim_due, has_started, open_runner, pass_looks
from tests.support.invariants import wait_until

DEADLINE_S = 900.0
Fault = Callable[[ContainerManagerHarness], Awaitable[None]]


class NoEngine(FakeRuntime):
    async def start(self, spec: ContainerSpec) -> Container:
        raise SpawnError("the engine does not answer")


def overdue_monitor(bench: ContainerManagerHarness) -> OverdueMonitor:
    return OverdueMonitor(
        store=bench.store,
        mailboxes=bench.mailboxes,
        clock=bench.clock,
        containers=bench.manager,
        session_for=SessionResolver(bench.store, bench.clock).find_or_create_session,
        deadline_s=DEADLINE_S,
    )


async def sent_notices(bench: ContainerManagerHarness) -> list[str]:
    rows = await bench.store.fetch_all("SELECT content FROM deliveries WHERE seq < 0 ORDER BY created_at")
    return [json.loads(row["content"])["text"] for row in rows]


async def late_messages_found(bench: ContainerManagerHarness) -> list[LateMessage]:
    return list((await overdue_messages.list_known(bench.store)).values())


async def delivered(bench: ContainerManagerHarness) -> None:
    """Mark the notices as delivered."""
    async with bench.store.transaction() as tx:
        await tx.execute("UPDATE deliveries SET status = 'sent'")


# --- the causes


async def nothing_is_started(bench: ContainerManagerHarness) -> None:
    """A wake without effect, and no sweep."""
    await bench.add_session("a")
    await bench.clock.advance(DEADLINE_S + 1)


async def all_containers_are_taken(bench: ContainerManagerHarness) -> None:
    first = await bench.add_session("first")
    bench.manager.wake(first.id)
    await wait_until(partial(has_started, bench, 1))
    await bench.mailboxes.update(first, lambda box: box.close("m-first", "completed"))
    bench.manager.wake((await bench.add_session("a")).id)
    await bench.clock.advance(DEADLINE_S + 1)


async def its_container_takes_nothing(bench: ContainerManagerHarness) -> None:
    bench.manager.wake((await bench.add_session("a")).id)
    await wait_until(partial(has_started, bench, 1))
    await bench.clock.advance(DEADLINE_S + 1)


async def one_that_is_gone_claims_it(bench: ContainerManagerHarness) -> None:
    """A recorded turn of an earlier container does not count as running."""
    await its_container_takes_nothing(bench)
    await wait_until(
        lambda: not bench.manager._start_workers.active_count() and not bench.manager._ack_workers.active_count()
    )
    [session] = [one async for one in sessions.iter_all(bench.store.reports)]
    rows = await bench.mailboxes.read_inbound(session, lambda box: list(box.due(bench.clock.now())))
    path = bench.mailboxes.layout(session).outbound_db
    with closing(OutboundWriter(path, container_id="l-gone", durable=False)) as gone:
        gone.claim("t", rows, bench.clock.now())


async def its_turn_shows_nothing(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    bench.manager.wake(session.id)
    await wait_until(partial(has_started, bench, 1))
    await wait_until(lambda: not bench.manager._start_workers.active_count())
    with closing(open_runner(bench, session)) as runner:
        await claim_due(bench, session, runner)
    await pass_looks(bench, session, DEADLINE_S + 30, beating=True)


async def its_tries_fail(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await bench.clock.advance(DEADLINE_S)
    soon = bench.clock.now() + timedelta(seconds=40)
    await bench.mailboxes.update(session, lambda box: box.retry("m-a", tries=0, process_after=soon))
    async with bench.store.transaction() as tx:
        await sessions.replace_due(tx, session.id, expected=session.due_at, due=soon)
    await bench.clock.advance(1)


async def its_mailbox_refuses(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await closed(bench, session)
    await event(bench, session, RouteOutcome.WAITING)
    await bench.clock.advance(DEADLINE_S + 1)


async def its_mailbox_is_destroyed(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await event(bench, session, RouteOutcome.WRITTEN)
    bench.mailboxes.layout(session).inbound_db.write_bytes(b"no database")
    await bench.clock.advance(DEADLINE_S + 1)


async def it_is_not_routed(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await closed(bench, session)
    await event(bench, session, None)
    await bench.clock.advance(DEADLINE_S + 1)


async def it_was_set_aside(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await closed(bench, session)
    number = await event(bench, session, None)
    async with bench.store.transaction() as tx:
        await events.quarantine(tx, number, "ValueError: it makes no sense")


async def the_answer_was_refused(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await closed(bench, session)
    await answer(bench, session, DeliveryStatus.DEAD)


async def the_platform_gave_up_on_the_answer_later(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await closed(bench, session)
    await answer(bench, session, DeliveryStatus.DEAD, reason="failed_later: outside of the window")


async def nothing_can_be_written_there(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await closed(bench, session)
    await answer(bench, session, DeliveryStatus.DEAD, reason="chat_closed: outside of the window")


async def the_channel_is_down(bench: ContainerManagerHarness) -> None:
    session = await bench.add_session("a")
    await closed(bench, session)
    await answer(bench, session, DeliveryStatus.PENDING)
    await bench.clock.advance(DEADLINE_S + 1)


async def closed(bench: ContainerManagerHarness, session: Session) -> None:
    """Close the session's own message."""
    await bench.mailboxes.update(session, lambda box: box.close("m-a", "completed"))
    async with bench.store.transaction() as tx:
        await sessions.replace_due(tx, session.id, expected=session.due_at, due=None)


async def event(bench: ContainerManagerHarness, session: Session, outcome: RouteOutcome | None) -> EventId:
    """An event of a wired chat; None: it is not routed yet."""
    chat, now = ChatKey("fake", "default", "a"), bench.clock.now()
    group = await messaging_groups.find(bench.store, channel_type="fake", instance="default", platform_id="a")
    assert group is not None
    written = InboundEvent(
        platform_id="a",
        platform_message_id="p7",
        sender=Sender(handle="u1", name="Ann"),
        text="hi",
        sent_at=now,
    )
    async with bench.store.transaction() as tx:
        wiring = await wirings.add(
            tx,
            messaging_group=group.id,
            agent_group=session.agent_group_id,
            engage_mode=EngageMode.PATTERN,
            engage_pattern=".",
            session_mode=SessionMode.SHARED,
            priority=0,
            now=now,
        )
        await events.add(tx, chat, written, now=now)
    [stored] = await events.list_new(bench.store, chat, limit=1)
    if outcome is not None:
        route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=outcome, session_id=session.id, message_id="x")
        async with bench.store.transaction() as tx:
            await routes.add(tx, route, now=now)
            await events.mark_routed(tx, [stored.id])
    return stored.id


async def answer(
    bench: ContainerManagerHarness,
    session: Session,
    status: DeliveryStatus,
    *,
    not_before: datetime | None = None,
    reason: str = "refused: too long",
) -> None:
    entry = Delivery(
        queue=DeliveryQueueKey(session.id, "fake", "default", "a"),
        seq=1,
        out_id="o1",
        kind="chat",
        thread_id=None,
        reply_to="p1",
        content='{"text":"hello"}',
        status=status,
        created_at=bench.clock.now(),
        reason=reason,
        not_before=not_before,
    )
    async with bench.store.transaction() as tx:
        await deliveries.add(tx, entry)


@pytest.mark.behaviour("RU-04", "SE-06", "SE-07", "SE-09")
@pytest.mark.parametrize(
    ("fault", "cause", "words"),
    [
        (nothing_is_started, "not started", PENDING_NOTICE),
        (all_containers_are_taken, "queued", PENDING_NOTICE),
        (its_container_takes_nothing, "not taken", PENDING_NOTICE),
        (one_that_is_gone_claims_it, "not taken", PENDING_NOTICE),
        (its_turn_shows_nothing, "silent turn", PENDING_NOTICE),
        (its_tries_fail, "failing", PENDING_NOTICE),
        (its_mailbox_refuses, "mailbox", PENDING_NOTICE),
        (its_mailbox_is_destroyed, "mailbox", PENDING_NOTICE),
        (it_is_not_routed, "not routed", PENDING_NOTICE),
        (it_was_set_aside, "set aside", QUARANTINED_NOTICE),
        (the_answer_was_refused, "not sent", UNDELIVERED_NOTICE),
        (the_platform_gave_up_on_the_answer_later, "not sent", None),
        (nothing_can_be_written_there, "not sent", None),
        (the_channel_is_down, "undelivered", None),
    ],
)
async def test_a_late_message_is_notified_once_and_listed_for_the_operator_while_it_lasts(
    tmp_path: Path, fault: Fault, cause: str, words: str | None
) -> None:
    async with run_manager(tmp_path, FakeRuntime(), max_containers=1) as bench:
        await fault(bench)
        for _ in range(3):
            await overdue_monitor(bench).check()
            assert await sent_notices(bench) == [] if words is None else [words]
            [one] = await late_messages_found(bench)
            assert (one.cause, one.platform_id, one.notified) == (cause, "a", words is not None)
            assert one.sentence


@pytest.mark.behaviour("SE-09")
async def test_a_chat_told_that_no_container_starts_is_not_notified_again(tmp_path: Path) -> None:
    async with run_manager(tmp_path, NoEngine()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(lambda: bool(bench.notified_queues))
        await delivered(bench)
        await bench.clock.advance(DEADLINE_S + 1)
        await overdue_monitor(bench).check()
        [one] = await late_messages_found(bench)
        assert (one.cause, one.notified) == ("no container", True)
        assert "engine" in one.sentence
        assert len(await sent_notices(bench)) == 1


# --- what is not late


async def test_a_message_is_not_late_before_its_deadline(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        await bench.add_session("a")
        await bench.clock.advance(DEADLINE_S - 1)
        await overdue_monitor(bench).check()
        assert await late_messages_found(bench) == []


@pytest.mark.behaviour("TK-07")
async def test_a_message_for_later_is_late_only_after_its_time(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        await closed(bench, session)
        at = bench.clock.now() + timedelta(days=1)
        await answer(bench, session, DeliveryStatus.PENDING, not_before=at)
        await bench.clock.advance(86_400 + DEADLINE_S - 1)
        await overdue_monitor(bench).check()
        assert await late_messages_found(bench) == []
        await bench.clock.advance(2)
        await overdue_monitor(bench).check()
        assert [(one.cause, one.since) for one in await late_messages_found(bench)] == [("undelivered", at)]


@pytest.mark.behaviour("SE-06")
async def test_a_turn_that_makes_progress_is_never_late(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        with closing(open_runner(bench, session)) as runner:
            await claim_due(bench, session, runner)
            for step in range(4):
                await pass_looks(bench, session, 600, beating=True)
                runner.set_progress({"state": "turn", "step": str(step)})
            await pass_looks(bench, session, 20, beating=True)
            await overdue_monitor(bench).check()
        assert await late_messages_found(bench) == []


@pytest.mark.behaviour("RU-04")
async def test_a_message_in_a_notified_model_backoff_is_not_late(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        with closing(open_runner(bench, session)) as runner:
            await claim_due(bench, session, runner)
            at = bench.clock.now() + timedelta(seconds=DEADLINE_S + 30)
            limited = TurnError(error_class=ErrorClass.RATE_LIMITED, sentence="Limited.", retry_at=at)
            end = TurnEnd(turn_id="t", messages=(), usage=Usage(), error=limited)
            runner.finish(end, highest_seen_seq=0, now=bench.clock.now())
        bench.manager.on_outbox_changed(session.id)
        await wait_until(lambda: not bench.manager._ack_workers.active_count())
        await delivered(bench)
        await bench.clock.advance(DEADLINE_S + 1)
        await overdue_monitor(bench).check()
        assert await late_messages_found(bench) == []
        assert len(await sent_notices(bench)) == 1


async def test_a_closed_message_is_no_longer_late(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        await nothing_is_started(bench)
        await overdue_monitor(bench).check()
        assert len(await late_messages_found(bench)) == 1
        [session] = [one async for one in sessions.iter_all(bench.store.reports)]
        await closed(bench, session)
        await overdue_monitor(bench).check()
        assert await late_messages_found(bench) == []


async def test_several_late_messages_of_a_chat_cause_one_notice_for_that_chat(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        for id, chat in (("m2", "a"), ("m3", "b")):
            await bench.mailboxes.put(session, [replace(make_message(chat, bench.clock), id=id)])
        await bench.clock.advance(DEADLINE_S + 1)
        await overdue_monitor(bench).check()
        await overdue_monitor(bench).check()
        rows = await bench.store.fetch_all("SELECT platform_id FROM deliveries ORDER BY platform_id")
        assert [row["platform_id"] for row in rows] == ["a", "b"]
        assert len(await late_messages_found(bench)) == 3


async def test_an_unknown_sender_who_may_not_talk_gets_no_late_notice(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        await it_was_set_aside(bench)
        async with bench.store.transaction() as tx:
            await tx.execute("UPDATE messaging_groups SET unknown_sender = 'strict'")
        await overdue_monitor(bench).check()
        [one] = await late_messages_found(bench)
        assert not one.notified
        assert await sent_notices(bench) == []


async def test_the_watchdog_keeps_running_and_does_not_open_idle_sessions(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        await closed(bench, session)
        bench.mailboxes.layout(session).inbound_db.write_bytes(b"would be noticed")
        for sql in (overdue_messages.EVENTS, overdue_messages.DELIVERIES):
            values: dict[str, Value] = {"before": "", "lately": "", "most": 1}
            plan = [row["detail"] for row in await bench.store.fetch_all(f"EXPLAIN QUERY PLAN {sql}", values)]
            scans = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step and "(" not in step]
            assert not scans, plan
        monitor = overdue_monitor(bench)
        watching = asyncio.create_task(monitor.run())
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(DEADLINE_S + CHECK_INTERVAL_S)
        assert await late_messages_found(bench) == []
        watching.cancel()
        await asyncio.wait([watching])
