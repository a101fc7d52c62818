"""Several callers process the same acks: the worker of a session, whoever reaps its container, whoever adopts it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.containers.ack_processor import AckProcessor
from nanohost.db import turn_failures
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId, Session
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import ErrorClass, TurnError, Usage
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager
from tests.support.interleaving import InterleavedMailboxes

WORDS = "The model is down."


def _taker(
    bench: ContainerManagerHarness, mailboxes: Mailboxes | None = None, *, living: set[LeaseId] | None = None
) -> AckProcessor:
    alive = set() if living is None else living
    return AckProcessor(
        store=bench.store,
        mailboxes=mailboxes or bench.mailboxes,
        clock=ManualClock(START),
        is_alive=lambda session, lease: lease in alive,
        was_stopped=lambda lease: False,
    )


def _runner(bench: ContainerManagerHarness, session: Session) -> OutboundWriter:
    return OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l1"))


async def _fail_turn(bench: ContainerManagerHarness, session: Session, error_class: ErrorClass) -> None:
    """End the turn over the session's message with this error class."""
    row = await bench.mailboxes.read_inbound(session, lambda box: box.find(f"m-{session.group_folder}"))
    assert row is not None
    error = TurnError(error_class=error_class, sentence=WORDS)
    runner = _runner(bench, session)
    runner.claim("t1", [row], START)
    runner.finish(
        TurnEnd(turn_id="t1", messages=(), usage=Usage(tokens_in=7), error=error), highest_seen_seq=0, now=START
    )
    runner.close()


async def _notices(bench: ContainerManagerHarness) -> list[str]:
    return [row["content"] for row in await bench.store.fetch_all("SELECT content FROM deliveries")]


@pytest.mark.behaviour("RU-04")
async def test_processing_acks_with_a_stale_session_counts_no_failure_again(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        before = await bench.add_session("c1")
        await _fail_turn(bench, before, ErrorClass.OVERLOADED)
        for _ in range(2):
            await _taker(bench).process(before.id)
        found = await turn_failures.find(bench.store, before.id)
        assert found is not None
        assert (found.count, await _notices(bench)) == (1, [])


@pytest.mark.behaviour("RU-04")
async def test_a_failure_counts_once_when_another_worker_processes_it_in_between(tmp_path: Path) -> None:
    """A single short failure causes no notice; counted twice it would. The recorded rows decide, and no lock."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        await _fail_turn(bench, session, ErrorClass.OVERLOADED)
        files = InterleavedMailboxes(bench.mailboxes)
        files.after_read = lambda: _taker(bench).process(session.id)
        await _taker(bench, files).process(session.id)
        found = await turn_failures.find(bench.store, session.id)
        assert found is not None
        assert (found.count, await _notices(bench)) == (1, [])


@pytest.mark.behaviour("RU-04")
async def test_a_backoff_shortened_while_acks_are_processed_stays_short(tmp_path: Path) -> None:
    """The clock was set back in between: written as it was read, the pause would last an hour too long."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        await _fail_turn(bench, session, ErrorClass.RATE_LIMITED)
        taker = _taker(bench)
        await taker.process(session.id)
        files = InterleavedMailboxes(bench.mailboxes)
        row = await bench.mailboxes.read_inbound(session, lambda box: box.find("m-c1"))
        assert row is not None
        runner = _runner(bench, session)
        runner.claim("t2", [replace(row, id="m-nobody-knows")], START)
        runner.close()

        async def clock_goes_back() -> None:
            async with bench.store.transaction() as tx:
                await turn_failures.bring_forward(tx, by=timedelta(minutes=1), now=START)

        files.after_update = clock_goes_back
        await _taker(bench, files).process(session.id)
        found = await turn_failures.find(bench.store, session.id)
        assert found is not None
        assert found.held_until == START


async def test_two_ack_workers_of_one_session_run_one_after_the_other(tmp_path: Path) -> None:
    """What one of them caches of a session must not be older than what the other wrote."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session, other = await bench.add_session("c1"), await bench.add_session("c2")
        for one in (session, other):
            await _fail_turn(bench, one, ErrorClass.OVERLOADED)
        files = InterleavedMailboxes(bench.mailboxes)
        taker = _taker(bench, files)
        second: list[asyncio.Task[object]] = []

        async def another_comes() -> None:
            second.append(asyncio.create_task(taker.process(session.id)))
            await taker.process(other.id)  # does not wait for the session

        files.after_read = another_comes
        await taker.process(session.id)
        assert files.read_sessions == [session.id, other.id]
        await asyncio.gather(*second)
        assert files.read_sessions == [session.id, other.id, session.id]


@pytest.mark.behaviour("SE-07")
async def test_a_turn_that_ended_just_before_its_container_stopped_is_not_run_again(tmp_path: Path) -> None:
    """The turn was running at the first read, and its container was gone at the decision: both are true, and it is
    done."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        row = await bench.mailboxes.read_inbound(session, lambda box: box.find("m-c1"))
        assert row is not None
        runner, files, living = _runner(bench, session), InterleavedMailboxes(bench.mailboxes), {LeaseId("l1")}
        runner.claim("t1", [row], START)

        async def ends_and_goes() -> None:
            runner.finish(TurnEnd(turn_id="t1", messages=(), usage=Usage()), highest_seen_seq=0, now=START)
            runner.close()
            living.clear()

        files.after_read = ends_and_goes
        await _taker(bench, files, living=living).process(session.id)
        row = await bench.mailboxes.read_inbound(session, lambda box: box.find("m-c1"))
        assert row is not None
        assert (row.status, row.tries) == ("completed", 0)
