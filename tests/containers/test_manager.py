"""The guarantees of the container manager, with fake containers and a manual clock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from nanohost.containers.ack_processor import SessionState
from nanohost.containers.adoption import AdoptionScan, scan_containers
from nanohost.containers.manager import ContainerManager
from nanohost.containers.stuck_monitor import CHECK_INTERVAL_S
from nanohost.db import roles, sessions, users
from nanohost.db.database import Queries, Store
from nanohost.db.domain_events import SessionHasWork
from nanohost.errors import StoreError
from nanohost.model import LeaseId, Role, Session, SessionId
from nanohost.runtimes.runtime_api import Container, Running, RunState, Runtime
from nanohost.testing.fake_runtime import FailingRuntime
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import Origin, Usage
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager
from tests.support.corrupt_files import junk, link
from tests.support.invariants import wait_until


@asynccontextmanager
async def sweeping(bench: ContainerManagerHarness) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.manager.sweep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def has_started(bench: ContainerManagerHarness, count: int) -> bool:
    """Whether so many containers were started, and the manager knows the last one."""
    slots = bench.manager.containers()
    return len(bench.runtime.started_specs) == count and bool(slots) and slots[0].container is not None


def has_died(bench: ContainerManagerHarness, session: SessionId, count: int) -> bool:
    return bench.manager._start_backoff.failure_count(session) == count


@pytest.mark.behaviour("SE-01")
async def test_repeated_wakes_of_a_session_start_one_container(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        for _ in range(20):
            bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        for _ in range(20):
            bench.manager.wake(session.id)
        assert bench.manager.queued() == ()
        assert len(bench.runtime.started_specs) == 1


@pytest.mark.behaviour("SE-05")
async def test_work_that_the_runner_finished_before_it_was_recorded_is_not_waited_for(tmp_path: Path) -> None:
    """A message is in the mailbox before the session is marked as due; a fast runner completes it in between."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        with closing(open_runner(bench, session)) as runner:
            await claim_due(bench, session, runner)
            runner.finish(TurnEnd(turn_id="t", messages=(), usage=Usage()), highest_seen_seq=0, now=bench.clock.now())
            bench.manager.on_outbox_changed(session.id)
            await wait_until(lambda: not bench.manager.containers()[0].is_busy)
            async with bench.store.transaction() as tx:
                await sessions.make_due(tx, session.id, at=bench.clock.now(), now=bench.clock.now())
            bench.manager.wake(session.id)
            await wait_until(lambda: not bench.manager.containers()[0].is_busy)
        assert (await sessions.get(bench.store, session.id)).due_at is None


