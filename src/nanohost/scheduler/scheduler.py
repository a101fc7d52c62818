"""Runs the tasks that are due: on time, once, in their session.

Promises: a run and the next time of its task are recorded in one transaction; the message is then written to the
session under an id derived from task and time, so that a kill at any point leaves one run per time. A session whose
mailbox cannot be written is retried and delays no other. The wall clock is read at least once a minute.
Never: a run without a recorded plan, or a guess about a clock that jumped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import structlog

from nanohost.clock import Clock
from nanohost.db import deliveries, paused, sessions, tasks
from nanohost.db.database import Store, Transaction
from nanohost.db.domain_events import PauseChanged, RunnerStarting, SessionHasWork, TasksChanged
from nanohost.db.tasks import OPEN_STATUSES, NewRun, RunOutcome, Task, TaskKind, TaskRun, TaskStatus
from nanohost.errors import MailboxError, UsageError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId, TaskId
from nanohost.scheduler import task_operations
from nanohost.scheduler.schedule import PlannedRun, RunPlan, plan_runs
from nanohost.scheduler.task_list_writer import EMPTY_TASKS_JSON, META_KEY, serialize_tasks
from nanohost.scheduler.task_messages import build_delivery, build_prompt_message, run_id
from nanohost.work.event_bus import Subscription
from nanohost.work.keyed_workers import KeyedWorkers
from nanohost_protocol.crash_points import crash_point

MAX_SLEEP_S = 60.0
"""Seconds. A change of the clock during a sleep is noticed after this long at the latest."""
SESSION_GONE = "its conversation is gone"
CANCELLED = "the task was cancelled before it began"

_log = structlog.get_logger()


class Scheduler:
    """Plans and starts runs. One per host."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._wake_event = asyncio.Event()
        self._is_sleeping = False
        self._workers = KeyedWorkers[SessionId]("tasks", self._process, clock)
        self._published: dict[SessionId, str] = {}
        """The published tasks of each mailbox, so that equal ones are not written again."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Handles changes of tasks while entered.

        Publishes the tasks to runners that survived the last host; other runners get them at start (RunnerStarting).
        """
        subscriptions = (
            Subscription(TasksChanged, lambda event: self.notify_changed(event.session)),
            Subscription(RunnerStarting, lambda event: self._workers.notify(event.session)),
            # Tasks that became due during a pause are planned when it ends.
            Subscription(PauseChanged, lambda _: self._wake_event.set()),
        )
        with self._store.bus.subscribed(*subscriptions):
            async with self._workers.opened():
                for session in await sessions.list_leased(self._store):
                    self._workers.notify(session.id)
                yield

    def notify_changed(self, session: SessionId) -> None:
        """Handles that a task of this session was created or changed."""
        self._workers.notify(session)
        self._wake_event.set()

    @property
    def is_idle(self) -> bool:
        """Returns whether there is nothing to do until time passes or a task changes."""
        return self._is_sleeping and not self._wake_event.is_set() and not self._workers.active_count()

    async def run(self) -> None:
        """Starts due tasks, then sleeps until the next due time, for ever. A service."""
        while True:
            now = self._clock.now()
            for session in await tasks.list_due_sessions(self._store, now):
                self._workers.notify(session)
            await self._sleep_until_due(now)

    async def _sleep_until_due(self, checked_at: datetime) -> None:
        """Sleeps until the first task not yet due at `checked_at`; a later time would miss tasks due in between."""
        due = await tasks.next_due(self._store, checked_at)
        until_due_s = MAX_SLEEP_S if due is None else (due - self._clock.now()).total_seconds()
        wait_s = max(0.0, min(MAX_SLEEP_S, until_due_s))
        self._is_sleeping = True
        await _wait_first(self._clock.sleep(wait_s), self._wake_event.wait())
        self._is_sleeping = False
        self._wake_event.clear()

    async def _process(self, id: SessionId) -> None:
        session = await sessions.find(self._store, id)
        if session is None:
            await self._cancel_all(id)
            return
        if await paused.find(self._store) is None:  # else planned after the pause, by each task's misfire policy
            for task in await tasks.list_due_of_session(self._store, id, self._clock.now()):
                await self._plan_task(task.id)
            await self._start_runs(session)
        await self._publish_tasks(session)

    # --- decide ---

    async def _plan_task(self, id: TaskId) -> None:
        """Records the runs of now and the next due time of the task in one transaction.

        Reads the task in that transaction: a person or an agent may have changed it meanwhile.
        """
        now = self._clock.now()
        async with self._store.transaction() as tx:
            task = await tasks.find(tx, id)
            if task is not None:
                await self._plan_in_transaction(tx, task, now)
        crash_point("scheduler.decided")

    async def _plan_in_transaction(self, tx: Transaction, task: Task, now: datetime) -> None:
        try:
            planned = (
                plan_runs(task, now, is_running=await tasks.has_open_run(tx, task)) if _is_due(task, now) else None
            )
        except UsageError as error:
            await task_operations.pause(tx, task.id, now, reason=str(error))
            _log.error("task_paused", task=task.id, session=task.session_id, reason=str(error))
            return
        await self._record_plan(tx, task, planned, now)

    async def _record_plan(self, tx: Transaction, task: Task, run_plan: RunPlan | None, now: datetime) -> None:
        runs: list[PlannedRun] = []
        if task.run_requested_at is not None:
            await tasks.clear_run_request(tx, task.id)
            runs.extend([PlannedRun(due=task.run_requested_at)] if task.status in OPEN_STATUSES else [])
        if run_plan is not None:
            missed = run_plan.runs[0].skip_reason if run_plan.runs and run_plan.next_due is None else None
            if await tasks.advance(tx, task, run_plan.next_due, now, reason=missed):
                runs.extend(run_plan.runs)
            _log.info("task_runs_planned", task=task.id, session=task.session_id, runs=len(run_plan.runs))
        for run in runs:
            await self._record_run(tx, task, run, now)

    async def _record_run(self, tx: Transaction, task: Task, planned_run: PlannedRun, now: datetime) -> None:
        new = NewRun(
            task_id=task.id,
            session_id=task.session_id,
            due=planned_run.due,
            message_id=run_id(task.id, planned_run.due),
            skip_reason=planned_run.skip_reason,
        )
        if not await tasks.add_run(tx, new, now) or planned_run.skip_reason or task.kind is not TaskKind.MESSAGE:
            return
        run = await tasks.find_run(tx, task.id, planned_run.due)
        assert run is not None
        await deliveries.add(tx, build_delivery(task, run, now))
        await tasks.end_run(tx, run, RunOutcome.COMPLETED, now, error=None)

    async def _cancel_all(self, id: SessionId) -> None:
        now = self._clock.now()
        async with self._store.transaction() as tx:
            for task in await tasks.list_open_of_session(tx, id):
                await task_operations.cancel(tx, task.id, now, reason=SESSION_GONE)
            for run in await tasks.list_open_runs(tx, id):
                await tasks.end_run(tx, run, RunOutcome.SKIPPED, now, error=SESSION_GONE)
        _log.info("tasks_cancelled", session=id, reason=SESSION_GONE)

    # --- write ---

    async def _start_runs(self, session: Session) -> None:
        """Writes the messages of planned runs, also those left by a killed host. Raises MailboxError: it is retried."""
        runs = await tasks.list_unstarted_runs(self._store, session.id)
        begin = [(run, task) for run in runs if (task := await self._skip_if_cancelled(run)) is not None]
        if not begin:
            return
        await self._mailboxes.put(session, [build_prompt_message(task, run) for run, task in begin])
        crash_point("scheduler.written")
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await tasks.start_runs(tx, [run for run, _ in begin], now)
            await sessions.make_due(tx, session.id, at=now, now=now)
            tx.emit(SessionHasWork(session.id))
        crash_point("scheduler.recorded")

    async def _skip_if_cancelled(self, run: TaskRun) -> Task | None:
        """Returns the run's task; None if it was cancelled while the mailbox could not be written."""
        task = await tasks.find(self._store, run.task_id)
        if task is not None and task.status is not TaskStatus.CANCELLED:
            return task
        async with self._store.transaction() as tx:
            await tasks.end_run(tx, run, RunOutcome.SKIPPED, self._clock.now(), error=CANCELLED)
        return None

    async def _publish_tasks(self, session: Session) -> None:
        """Writes the session's open tasks for its runner."""
        text = serialize_tasks(await tasks.list_open_of_session(self._store, session.id))
        if session.id not in self._published:
            self._published[session.id] = await self._read_published(session)
        if self._published[session.id] != text:
            await self._mailboxes.update(session, lambda box: box.set_meta({META_KEY: text}))
            self._published[session.id] = text

    async def _read_published(self, session: Session) -> str:
        """Reads the published tasks: most sessions never have one, and need no write."""
        with suppress(MailboxError):  # not created yet, or in a state that the next write reports
            return (await self._mailboxes.read_inbound(session, lambda box: box.meta())).get(META_KEY, EMPTY_TASKS_JSON)
        return ""


def _is_due(task: Task, now: datetime) -> bool:
    return task.status is TaskStatus.ACTIVE and task.next_due is not None and task.next_due <= now


async def _wait_first(*awaitables: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
