"""Wakes, idles and stops containers.

Promises: a session has at most one container, because its lease is in the database before the container is started;
whatever is due gets one, in order of arrival, as far as `max_containers` goes; a container that dies takes nothing
with it: its claims become due again. One that is stuck is stopped, which counts as a death. Living containers outlast
the host and are adopted at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from nanohost.clock import Clock
from nanohost.errors import MailboxError, NanohostError
from nanohost.keeper.acks import AckTaker
from nanohost.keeper.health import Health
from nanohost.keeper.pauses import Pauses, Trouble
from nanohost.keeper.sentences import CRASHES, no_container
from nanohost.keeper.slots import Slot, Slots, SlotState
from nanohost.keeper.stuck import Limits, Stuck
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.news import OutboxNews
from nanohost.model import LeaseId, Session, SessionId
from nanohost.runtimes.folders import last_words
from nanohost.runtimes.port import Container, ContainerSpec, Exited, Runtime
from nanohost.store import sessions
from nanohost.store.database import Store
from nanohost.store.deliveries import LaneKey
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import draw

STOP_GRACE_S = 8.0
"""The runner gives its turn back within a second of SIGTERM; the rest is for a slow disk."""
TOLD_AFTER_DEATHS = 2
"""In a row, and before anything was taken over: the person who waits is told."""
LAST_LINES = 5
"""Of a dead container's output, for the host's log."""

_log = structlog.get_logger()


class SessionServices(Protocol):
    """What a session's container needs around it while it lives."""

    async def prepare(self, session: Session, lease: LeaseId) -> ContainerSpec:
        """Bring the mailbox up to date and say how to start. Raises NanohostError."""
        ...

    async def attach(self, session: Session) -> None:
        """Open what the container may talk to. Doing it again changes nothing."""
        ...

    async def detach(self, session: SessionId) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """Counts and seconds, from [host]."""

    max_containers: int
    idle_timeout_s: float
    sweep_interval_s: float
    limits: Limits


