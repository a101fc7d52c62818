"""Runs what falls due: on time, once, in its session.

Promises: a run is decided in one transaction together with the next time of its task, and written to the session
after that under an id that follows from task and time, so that a kill anywhere leaves one run a time. A session whose
mailbox refuses is tried again and holds up no other. Never: a run that nobody decided on, or a guess at what a clock
that jumped may have meant: the wall clock is read again at least once a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import structlog

from nanohost.clock import Clock
from nanohost.errors import MailboxError, UsageError
from nanohost.event_bus import Subscription
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId, TaskId
from nanohost.store import deliveries, paused, sessions, tasks
from nanohost.store.database import Store, Transaction
from nanohost.store.domain_events import PauseChanged, RunnerStarting, SessionHasWork, TasksChanged
from nanohost.store.tasks import OPEN, NewRun, Run, RunOutcome, Task, TaskKind, TaskStatus
from nanohost.tasks import changes
from nanohost.tasks.entries import message_in, message_out, run_id
from nanohost.tasks.misfire import Plan, Planned, plan
from nanohost.tasks.projection import KEY, NO_TASKS, projected
from nanohost_protocol.crash_points import reach

LONGEST_SLEEP_S = 60.0
"""A clock that is set while we sleep is noticed after this long at the latest."""
SESSION_GONE = "its conversation is gone"
CANCELLED = "the task was cancelled before it began"

_log = structlog.get_logger()


class Tasks:
    """One per host."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._kick = asyncio.Event()
        self._sleeps = False
        self._lanes = Lanes[SessionId]("tasks", self._serve, clock)
        self._told: dict[SessionId, str] = {}
        """What the mailboxes say, so that it is not written again."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Take changes while entered. Runners that outlived the last host are told what changed since; the others are
        when they start (RunnerStarting)."""
        subscriptions = (
            Subscription(TasksChanged, lambda event: self.changed(event.session)),
            Subscription(RunnerStarting, lambda event: self._lanes.poke(event.session)),
            # What fell due in a pause is looked at when it is over.
            Subscription(PauseChanged, lambda _: self._kick.set()),
        )
        with self._store.bus.subscribed(*subscriptions):
            async with self._lanes.opened():
                for session in await sessions.leased(self._store):
                    self._lanes.poke(session.id)
                yield

    def changed(self, session: SessionId) -> None:
        """A task of this session was made or changed."""
        self._lanes.poke(session)
        self._kick.set()

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is looked at, and nothing will be until time has passed or somebody tells of a change."""
        return self._sleeps and not self._kick.is_set() and not self._lanes.busy()

    async def run(self) -> None:
        """For ever: have what is due begin, then sleep until the next time. A service."""
        while True:
            now = self._clock.now()
            for session in await tasks.sessions_due(self._store, now):
                self._lanes.poke(session)
            await self._sleep_until_due(now)

    async def _sleep_until_due(self, looked: datetime) -> None:
        """Until what was not due when we looked: asked of any later time, what falls due meanwhile would be missed."""
        due = await tasks.next_due(self._store, looked)
        until_due_s = LONGEST_SLEEP_S if due is None else (due - self._clock.now()).total_seconds()
        wait_s = max(0.0, min(LONGEST_SLEEP_S, until_due_s))
        self._sleeps = True
        await _first_of(self._clock.sleep(wait_s), self._kick.wait())
        self._sleeps = False
        self._kick.clear()

    async def _serve(self, id: SessionId) -> None:
        session = await sessions.find(self._store, id)
        if session is None:
            await self._cancel_all(id)
            return
        if await paused.find(self._store) is None:  # else it is decided when all goes on, by each task's policy
            for task in await tasks.due_of_session(self._store, id, self._clock.now()):
                await self._decide(task.id)
            await self._write(session)
        await self._project(session)

    # --- decide ---

    async def _decide(self, id: TaskId) -> None:
        """Put on record what is to run now, and when the task is due next, in one transaction: as it is in there, for
        a person or an agent may change it meanwhile."""
        now = self._clock.now()
        async with self._store.transaction() as tx:
            task = await tasks.find(tx, id)
            if task is not None:
                await self._plan(tx, task, now)
        reach("tasks.decided")

    async def _plan(self, tx: Transaction, task: Task, now: datetime) -> None:
        try:
            planned = plan(task, now, running=await tasks.is_running(tx, task)) if _is_due(task, now) else None
        except UsageError as error:
            await changes.pause(tx, task.id, now, reason=str(error))
            _log.error("task_paused", task=task.id, session=task.session_id, reason=str(error))
            return
        await self._record(tx, task, planned, now)

    async def _record(self, tx: Transaction, task: Task, planned: Plan | None, now: datetime) -> None:
        runs: list[Planned] = []
        if task.run_asked is not None:
            await tasks.forget_asked(tx, task.id)
            runs.extend([Planned(due=task.run_asked)] if task.status in OPEN else [])
        if planned is not None:
            missed = planned.runs[0].skipped if planned.runs and planned.next_due is None else None
            if await tasks.advance(tx, task, planned.next_due, now, reason=missed):
                runs.extend(planned.runs)
            _log.info("task_due", task=task.id, session=task.session_id, runs=len(planned.runs))
        for run in runs:
            await self._enter(tx, task, run, now)

    async def _enter(self, tx: Transaction, task: Task, planned: Planned, now: datetime) -> None:
        new = NewRun(
            task_id=task.id,
            session_id=task.session_id,
            due=planned.due,
            message_id=run_id(task.id, planned.due),
            skipped=planned.skipped,
        )
        if not await tasks.add_run(tx, new, now) or planned.skipped or task.kind is not TaskKind.MESSAGE:
            return
        run = await tasks.run_of(tx, task.id, planned.due)
        assert run is not None
        await deliveries.add(tx, message_out(task, run, now))
        await tasks.end_run(tx, run, RunOutcome.COMPLETED, now, error=None)

    async def _cancel_all(self, id: SessionId) -> None:
        now = self._clock.now()
        async with self._store.transaction() as tx:
            for task in await tasks.open_of_session(tx, id):
                await changes.cancel(tx, task.id, now, reason=SESSION_GONE)
            for run in await tasks.open_runs(tx, id):
                await tasks.end_run(tx, run, RunOutcome.SKIPPED, now, error=SESSION_GONE)
        _log.info("tasks_cancelled", session=id, reason=SESSION_GONE)

    # --- write ---

    async def _write(self, session: Session) -> None:
        """Hand the session what was decided, here or by a host that was killed. Raises MailboxError: tried again."""
        runs = await tasks.unstarted(self._store, session.id)
        begin = [(run, task) for run in runs if (task := await self._still_wanted(run)) is not None]
        if not begin:
            return
        await self._mailboxes.put(session, [message_in(task, run) for run, task in begin])
        reach("tasks.written")
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await tasks.start_runs(tx, [run for run, _ in begin], now)
            await sessions.make_due(tx, session.id, at=now, now=now)
            tx.emit(SessionHasWork(session.id))
        reach("tasks.recorded")

    async def _still_wanted(self, run: Run) -> Task | None:
        """The run's task, unless it was cancelled while the mailbox refused."""
        task = await tasks.find(self._store, run.task_id)
        if task is not None and task.status is not TaskStatus.CANCELLED:
            return task
        async with self._store.transaction() as tx:
            await tasks.end_run(tx, run, RunOutcome.SKIPPED, self._clock.now(), error=CANCELLED)
        return None

    async def _project(self, session: Session) -> None:
        """Tell the runner of the session's open tasks."""
        text = projected(await tasks.open_of_session(self._store, session.id))
        if session.id not in self._told:
            self._told[session.id] = await self._told_before(session)
        if self._told[session.id] != text:
            await self._mailboxes.update(session, lambda box: box.set_meta({KEY: text}))
            self._told[session.id] = text

    async def _told_before(self, session: Session) -> str:
        """What the mailbox says: most conversations never have a task, and are not written to for that."""
        with suppress(MailboxError):  # not made yet, or in a state that the next write tells of
            return (await self._mailboxes.inbound(session, lambda box: box.meta())).get(KEY, NO_TASKS)
        return ""


def _is_due(task: Task, now: datetime) -> bool:
    return task.status is TaskStatus.ACTIVE and task.next_due is not None and task.next_due <= now


async def _first_of(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
