"""When runs start, and that each starts once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.db import deliveries, sessions, tasks
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.db.tasks import MisfirePolicy, NewRun, RunOutcome, Task, TaskKind, TaskStatus
from nanohost.model import Session
from nanohost.scheduler import task_operations
from nanohost.scheduler.run_results import MAX_FAILURES, ClosedMessage, end_runs
from nanohost.scheduler.schedule import OVERLAP_REASON
from nanohost.scheduler.scheduler import CANCELLED, SESSION_GONE
from nanohost.scheduler.task_messages import display_name, run_id
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.payloads import TaskIn, decode_in
from nanohost_protocol.rows import InKind, Usage
from tests.scheduler.harness import CHAT, SchedulerHarness, run_scheduler
from tests.support.interleaving import InterleavedStore

HOURLY = "0 * * * *"
HOUR_S = 3600.0


@pytest.mark.behaviour("TK-02")
async def test_a_task_is_due_to_the_second(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(in_s=90)
        session = await bench.add_session()
        await bench.wait_until_idle()
        await bench.clock.advance(89)
        await bench.wait_until_idle()
        assert await bench.runs(task) == []
        assert bench.clock.remaining_sleeps_s()[0] == 1
        await bench.clock.advance(1)
        [run] = await bench.wait_for_started(task, 1)
        await bench.wait_until_idle()
        assert run.due == run.started_at == START + timedelta(seconds=90)
        [message] = await bench.messages(session)
        assert (message.id, message.kind, message.origin, message.trigger) == (run.message_id, InKind.TASK, CHAT, True)
        assert decode_in(message.kind, message.content) == TaskIn(prompt="look")
        assert bench.woken_sessions == [session.id]
        assert (await sessions.get(bench.store, session.id)).due_at == bench.clock.now()
        done = await bench.read_task(task)
        assert (done.status, done.next_due) == (TaskStatus.DONE, None)


@pytest.mark.behaviour("TK-02")
async def test_a_new_task_is_noticed_while_the_scheduler_sleeps(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        await bench.wait_until_idle()
        task = await bench.add_task(in_s=0)
        await bench.wait_for_started(task, 1)


@pytest.mark.behaviour("TK-02")
async def test_a_clock_change_is_noticed_within_a_minute(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        await bench.add_task(in_s=86_400)
        await bench.wait_until_idle()
        assert bench.clock.remaining_sleeps_s()[0] == 60


@pytest.mark.behaviour("TK-01")
async def test_the_next_time_is_computed_from_the_scheduled_one(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY)
        await bench.wait_until_idle()
        await bench.clock.advance(HOUR_S + 17)
        [run] = await bench.wait_for_started(task, 1)
        assert run.due == START + timedelta(hours=1)
        assert (await bench.read_task(task)).next_due == START + timedelta(hours=2)


@pytest.mark.behaviour("TK-02")
@pytest.mark.parametrize("written", [False, True])
async def test_a_run_recorded_before_a_crash_is_written_once(tmp_path: Path, written: bool) -> None:
    clock = ManualClock()
    async with run_scheduler(tmp_path, clock) as bench:
        task = await bench.add_task(in_s=3600)
        session = await bench.add_session()
        await bench.wait_until_idle()
    # The state left by a host that is killed between the two files, before or after the second.
    async with run_scheduler(tmp_path, clock) as bench:
        due = task.next_due
        assert due is not None
        new = NewRun(task_id=task.id, session_id=session.id, due=due, message_id=run_id(task.id, due))
        async with bench.store.transaction() as tx:
            await tasks.advance(tx, task, None, clock.now(), None)
            await tasks.add_run(tx, new, clock.now())
        if written:
            bench.scheduler.notify_changed(session.id)
            [run] = await bench.wait_for_started(task, 1)
            async with bench.store.transaction() as tx:
                await tx.execute("UPDATE task_runs SET started_at = NULL")
    async with run_scheduler(tmp_path, clock) as bench:
        [run] = await bench.wait_for_started(task, 1)
        assert [message.id for message in await bench.messages(session)] == [run.message_id]


@pytest.mark.behaviour("TK-03")
@pytest.mark.parametrize(
    ("misfire", "hours"), [(MisfirePolicy.LATEST, [3]), (MisfirePolicy.ALL, [1, 2, 3]), (MisfirePolicy.SKIP, [])]
)
async def test_times_missed_while_the_host_was_down_are_handled_by_policy(
    tmp_path: Path, misfire: MisfirePolicy, hours: Sequence[int]
) -> None:
    clock = ManualClock()
    async with run_scheduler(tmp_path, clock) as bench:
        task = await bench.add_task(cron=HOURLY, misfire=misfire)
        await bench.wait_until_idle()
    await clock.advance(3 * HOUR_S + 1800)
    async with run_scheduler(tmp_path, clock) as bench:
        runs = await bench.wait_for_started(task, len(hours))
        await bench.wait_until_idle()
        assert [run.due for run in runs] == [START + timedelta(hours=hour) for hour in hours]
        assert [message.timestamp for message in await bench.messages(await bench.add_session())] == [
            run.due for run in runs
        ]
        assert (await bench.read_task(task)).next_due == START + timedelta(hours=4)


async def test_a_recurring_task_skips_a_time_while_its_last_run_continues(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY)
        await bench.wait_until_idle()
        await bench.clock.advance(HOUR_S)
        await bench.wait_for_started(task, 1)
        await bench.wait_until_idle()
        await bench.clock.advance(HOUR_S)
        _, second = await bench.wait_for_started(task, 2)
        assert (second.outcome, second.error) == (RunOutcome.SKIPPED, OVERLAP_REASON)
        assert len(await bench.messages(await bench.add_session())) == 1


@pytest.mark.behaviour("TK-02")
async def test_a_damaged_mailbox_is_retried_and_delays_no_other_session(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        broken = bench.mailboxes.layout(await bench.add_session("broken")).root
        broken.parent.mkdir(parents=True)
        broken.write_text("in the way")
        stuck = await bench.add_task("j1", folder="broken", in_s=0)
        fine = await bench.add_task("j2", folder="fine", in_s=0)
        await bench.wait_for_started(fine, 1)
        await bench.wait_for_decided(stuck, 1)
        [run] = await bench.runs(stuck)
        assert run.started_at is None
        broken.unlink()
        await bench.wait_for_settled(stuck, 1)
        assert len(await bench.messages(await bench.add_session("broken"))) == 1


async def test_a_run_waiting_for_its_mailbox_is_dropped_when_its_task_is_cancelled(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        broken = bench.mailboxes.layout(await bench.add_session()).root
        broken.parent.mkdir(parents=True)
        broken.write_text("in the way")
        task = await bench.add_task(cron=HOURLY)
        await bench.clock.advance(HOUR_S)
        await bench.wait_for_decided(task, 1)
        await bench.wait_for_refusal()
        async with bench.store.transaction() as tx:
            await task_operations.cancel(tx, task.id, bench.clock.now())
        broken.unlink()
        [run] = await bench.wait_for_settled(task, 1)
        assert (run.outcome, run.error) == (RunOutcome.SKIPPED, CANCELLED)


async def test_a_deleted_session_cancels_its_tasks(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY)
        session = await bench.add_session()
        await bench.wait_until_idle()
        async with bench.store.transaction() as tx:
            await tx.execute("DELETE FROM sessions WHERE id = ?", (session.id,))
        shutil.rmtree(bench.mailboxes.layout(session).root)
        await bench.clock.advance(HOUR_S)
        await bench.wait_until_idle()
        cancelled = await bench.read_task(task)
        assert (cancelled.status, cancelled.reason) == (TaskStatus.CANCELLED, SESSION_GONE)


@pytest.mark.behaviour("TK-07")
async def test_a_recurring_message_is_enqueued_each_time_without_waking_the_agent(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY, kind=TaskKind.MESSAGE)
        session = await bench.add_session()
        await bench.wait_until_idle()
        for hour in (1, 2):
            await bench.clock.advance(HOUR_S)
            await bench.wait_for_started(task, hour)
            await bench.wait_until_idle()
        entered = await deliveries.latest(bench.store.reports, status=None, session=session.id, limit=10)
        runs = await bench.runs(task)
        by_number = sorted(entered, key=lambda one: one.seq)
        assert [one.out_id for one in by_number] == [run.message_id for run in runs]
        assert by_number[-1].seq < -(2**62)
        assert {(one.queue, one.platform_id, one.thread_id) for one in entered} == {
            (DeliveryQueueKey(session.id, "fake", "default", "c1"), "c1", "t1")
        }
        assert {run.outcome for run in runs} == {RunOutcome.COMPLETED}
        assert display_name(task) == "Drink water."
        assert len(bench.notified_queues) == 2
        assert bench.woken_sessions == []


@pytest.mark.behaviour("TK-05")
async def test_a_task_can_be_run_outside_its_schedule_even_while_paused(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY)
        async with bench.store.transaction() as tx:
            await task_operations.pause(tx, task.id, bench.clock.now())
            assert await tasks.request_run(tx, task.id, bench.clock.now())
            assert not await tasks.request_run(tx, task.id, bench.clock.now())
        bench.scheduler.notify_changed(task.session_id)
        [run] = await bench.wait_for_started(task, 1)
        assert run.due == START
        after = await bench.read_task(task)
        assert (after.status, after.next_due) == (TaskStatus.PAUSED, task.next_due)


async def _end(bench: SchedulerHarness, task: Task, session: Session, *, completed: bool, count: int) -> None:
    """Let the task be due once more and its run end."""
    await bench.clock.advance(HOUR_S)
    run = (await bench.wait_for_started(task, count))[-1]
    await bench.wait_until_idle()
    usage = Usage(tokens_in=10, tokens_out=2, cost_usd=0.25)
    closed = ClosedMessage(
        message_id=run.message_id, of_task=True, is_completed=completed, error="It broke.", usage=usage
    )
    async with bench.store.transaction() as tx:
        await end_runs(tx, session.id, [closed], bench.clock.now())
    await bench.wait_until_idle()


@pytest.mark.behaviour("TK-04", "TK-06")
async def test_a_recurring_task_that_fails_repeatedly_is_paused_with_one_notice(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY)
        session = await bench.add_session()
        await bench.wait_until_idle()
        for number in range(1, MAX_FAILURES + 1):
            assert (await bench.read_task(task)).status is TaskStatus.ACTIVE
            await _end(bench, task, session, completed=False, count=number)
        paused = await bench.read_task(task)
        assert paused.status is TaskStatus.PAUSED
        assert paused.reason is not None
        assert "It broke." in paused.reason
        [notice] = await deliveries.latest(bench.store.reports, status=None, session=session.id, limit=10)
        assert f"nanohost tasks resume {task.id}" in json.loads(notice.content)["text"]
        assert bench.notified_queues == [notice.queue]
        run = (await bench.runs(task))[0]
        assert (run.outcome, run.error, run.ended_at) == (RunOutcome.FAILED, "It broke.", run.started_at)
        assert run.usage == Usage(tokens_in=10, tokens_out=2, cost_usd=0.25)
        meta = await bench.mailboxes.read_inbound(session, lambda box: box.meta())
        assert [one["status"] for one in json.loads(meta["tasks"])] == ["paused"]


@pytest.mark.behaviour("TK-04")
async def test_a_success_resets_the_count_of_failures(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY)
        session = await bench.add_session()
        await bench.wait_until_idle()
        for number, completed in enumerate([False, False, True, False, False], start=1):
            await _end(bench, task, session, completed=completed, count=number)
        after = await bench.read_task(task)
        assert (after.status, after.failures_in_a_row) == (TaskStatus.ACTIVE, 2)


@pytest.mark.behaviour("TK-06")
async def test_a_run_result_reported_twice_is_counted_once(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task(cron=HOURLY)
        session = await bench.add_session()
        await bench.wait_until_idle()
        await _end(bench, task, session, completed=False, count=1)
        [run] = await bench.runs(task)
        async with bench.store.transaction() as tx:
            closed = ClosedMessage(message_id=run.message_id, of_task=True, is_completed=False, error=None, usage=None)
            await end_runs(tx, session.id, [closed], bench.clock.now())
        assert (await bench.read_task(task)).failures_in_a_row == 1
        assert await bench.runs(task) == [run]


@pytest.mark.behaviour("TK-05")
async def test_the_runner_can_read_the_open_tasks_of_its_session(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        task = await bench.add_task("j1", cron=HOURLY)
        gone = await bench.add_task("j2", in_s=60)
        session = await bench.add_session()
        async with bench.store.transaction() as tx:
            await task_operations.cancel(tx, gone.id, bench.clock.now())
            await task_operations.update(tx, task.id, prompt="x" * 500, now=bench.clock.now())
        bench.scheduler.notify_changed(session.id)
        await bench.wait_until_idle()
        meta = await bench.mailboxes.read_inbound(session, lambda box: box.meta())
        assert json.loads(meta["tasks"]) == [
            {
                "id": "j1",
                "prompt": "x" * 200,
                "kind": "agent",
                "next_due": "2026-01-01T13:00:00.000000Z",
                "cron": HOURLY,
                "timezone": "UTC",
                "status": "active",
            }
        ]


async def test_finished_tasks_cost_no_query_time(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path, ManualClock()) as bench:
        for sql in (tasks.OPEN_OF_SESSION, tasks.DUE_OF_SESSION, tasks.SESSIONS_DUE, tasks.NEXT_DUE):
            values = dict.fromkeys(("session", "now"), "") if ":" in sql else ("",)
            plan = [row["detail"] for row in await bench.store.fetch_all(f"EXPLAIN QUERY PLAN {sql}", values)]
            looks = [step for step in plan if re.match(r"(SCAN|SEARCH) \w+", step) and "(subquery" not in step]
            assert looks
            assert all(
                re.search(r"INDEX (tasks|task_runs)_(open|due|run_requested|unstarted)\b", step) for step in looks
            ), plan


@pytest.mark.behaviour("TK-06")
async def test_a_task_changed_during_the_decision_runs_as_changed(tmp_path: Path) -> None:
    """Cancelled or with another text: what was read before is outdated."""
    watched: list[InterleavedStore] = []

    def watch(store: Store) -> Store:
        watched.append(InterleavedStore(store))
        return watched[0]

    async with run_scheduler(tmp_path, ManualClock(), watched=watch) as bench:
        task = await bench.add_task(in_s=60, kind=TaskKind.MESSAGE)
        await bench.wait_until_idle()

        async def is_cancelled() -> None:
            async with bench.store.transaction() as tx:
                await task_operations.cancel(tx, task.id, bench.clock.now())

        async with bench.store.transaction() as tx:
            await tasks.request_run(tx, task.id, bench.clock.now())
        watched[0].before_write = is_cancelled
        bench.scheduler.notify_changed(task.session_id)
        await bench.wait_until_idle()
        assert (await bench.read_task(task)).run_requested_at is None, "it was decided on"
        assert (bench.notified_queues, await bench.runs(task)) == ([], [])
