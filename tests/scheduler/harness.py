"""The scheduler with a real database and real mailboxes; woken and notified sessions are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from nanohost.config.home import Home
from nanohost.db import agent_groups, sessions, tasks
from nanohost.db.database import Store
from nanohost.db.deliveries import DeliveryQueueKey
from nanohost.db.domain_events import QueueHasWork, SessionHasWork
from nanohost.db.tasks import MisfirePolicy, Task, TaskKind, TaskRun
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId, TaskId
from nanohost.scheduler import task_operations
from nanohost.scheduler.scheduler import Scheduler
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import MessageIn, Origin
from tests.support.recorded_events import record_events
from tests.support.template_home import opened_store

CHAT = Origin(channel_type="fake", instance="default", platform_id="c1", thread_id="t1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerHarness:
    store: Store
    mailboxes: Mailboxes
    clock: ManualClock
    scheduler: Scheduler
    woken_sessions: list[SessionId] = field(default_factory=list)
    notified_queues: list[DeliveryQueueKey] = field(default_factory=list)

    async def add_session(self, folder: str = "main") -> Session:
        async with self.store.transaction() as tx:
            group = await agent_groups.find(tx, folder) or await agent_groups.add(
                tx, folder=folder, name=folder, provider=None, model=None, now=self.clock.now()
            )
            found = await sessions.find_by_key(tx, agent_group=group.id, messaging_group=None, thread_id=None)
            if found is not None:
                return found
            id = await sessions.add(
                tx, agent_group=group.id, messaging_group=None, thread_id=None, now=self.clock.now()
            )
            return await sessions.get(tx, id)

    async def add_task(
        self,
        id: str = "j1",
        *,
        folder: str = "main",
        in_s: float | None = None,
        cron: str | None = None,
        misfire: MisfirePolicy = MisfirePolicy.LATEST,
        kind: TaskKind = TaskKind.AGENT,
    ) -> Task:
        """Create a task, and notify the scheduler."""
        session = await self.add_session(folder)
        due = None if in_s is None else self.clock.now() + timedelta(seconds=in_s)
        async with self.store.transaction() as tx:
            task = await task_operations.create(
                tx,
                id=TaskId(id),
                session=session.id,
                kind=kind,
                content="look" if kind is TaskKind.AGENT else encode(ChatOut(text="Drink water.")),
                out_kind=None if kind is TaskKind.AGENT else "chat",
                due=due,
                cron=cron,
                timezone="UTC",
                origin=CHAT,
                misfire=misfire,
                created_by="test",
                now=self.clock.now(),
            )
        self.scheduler.notify_changed(session.id)
        return task

    async def runs(self, task: Task) -> list[TaskRun]:
        """The runs of a task, in the order of their due times."""
        return list(reversed(await tasks.list_runs(self.store, task.id, limit=100)))

    async def read_task(self, task: Task) -> Task:
        found = await tasks.find(self.store, task.id)
        assert found is not None
        return found

    async def messages(self, session: Session) -> list[MessageIn]:
        return await self.mailboxes.update(session, lambda box: list(box.pending()))

    async def wait_for_started(self, task: Task, count: int) -> list[TaskRun]:
        """Wait until so many runs are recorded as started or ended."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while True:
                runs = await self.runs(task)
                if sum(1 for run in runs if run.started_at or run.ended_at) >= count:
                    return runs
                await asyncio.sleep(0.005)

    async def wait_for_settled(self, task: Task, count: int) -> list[TaskRun]:
        """The same, while the clock advances: a retry is needed."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while True:
                await self.clock.advance(10)
                runs = await self.runs(task)
                if sum(1 for run in runs if run.started_at or run.ended_at) >= count:
                    return runs

    async def wait_for_decided(self, task: Task, count: int) -> None:
        """Wait, while the clock advances, until so many runs are decided."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while len(await self.runs(task)) < count:
                await self.clock.advance(10)

    async def wait_for_refusal(self) -> None:
        """Wait, with the clock standing still, until the last attempt failed and both it and the scheduler sleep."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while len(self.clock.remaining_sleeps_s()) < 2:  # noqa: ASYNC110 - nobody announces a pause
                await asyncio.sleep(0.005)

    async def wait_until_idle(self) -> None:
        """Wait until no worker is active and the scheduler sleeps."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while not (self.scheduler.is_idle and self.clock.remaining_sleeps_s()):  # noqa: ASYNC110 - nobody announces rest
                await asyncio.sleep(0.005)


@asynccontextmanager
async def run_scheduler(
    root: Path, clock: ManualClock, *, watched: Callable[[Store], Store] = lambda store: store
) -> AsyncIterator[SchedulerHarness]:
    """A running scheduler; opening the same root again simulates a restart. `watched` wraps the scheduler's store."""
    home = Home(root)
    mailboxes = Mailboxes(home.sessions, durable=False)
    async with opened_store(home, durable=False) as store, mailboxes.opened():
        woken = record_events(store.bus, SessionHasWork, lambda event: event.session)
        lanes = record_events(store.bus, QueueHasWork, lambda event: event.queue)
        engine = Scheduler(store=watched(store), mailboxes=mailboxes, clock=clock)
        async with engine.opened():
            service = asyncio.create_task(engine.run())
            try:
                yield SchedulerHarness(
                    store=store,
                    mailboxes=mailboxes,
                    clock=clock,
                    scheduler=engine,
                    woken_sessions=woken,
                    notified_queues=lanes,
                )
            finally:
                service.cancel()
                await asyncio.wait([service])