class Keeper:
    """One per host. `on_news` is called when a session's outbound.db may hold something to deliver."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        runtime: Runtime,
        news: OutboxNews,
        services: SessionServices,
        clock: Clock,
        settings: KeeperSettings,
        on_news: Callable[[SessionId], None],
        on_notice: Callable[[LaneKey], None],
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._runtime = runtime
        self._news = news
        self._services = services
        self._clock = clock
        self._settings = settings
        self._on_news = on_news
        self._slots = Slots(settings.max_containers)
        self._ended: set[LeaseId] = set()
        self._pauses = Pauses()
        self._health = Health(mailboxes, clock, settings.limits)
        self._looked = clock.monotonic()
        self._kick = asyncio.Event()
        self._moved = asyncio.Event()
        """A container came up or went: one that is starting can be stopped, one that was stopped is buried."""
        self._closing = False
        self._starts = Lanes[SessionId]("start", self._start, clock)
        self._stops = Lanes[SessionId]("stop", self._stop, clock)
        self._acks = Lanes[SessionId]("acks", self._take_acks, clock)
        self._deaths = Lanes[tuple[SessionId, LeaseId]]("death", self._bury, clock)
        self._taker = AckTaker(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            alive=self._is_alive,
            ended_by_us=self._ended.__contains__,
            on_notice=on_notice,
        )

    # --- life ---

    @asynccontextmanager
    async def opened(self, *, keep_containers: bool) -> AsyncIterator[None]:
        """Adopt what lives, tidy what does not, then serve. Leaving starts nothing new.

        `keep_containers`: leave them running for the next host, or stop them.
        """
        async with self._acks.opened(), self._deaths.opened(), self._stops.opened(), self._starts.opened():
            await self._adopt()
            try:
                yield
            finally:
                if not keep_containers:
                    await self.stop_all()

    def on_death(self, container: Container) -> None:
        """A container is gone, whoever ended it."""
        self._deaths.poke((container.session_id, container.lease))

    def on_change(self, session: SessionId) -> None:
        """A session's outbound.db changed."""
        if slot := self._slots.get(session):
            slot.touched = self._clock.monotonic()
        self._acks.poke(session)

    def wake(self, session: SessionId) -> None:
        """The session has work: a running runner notices by itself, else a container is started when there is room."""
        slot = self._slots.get(session)
        if slot is not None:
            slot.touched, slot.busy = self._clock.monotonic(), True
            if slot.state is not SlotState.STOPPING:
                return
        elif not self._pauses.over(session, self._clock.monotonic()):
            return  # the sweep wakes it when its pause is over
        self._slots.wait(session)
        self._pump()

    async def sweep(self) -> None:
        """For ever: wake what is due, stop what is idle. Sleeps until the next thing is due, or the sweep interval."""
        while True:
            await self._sweep_once()
            await self._sleep_until_due()

    async def stop_all(self) -> None:
        """Start nothing more, stop every container of ours and wait until they are gone."""
        self._closing = True
        while len(self._slots):
            self._moved.clear()
            await asyncio.gather(*(self._stop(slot.session_id) for slot in self._slots))
            if len(self._slots):
                await self._moved.wait()

    def containers(self) -> list[Slot]:
        return list(self._slots)

    def waiting(self) -> tuple[SessionId, ...]:
        return self._slots.waiting()

    def troubles(self) -> dict[SessionId, Trouble]:
        """The sessions whose containers fail, and why."""
        return self._pauses.troubles()

    # --- start and stop ---

    def _pump(self) -> None:
        if self._closing:
            return
        while (session := self._slots.next()) is not None:
            now = self._clock.monotonic()
            slot = Slot(session_id=session, lease=LeaseId(draw("l")), state=SlotState.STARTING, touched=now, since=now)
            self._slots.add(slot)
            self._starts.poke(session)
        if (idle := self._slots.to_evict()) is not None:
            _log.info("container_evicted", session=idle.session_id, waiting=len(self._slots.waiting()))
            idle.state = SlotState.STOPPING
            self._stops.poke(idle.session_id)

    async def _start(self, id: SessionId) -> None:
        slot = self._slots.get(id)
        if slot is None or slot.state is not SlotState.STARTING or slot.container is not None:
            return
        try:
            await self._start_now(slot)
        except Exception as error:
            await self._give_up_start(slot, error)
        else:
            self._acks.poke(id)
            self._on_news(id)

    async def _start_now(self, slot: Slot) -> None:
        session = await sessions.get(self._store, slot.session_id)
        async with self._store.transaction() as tx:
            await sessions.lease(tx, session.id, slot.lease, self._runtime.name)
        reach("keeper.leased")
        spec = await self._services.prepare(session, slot.lease)
        await self._services.attach(session)
        self._news.watch(session.id, self._mailboxes.layout(session))
        container = await self._runtime.start(spec)
        reach("keeper.started")
        slot.container = container
        self._moved.set()
        if slot.state is SlotState.STARTING:
            slot.state = SlotState.RUNNING
        async with self._store.transaction() as tx:
            await sessions.set_runtime_state(tx, session.id, slot.lease, container.state)
        _log.info("container_started", session=session.id, group=session.group_folder, lease=slot.lease)
        if isinstance(await self._runtime.poll(container), Exited):
            self.on_death(container)  # news of a death before we knew the container went nowhere

    async def _give_up_start(self, slot: Slot, error: Exception) -> None:
        expected = isinstance(error, NanohostError)
        _log.error(
            "container_not_started",
            session=slot.session_id,
            error=str(error) or type(error).__name__,
            hint=error.hint if isinstance(error, NanohostError) else "",
            exc_info=None if expected else error,
        )
        if slot.container is not None:
            await self._runtime.stop(slot.container, grace_s=STOP_GRACE_S)  # what failed came after the start
        await self._clear(slot.session_id, slot.lease)
        reason = f"no container: {str(error) or type(error).__name__}"
        in_a_row = self._pauses.failed(slot.session_id, self._clock.monotonic(), reason)
        self._kick.set()
        if in_a_row == 1:
            await self._tell_waiting(slot.session_id, no_container(error))

    async def _stop(self, id: SessionId) -> None:
        slot = self._slots.get(id)
        if slot is None or slot.container is None:
            return
        slot.state = SlotState.STOPPING
        if not slot.fault:
            self._ended.add(slot.lease)
        await self._runtime.stop(slot.container, grace_s=STOP_GRACE_S)
        self.on_death(slot.container)  # buried by the one worker that buries it, however many heard of it

    async def _bury(self, key: tuple[SessionId, LeaseId]) -> None:
        """A container is gone: free its place, take over its last words, see whether there is work left."""
        id, lease = key
        slot = self._slots.get(id)
        if slot is None or slot.lease != lease:
            return
        if slot.state is SlotState.STARTING and slot.container is None:
            return  # the start is still under way and will find out by itself
        orderly = lease in self._ended
        cause = "" if orderly else await self._cause(slot)
        reach("keeper.burying")
        await self._clear(id, lease)
        reach("keeper.buried")
        _log.info("container_gone", session=id, lease=lease, ordered=orderly)
        await self._after_death(id, cause=cause)
        self._ended.discard(lease)

    async def _clear(self, id: SessionId, lease: LeaseId) -> None:
        self._news.forget(id)
        await self._services.detach(id)
        async with self._store.transaction() as tx:
            await sessions.release(tx, id, lease)
        self._slots.remove(id)
        self._moved.set()

    async def _cause(self, slot: Slot) -> str:
        """Why a container is gone that should not be: what it was stopped for or that it died, and its last words."""
        session = await sessions.get(self._store, slot.session_id)
        said = await asyncio.to_thread(last_words, self._mailboxes.layout(session).root, lines=LAST_LINES)
        cause = slot.fault or "its container died"
        _log.error("container_died", session=slot.session_id, group=session.group_folder, cause=cause, last_words=said)
        return f"{cause}; it last wrote: {said[-1]}" if said else cause

    async def _after_death(self, id: SessionId, *, cause: str) -> None:
        """`cause`: why it counts as a failure; empty for an end in order."""
        self._on_news(id)
        try:
            await self._take_last_words(await sessions.get(self._store, id))
        except MailboxError as error:
            _log.error("last_words_unreadable", session=id, error=str(error), hint=error.hint)
        if cause and self._pauses.failed(id, self._clock.monotonic(), cause) == TOLD_AFTER_DEATHS:
            await self._tell_waiting(id, CRASHES)
        self._kick.set()
        self._pump()

    async def _take_last_words(self, session: Session) -> None:
        standing = await self._taker.take(session)
        if standing is None and await self._mailboxes.needs_rollback(session):
            # Only a runner may open outbound.db for writing, and what it committed cannot be read before that.
            now = self._clock.now()
            async with self._store.transaction() as tx:
                await sessions.make_due(tx, session.id, at=now, now=now)

    async def _tell_waiting(self, id: SessionId, sentence: str) -> None:
        try:
            await self._taker.tell_waiting(await sessions.get(self._store, id), sentence)
        except MailboxError as error:
            _log.error("nobody_told", session=id, error=str(error), hint=error.hint)

    # --- taking over ---

    async def _take_acks(self, id: SessionId) -> None:
        before = await sessions.get(self._store, id)
        standing = await self._taker.take(before)
        if standing is None:
            return
        after = await sessions.get(self._store, id)  # a message may have come meanwhile, and with it its wake
        progress = after.ack_cursor > before.ack_cursor
        if (slot := self._slots.get(id)) is not None:
            slot.busy = standing.open_claims > 0 or _is_due(after.due_at, self._clock.now())
            if progress:
                self._pauses.forget(id)
        if progress or standing.due_at != before.due_at:
            self._kick.set()

    def _is_alive(self, session: Session, lease: LeaseId) -> bool:
        slot = self._slots.get(session.id)
        return slot is not None and slot.lease == lease

    async def _adopt(self) -> None:
        """Find our children: what lives and is on record goes on, the rest is ended or its claims are freed."""
        living = {(c.session_id, c.lease): c for c in await self._runtime.adopt()}
        for session in await sessions.leased(self._store):
            assert session.lease is not None
            container = living.pop((session.id, session.lease), None)
            if container is not None and session.runtime == self._runtime.name:
                await self._adopt_or_stop(session, container)
            else:
                await self._free(session, session.lease)
        for session in await sessions.every(self._store):
            self._on_news(session.id)  # the last host may have been killed between a container's end and its last words
        for container in living.values():
            _log.warning("stray_container_stopped", session=container.session_id, lease=container.lease)
            await self._runtime.stop(container, grace_s=STOP_GRACE_S)

    async def _adopt_or_stop(self, session: Session, container: Container) -> None:
        """A container whose surroundings cannot be opened again is ended like any other: the host starts without it."""
        try:
            await self._adopt_one(session, container)
        except NanohostError as error:
            _log.error("container_not_adopted", session=session.id, error=str(error), hint=error.hint)
            await self._stop(session.id)

    async def _adopt_one(self, session: Session, container: Container) -> None:
        now = self._clock.monotonic()
        slot = Slot(
            session_id=session.id,
            lease=container.lease,
            state=SlotState.RUNNING,
            touched=now,
            since=now,
            container=container,
        )
        self._slots.add(slot)
        await self._services.attach(session)
        self._news.watch(session.id, self._mailboxes.layout(session))
        self._acks.poke(session.id)
        self._on_news(session.id)
        _log.info("container_adopted", session=session.id, group=session.group_folder)
        if isinstance(await self._runtime.poll(container), Exited):
            self.on_death(container)

    async def _free(self, session: Session, lease: LeaseId) -> None:
        async with self._store.transaction() as tx:
            await sessions.release(tx, session.id, lease)
        await self._after_death(session.id, cause="")

    # --- the sweep ---

    async def _sweep_once(self) -> None:
        due = await sessions.due(self._store, self._clock.now())
        for session in due:
            if self._slots.get(session.id) is None:
                self.wake(session.id)
            else:
                self._acks.poke(session.id)  # it may be done, and nobody noticed
        idle_before = self._clock.monotonic() - self._settings.idle_timeout_s
        for slot in self._slots.idle_since(idle_before):
            _log.info("container_idle", session=slot.session_id)
            slot.state = SlotState.STOPPING
            self._stops.poke(slot.session_id)
        self._look_everywhere()
        if not self._health.next_look_s():
            await self._stop_stuck({session.id for session in due})
        self._pump()

    async def _stop_stuck(self, due: set[SessionId]) -> None:
        """Stop the containers that live and do not work: their claims are freed, as after any death."""
        self._health.begin_look({slot.lease for slot in self._slots})
        for session in await sessions.leased(self._store):
            slot = self._slots.get(session.id)
            if slot is None or slot.lease != session.lease or slot.state is not SlotState.RUNNING:
                continue
            found = await self._health.look(session, slot.lease, due=session.id in due, busy=slot.busy)
            if isinstance(found, Stuck) and slot.state is SlotState.RUNNING:
                _log.warning("container_stuck", session=session.id, reason=found.reason, sentence=found.sentence)
                slot.fault, slot.state = found.sentence, SlotState.STOPPING
                self._stops.poke(session.id)

    def _next_look_s(self) -> float:
        """Until somebody should look at the containers again: those that are idle and well wait for the sweep."""
        watched = any(
            slot.state is SlotState.RUNNING and (slot.busy or self._health.doubtful(slot.lease)) for slot in self._slots
        )
        return self._health.next_look_s() if watched else self._settings.sweep_interval_s

    def _look_everywhere(self) -> None:
        """Once a sweep interval: what file events and polls missed (a file that was locked just then) is found here."""
        now = self._clock.monotonic()
        if now - self._looked < self._settings.sweep_interval_s:
            return
        self._looked = now
        for slot in self._slots:
            self._acks.poke(slot.session_id)
            self._on_news(slot.session_id)

    async def _sleep_until_due(self) -> None:
        now = self._clock.now()
        wait = timedelta(seconds=self._settings.sweep_interval_s)
        if (due := await sessions.next_due(self._store, now)) is not None:
            wait = min(wait, due - now)
        wait_s = max(
            0.0, min([wait.total_seconds(), self._next_look_s(), *self._pauses.remaining(self._clock.monotonic())])
        )
        await _first_of(self._clock.sleep(wait_s), self._kick.wait())
        self._kick.clear()


def _is_due(due_at: datetime | None, now: datetime) -> bool:
    return due_at is not None and due_at <= now


async def _first_of(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