@pytest.mark.behaviour("SE-07")
async def test_claims_of_another_container_are_freed_while_a_new_one_runs(tmp_path: Path) -> None:
    """A claim of a dead container would be kept while another runs, and its message never answered."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        path = bench.mailboxes.layout(session).outbound_db
        with closing(OutboundWriter(path, container_id="l-gone", durable=False)) as gone:
            await claim_due(bench, session, gone)
        message = await bench.mailboxes.read_inbound(session, lambda box: box.find("m-a"))
        assert message is not None
        assert (message.status, message.tries) == ("pending", 1)
        assert len(bench.runtime.living) == 1


@pytest.mark.behaviour("SE-01")
async def test_a_stopped_container_is_reaped_once_though_two_events_report_it(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(lambda: bool(bench.runtime.living))
        await bench.manager.stop_all()
        assert bench.services.detached_sessions == [session.id]
        assert (await sessions.get(bench.store, session.id)).lease is None


@pytest.mark.behaviour("SE-04")
async def test_a_queued_session_gets_no_slot_from_a_closing_host(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime(), max_containers=1) as bench:
        first, second, third = [await bench.add_session(name) for name in ("a", "b", "c")]
        bench.manager.wake(first.id)
        bench.manager.wake(second.id)
        await wait_until(partial(has_started, bench, 1))
        await bench.manager.stop_all()
        bench.manager.wake(third.id)
        assert bench.manager.containers() == []
        assert [container.session_id for container in bench.runtime.started_specs] == [first.id]


@pytest.mark.behaviour("SE-01")
async def test_a_late_exit_event_does_not_affect_the_next_container(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, sweeping(bench):
        await bench.add_session("a")
        bench.manager._sweep_wakeup.set()
        await wait_until(partial(has_started, bench, 1))
        first = bench.runtime.started_specs[0]
        bench.runtime.exit_container(first)
        await wait_until(partial(has_started, bench, 2))
        bench.manager.on_death(first)
        await wait_until(lambda: not bench.manager._reap_workers.active_count())
        [slot] = bench.manager.containers()
        assert slot.lease == bench.runtime.started_specs[1].lease


@pytest.mark.behaviour("SE-08")
async def test_a_container_that_crashes_repeatedly_is_restarted_with_growing_pauses_and_a_notice(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, sweeping(bench):
        session = await bench.add_session("a")
        bench.manager._sweep_wakeup.set()
        for count, pause_s in enumerate((0, 5, 10, 20), 1):
            await wait_until(partial(has_started, bench, count))
            bench.runtime.exit_container(bench.runtime.living[0])
            await wait_until(partial(has_died, bench, session.id, count))
            await wait_until(lambda: not bench.manager._reap_workers.active_count())
            if pause_s:
                await bench.clock.wait_for_sleeper()
                await bench.clock.advance(pause_s - 0.1)
                assert len(bench.runtime.started_specs) == count
                await bench.clock.wait_for_sleeper()
                await bench.clock.advance(0.2)
        assert len(bench.notified_queues) == 1


@pytest.mark.behaviour("SE-09")
async def test_a_session_woken_while_its_container_is_reaped_waits_for_the_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        take = bench.manager._ack_processor.process

        async def woken(session: SessionId) -> SessionState | None:
            if not bench.manager.containers():
                bench.manager.wake(session)
            return await take(session)

        await wait_until(partial(has_started, bench, 1))
        bench.runtime.exit_container(bench.runtime.living[0])
        await wait_until(lambda: not bench.manager._reap_workers.active_count())
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 2))
        monkeypatch.setattr(bench.manager._ack_processor, "process", woken)
        bench.runtime.exit_container(bench.runtime.living[0])
        await wait_until(lambda: not bench.manager._reap_workers.active_count())
        assert bench.manager.queued() == ()
        assert len(bench.runtime.started_specs) == 2


@pytest.mark.behaviour("SE-04")
async def test_a_session_that_becomes_due_during_a_sweep_does_not_wait_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        soon = bench.clock.now() + timedelta(seconds=1)
        async with bench.store.transaction() as tx:
            await sessions.replace_due(tx, session.id, expected=session.due_at, due=soon)
        look = sessions.list_due

        async def takes_its_time(db: Queries, now: datetime) -> list[Session]:
            found = await look(db, now)
            if bench.clock.now() < soon:
                await bench.clock.advance(2)
            return found

        monkeypatch.setattr(sessions, "list_due", takes_its_time)
        async with sweeping(bench):
            await wait_until(partial(has_started, bench, 1))


@pytest.mark.behaviour("SE-03")
async def test_at_startup_dead_leases_are_freed_survivors_adopted_and_unknown_containers_stopped(
    tmp_path: Path,
) -> None:
    runtime = FakeRuntime()
    async with run_manager(tmp_path, runtime) as bench:
        alive, dead = [await bench.add_session(name) for name in ("alive", "dead")]
        for session in (alive, dead):
            bench.manager.wake(session.id)
        await wait_until(lambda: len(runtime.living) == 2 and all(s.container for s in bench.manager.containers()))
        [kept] = [one for one in runtime.living if one.session_id == alive.id]
    stranger = Container(session_id=alive.id, lease=LeaseId("of another time"), state={})
    runtime.living = [kept, stranger]
    junk(bench.mailboxes.layout(dead))
    async with run_manager(tmp_path, runtime) as bench:
        assert runtime.living == [kept]
        assert [slot.lease for slot in bench.manager.containers()] == [kept.lease]
        assert [session.id for session in await sessions.list_leased(bench.store)] == [alive.id]


@pytest.mark.behaviour("SE-01", "SE-03")
async def test_a_session_with_work_gets_no_second_container_during_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime()
    async with run_manager(tmp_path, runtime) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(
            lambda: bool(bench.manager.containers()) and bench.manager.containers()[0].container is not None
        )

    async def looks_while_work_comes(db: Store, _: Runtime) -> AdoptionScan:
        found = await scan_containers(db, runtime)
        db.bus.publish(SessionHasWork(session.id))
        keeper: ContainerManager = runtime.on_death.__self__  # type: ignore[attr-defined]
        await wait_until(lambda: not keeper._start_workers.active_count())
        return found

    monkeypatch.setattr("nanohost.containers.manager.scan_containers", looks_while_work_comes)
    async with run_manager(tmp_path, runtime) as bench, sweeping(bench):
        await bench.clock.wait_for_sleeper()
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        assert runtime.started_specs == runtime.living
        assert len(runtime.started_specs) == 1


@pytest.mark.behaviour("SE-05")
@pytest.mark.parametrize("may_be_done", [True, False])
async def test_a_wake_reads_the_file_of_a_running_runner_only_if_the_work_may_be_done(
    tmp_path: Path, may_be_done: bool
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(lambda: bool(bench.runtime.living) and not bench.manager._start_workers.active_count())
        await wait_until(lambda: not bench.manager._ack_workers.active_count())
        reads = bench.mailboxes.read_count
        bench.store.bus.publish(SessionHasWork(session.id, may_be_done=may_be_done))
        await wait_until(lambda: not bench.manager._ack_workers.active_count())
        assert (bench.mailboxes.read_count > reads) is may_be_done


class DiesAsItStarts(FakeRuntime):
    """The second container is dead and reaped before its start has finished."""

    async def poll(self, container: Container) -> RunState:
        if len(self.started_specs) == 2 and container in self.living:
            keeper: ContainerManager = self.on_death.__self__  # type: ignore[attr-defined]
            self.exit_container(container)
            await wait_until(lambda: not keeper.containers() and not keeper._reap_workers.active_count())
            return Running()  # as it was at the query
        return await super().poll(container)


@pytest.mark.behaviour("SE-04")
async def test_a_crash_during_startup_causes_a_pause_like_any_other(tmp_path: Path) -> None:
    runtime = DiesAsItStarts()
    async with run_manager(tmp_path, runtime) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        runtime.exit_container(runtime.living[0])
        await wait_until(partial(has_died, bench, session.id, 1))
        await wait_until(lambda: not bench.manager._reap_workers.active_count())
        bench.manager.wake(session.id)
        await wait_until(lambda: len(runtime.started_specs) == 2 and not runtime.living)
        await wait_until(
            lambda: not bench.manager._start_workers.active_count() and not bench.manager._hold_workers.active_count()
        )
        assert has_died(bench, session.id, 2)
        bench.manager.wake(session.id)
        assert len(runtime.started_specs) == 2, "not before its pause is over"
        assert bench.manager.queued() == ()


@pytest.mark.behaviour("SE-03")
async def test_a_container_that_cannot_be_adopted_is_stopped_and_others_are_adopted(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    async with run_manager(tmp_path, runtime) as bench:
        bad, good = [await bench.add_session(name) for name in ("bad", "good")]
        for session in (bad, good):
            bench.manager.wake(session.id)
        await wait_until(lambda: len(runtime.living) == 2 and all(s.container for s in bench.manager.containers()))
    async with run_manager(tmp_path, runtime, refused_session=bad.id) as bench:
        await wait_until(lambda: [slot.session_id for slot in bench.manager.containers()] == [good.id])
        assert [container.session_id for container in runtime.living] == [good.id]
        assert [session.id for session in await sessions.list_leased(bench.store)] == [good.id]


async def test_the_sweep_checks_every_container_for_missed_changes(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, sweeping(bench):
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        bench.changed_sessions.clear()
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while session.id not in bench.changed_sessions:  # the start itself may still wake the sweep
                await bench.clock.wait_for_sleeper()
                await bench.clock.advance(61)


@pytest.mark.behaviour("SE-04")
async def test_no_more_than_the_maximum_of_containers_run_and_others_queue_in_order(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime(), max_containers=1) as bench:
        ids = [(await bench.add_session(name)).id for name in "abc"]
        for id in ids:
            bench.manager.wake(id)
        assert bench.manager.queued() == tuple(ids[1:])
        for count in (1, 2, 3):
            await wait_until(partial(has_started, bench, count))
            assert [one.session_id for one in bench.runtime.started_specs] == ids[:count]
            bench.runtime.exit_container(bench.runtime.living[0])


# --- stuck


def open_runner(bench: ContainerManagerHarness, session: Session) -> OutboundWriter:
    """The runner's half of the session's mailbox, as its latest container opens it."""
    lease = bench.runtime.started_specs[-1].lease
    return OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=lease, durable=False)


async def claim_due(bench: ContainerManagerHarness, session: Session, runner: OutboundWriter) -> None:
    """The runner claims what is due."""
    rows = await bench.mailboxes.read_inbound(session, lambda box: list(box.due(bench.clock.now())))
    runner.claim("t", rows, bench.clock.now())
    bench.manager.on_outbox_changed(session.id)
    await wait_until(lambda: not bench.manager._ack_workers.active_count())


async def pass_looks(bench: ContainerManagerHarness, session: Session, seconds: float, *, beating: bool) -> None:
    """Advance the clock, check by check, with a heartbeat or without."""
    for _ in range(round(seconds / 10)):
        if beating:
            beat(bench, session)
        await bench.clock.advance(10)
        await bench.manager._sweep_once(bench.clock.now())


def beat(bench: ContainerManagerHarness, session: Session) -> None:
    heartbeat = bench.mailboxes.layout(session).heartbeat
    heartbeat.touch()
    os.utime(heartbeat, ns=(0, heartbeat.lstat().st_mtime_ns + 1))


@asynccontextmanager
async def at_work(root: Path) -> AsyncIterator[tuple[ContainerManagerHarness, Session, OutboundWriter]]:
    """A session whose container has a heartbeat and claimed its message."""
    async with run_manager(root, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        with closing(open_runner(bench, session)) as runner:
            await claim_due(bench, session, runner)
            await pass_looks(bench, session, 20, beating=True)
            yield bench, session, runner


@pytest.mark.behaviour("SE-06", "SE-07")
async def test_a_container_without_a_heartbeat_is_stopped_and_its_message_retried_after_a_pause(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path) as (bench, session, _):
        await pass_looks(bench, session, 30, beating=False)
        assert len(bench.runtime.living) == 1
        await pass_looks(bench, session, 10, beating=False)
        await wait_until(lambda: not bench.runtime.living)
        await wait_until(lambda: session.id in bench.manager.failures())
        assert "its heartbeat stopped 40 s ago" in bench.manager.failures()[session.id].reason
        await wait_until(lambda: not bench.manager._reap_workers.active_count())
        message = await bench.mailboxes.read_inbound(session, lambda box: box.find("m-a"))
        assert message is not None
        assert message.tries == 1
        assert message.process_after is not None
        assert message.process_after > bench.clock.now()


@pytest.mark.behaviour("SE-06")
async def test_a_container_with_a_heartbeat_is_stopped_only_when_its_turn_is_silent_for_long(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (bench, session, runner):
        await pass_looks(bench, session, 1700, beating=True)
        runner.set_progress({"state": "turn", "tool": "Bash", "tool_since": "now", "tool_timeout_s": "2000"})
        await pass_looks(bench, session, 2000, beating=True)
        assert len(bench.runtime.living) == 1
        await pass_looks(bench, session, 20, beating=True)
        await wait_until(lambda: not bench.runtime.living)
        await wait_until(lambda: session.id in bench.manager.failures())
        assert "in the tool Bash" in bench.manager.failures()[session.id].reason


HERS = Origin(channel_type="fake", instance="default", platform_id="boss")


async def test_an_unsaved_conversation_is_reported_until_a_turn_is_saved_again(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path) as (bench, session, runner):
        async with bench.store.transaction() as tx:
            await users.record_seen(tx, "fake:boss", name="Boss", now=bench.clock.now())
            await users.save_dm(tx, "fake:boss", HERS, bench.clock.now())
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=bench.clock.now())
        for _ in range(2):
            runner.set_progress({"state": "turn", "not_kept": "what a container says of the time is not asked for"})
            await pass_looks(bench, session, 30, beating=True)
            assert list(bench.manager.unsaved_conversations()) == [session.id]
            assert [lane.platform_id for lane in bench.notified_queues] == [HERS.platform_id], "told once"
        runner.set_progress({"state": "turn"})
        await pass_looks(bench, session, 10, beating=True)
        assert bench.manager.unsaved_conversations() == {}
        assert len(bench.runtime.living) == 1


@pytest.mark.behaviour("SE-06")
async def test_a_container_is_not_stopped_for_records_of_an_earlier_one(tmp_path: Path) -> None:
    """The recorded state may be that of the previous container, whose heartbeat stopped."""
    async with at_work(tmp_path) as (bench, session, _):
        async with bench.store.transaction() as tx:
            await sessions.set_lease(tx, session.id, LeaseId("l-before"), "paper")
        await pass_looks(bench, session, 60, beating=False)
        assert len(bench.runtime.living) == 1


@pytest.mark.behaviour("SE-06")
async def test_a_container_with_a_heartbeat_that_claims_nothing_is_stopped(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        open_runner(bench, session).close()
        await wait_until(lambda: not bench.manager._start_workers.active_count())
        await pass_looks(bench, session, 60, beating=True)
        assert len(bench.runtime.started_specs) == 1
        await pass_looks(bench, session, 20, beating=True)
        await wait_until(lambda: session.id in bench.manager.failures())
        assert "it takes none" in bench.manager.failures()[session.id].reason


@pytest.mark.behaviour("SE-06")
async def test_a_container_is_checked_from_its_start_on(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, sweeping(bench):
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(1)
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until(lambda: min(bench.clock.remaining_sleeps_s(), default=60.0) <= CHECK_INTERVAL_S)


@pytest.mark.behaviour("SE-06")
async def test_a_container_with_an_invalid_outbound_file_is_stopped(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (bench, session, runner):
        runner.close()
        link(bench.mailboxes.layout(session))
        for _ in range(20):
            await pass_looks(bench, session, 10, beating=True)
            if session.id in bench.manager.failures():
                break
        assert "is not a plain file" in bench.manager.failures()[session.id].reason


@pytest.mark.behaviour("SE-08")
async def test_a_crash_is_reported_to_the_operator_with_the_end_of_its_log(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, sweeping(bench):
        session = await bench.add_session("a")
        bench.manager._sweep_wakeup.set()
        await wait_until(partial(has_started, bench, 1))
        log = bench.mailboxes.layout(session).log_dir / "container.log"
        log.write_bytes(b"starting\n2026-01-01T12:00:00Z \x1b[31mno module named x\xff\n\n")
        bench.runtime.exit_container(bench.runtime.living[0])
        await wait_until(partial(has_died, bench, session.id, 1))
        assert bench.manager.failures()[session.id].reason == (
            "its container died; it last wrote: [31mno module named x\N{REPLACEMENT CHARACTER}"
        )


@pytest.mark.behaviour("SE-09")
async def test_a_failed_start_is_reported_with_its_reason_until_progress_is_made(tmp_path: Path) -> None:
    runtime = FailingRuntime(FakeRuntime(), failures=1)
    async with run_manager(tmp_path, runtime) as bench, sweeping(bench):  # type: ignore[arg-type]
        session = await bench.add_session("a")
        bench.manager._sweep_wakeup.set()
        await wait_until(lambda: session.id in bench.manager.failures())
        assert "the engine has no room" in bench.manager.failures()[session.id].reason
        await wait_until(lambda: len(runtime.started) == 1 and bench.manager.containers()[0].container is not None)
        lease = bench.manager.containers()[0].lease
        path = bench.mailboxes.layout(session).outbound_db
        with closing(OutboundWriter(path, container_id=lease, durable=False)) as runner:
            await claim_due(bench, session, runner)
        await wait_until(lambda: not bench.manager.failures())


# --- the database fails


@pytest.mark.behaviour("SE-07", "SE-08")
async def test_a_database_failure_while_reaping_only_delays_the_cleanup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path) as (bench, session, _):
        take, failures = bench.manager._ack_processor.process, [StoreError("the disk is full")]

        async def taking(session: SessionId) -> SessionState | None:
            if failures and not bench.manager.containers():
                raise failures.pop()
            return await take(session)

        monkeypatch.setattr(bench.manager._ack_processor, "process", taking)
        bench.runtime.exit_container(bench.runtime.living[0])
        await wait_until(lambda: not failures)
        await bench.clock.wait_for_sleeper()
        await bench.clock.advance(1)
        await wait_until(partial(has_died, bench, session.id, 1))
        await wait_until(lambda: not bench.manager._reap_workers.active_count())
        message = await bench.mailboxes.read_inbound(session, lambda box: box.find("m-a"))
        assert message is not None
        assert message.tries == 1
