"""A runner that acks more messages than it was given is throttled; one that works is not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nanohost.containers.ack_processor import ACKS_PER_HOUR, MAX_ALLOWANCE, OVER_BUDGET_REASON, AckBudget
from nanohost.db import sessions
from nanohost.model import LeaseId, Session
from nanohost.work.throttle import BURST_SHARE, MAX_PAUSE_S
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import Usage
from nanohost_protocol.times import to_text
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, make_message, run_manager
from tests.containers.test_hold_service import has_an_owner, notices, wait_until_idle
from tests.containers.test_manager import has_started
from tests.support.invariants import wait_until

AT_ONCE = int(ACKS_PER_HOUR * BURST_SHARE)


async def session_with_container(bench: ContainerManagerHarness) -> Session:
    """A session with a running container and an outbound.db."""
    session = await bench.add_session("a")
    OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l"), durable=False).close()
    bench.manager.wake(session.id)
    await wait_until(partial(has_started, bench, 1))
    await wait_until_idle(bench)
    return session


def acks(
    bench: ContainerManagerHarness, session: Session, ids: Sequence[str], *, status: str = "completed", owner: str = "l"
) -> None:
    """Write acks as a container could: of any messages, without the runner's code."""
    with closing(sqlite3.connect(bench.mailboxes.layout(session).outbound_db)) as outbound, outbound:
        (change,) = outbound.execute("SELECT ifnull(max(change), 0) FROM processing_ack").fetchone()
        outbound.executemany(
            "INSERT OR REPLACE INTO processing_ack"
            " (message_id, change, status, container_id, turn_id, tries, changed_at) VALUES (?, ?, ?, ?, ?, 0, ?)",
            [
                (id, change + number, status, owner, f"t{change + number}", to_text(bench.clock.now()))
                for number, id in enumerate(ids, start=1)
            ],
        )


async def process_acks(bench: ContainerManagerHarness, session: Session, times: int) -> None:
    for _ in range(times):
        if bench.manager.throttled():
            return
        bench.manager.on_outbox_changed(session.id)
        await wait_until(lambda: not bench.manager._ack_workers.active_count() or bool(bench.manager.throttled()))


async def cursor(bench: ContainerManagerHarness, session: Session) -> int:
    return (await sessions.get(bench.store, session.id)).ack_cursor


@pytest.mark.behaviour("SE-06")
async def test_acks_of_unknown_messages_are_processed_ever_more_slowly_and_the_owner_is_notified(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        await has_an_owner(bench)
        session = await session_with_container(bench)
        acks(bench, session, [f"made-up-{number}" for number in range(5_000)])
        await process_acks(bench, session, 30)
        assert bench.manager.throttled() == {session.id: OVER_BUDGET_REASON}
        assert AT_ONCE <= await cursor(bench, session) < AT_ONCE + 400
        before = bench.mailboxes.read_count
        for _ in range(20):
            await bench.clock.wait_for_sleeper()
            await bench.clock.advance(MAX_PAUSE_S / 2)
            bench.manager.on_outbox_changed(session.id)
            await asyncio.sleep(0.02)  # another process does the read
        assert bench.mailboxes.read_count - before <= 10, "in ten minutes"
        (words,) = [text for chat, text in await notices(bench) if chat == "d"]
        assert words.startswith(
            f"The agent a writes too much in session {session.id}: {OVER_BUDGET_REASON}. It is slowed down"
        )


@pytest.mark.behaviour("SE-06")
async def test_acks_of_closed_messages_cost_as_much_as_acks_of_unknown_ones(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await session_with_container(bench)
        given = [replace(make_message("a", bench.clock), id=f"m{number}") for number in range(150)]
        await bench.mailboxes.put(session, given)
        for _ in range(15):
            acks(bench, session, [one.id for one in given])
            await process_acks(bench, session, 1)
        assert bench.manager.throttled() == {session.id: OVER_BUDGET_REASON}


@pytest.mark.behaviour("SE-06")
async def test_claims_of_stopped_containers_are_processed_within_the_budget(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await session_with_container(bench)
        given = [replace(make_message("a", bench.clock), id=f"m{number}") for number in range(300)]
        await bench.mailboxes.put(session, given)
        acks(bench, session, [one.id for one in given], status="processing", owner="gone")
        await process_acks(bench, session, 20)
        assert bench.manager.throttled() == {session.id: OVER_BUDGET_REASON}


async def test_a_runner_that_works_through_its_messages_is_not_throttled(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await session_with_container(bench)
        writer = OutboundWriter(
            bench.mailboxes.layout(session).outbound_db,
            container_id=bench.runtime.started_specs[0].lease,
            durable=False,
        )
        with closing(writer) as runner:
            for batch in range(20):
                given = [replace(make_message("a", bench.clock), id=f"m{batch}-{number}") for number in range(100)]
                await bench.mailboxes.put(session, given)
                rows = await bench.mailboxes.read_inbound(session, lambda box: list(box.due(bench.clock.now())))
                runner.claim(f"t{batch}", rows, bench.clock.now())
                await process_acks(bench, session, 1)
                end = TurnEnd(turn_id=f"t{batch}", messages=(), usage=Usage(tokens_in=1))
                runner.finish(end, highest_seen_seq=0, now=bench.clock.now())
                await process_acks(bench, session, 2)
        assert bench.manager.throttled() == {}
        assert await bench.mailboxes.read_inbound(session, lambda box: list(box.due(bench.clock.now()))) == []
        assert await cursor(bench, session) > 2 * AT_ONCE


def test_an_ack_budget_refills_with_time_and_with_messages_written_to_the_runner() -> None:
    budget = AckBudget(0.0)
    assert budget.can_process(0.0)
    budget.charge(AT_ONCE + 100)
    assert not budget.can_process(0.0)
    assert not budget.can_process(50.0)
    assert budget.can_process(51.0), "two a second"
    budget.charge(AT_ONCE)
    budget.add_allowance(1)
    assert budget.can_process(51.0)
    budget.charge(2)
    assert not budget.can_process(51.0)


def test_the_allowance_for_unacked_messages_is_limited() -> None:
    budget = AckBudget(0.0)
    budget.add_allowance(10 * MAX_ALLOWANCE)
    budget.charge(MAX_ALLOWANCE + AT_ONCE)
    assert not budget.can_process(0.0)


def test_a_session_without_further_acks_is_no_longer_throttled() -> None:
    budget = AckBudget(0.0)
    budget.charge(2 * AT_ONCE)
    assert not budget.can_process(0.0)
    assert [budget.next_pause_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (budget.is_throttled, budget.reason) == (True, OVER_BUDGET_REASON)
    budget.charge(0)
    assert not budget.is_throttled
