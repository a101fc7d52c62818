"""Wakes, idles and stops containers.

Promises: a session has at most one container, because its lease is in the database before the container is started;
whatever is due gets one, in order of arrival, as far as `max_containers` goes; a container that dies takes nothing
with it: its claims become due again. One that is stuck is stopped, which counts as a death; one that fills the disk, or
keeps the host from its mailbox again and again, is held, too. Living containers outlast the host and are adopted at the
next start. One whose runner does not obey a person is ended within two seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from nanohost.access.notify import notify_throttled
from nanohost.chat_commands.command import ContainerState, ContainerStatus
from nanohost.clock import Clock
from nanohost.containers.ack_processor import AckProcessor
from nanohost.containers.adoption import is_outdated, scan_containers
from nanohost.containers.control_messages import CONTROL_TIMEOUT_S, UNRESPONSIVE_GRACE_S, ControlMessages
from nanohost.containers.disk_monitor import FolderGrowth
from nanohost.containers.disk_usage import FolderUncountable, WatchedFolder
from nanohost.containers.health import HealthMonitor
from nanohost.containers.hold_service import HoldService, SessionHeld
from nanohost.containers.notices import CRASH_NOTICE, start_failure_notice
from nanohost.containers.pool import (
    STOP_GRACE_S,
    ContainerPool,
    FailureInfo,
    MailboxStopCounter,
    Slot,
    SlotState,
    StartBackoff,
    escalate,
)
from nanohost.containers.reaper import Reaper
from nanohost.containers.starter import SessionServices, Starter
from nanohost.containers.stuck import DISK, MAILBOX, HealthLimits, Stuck
from nanohost.db import holds, sessions
from nanohost.db.database import Store
from nanohost.db.domain_events import (
    HoldChanged,
    MailboxBlocked,
    OutboxChanged,
    OutboxNeedsRead,
    SessionHasControlMessages,
    SessionHasWork,
    SessionWorking,
)
from nanohost.errors import NanohostError, StoreError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_monitor import OutboxMonitor
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import LeaseId, Session, SessionId
from nanohost.runtimes.port import Container, Exited, Runtime
from nanohost.work.event_bus import Subscription
from nanohost.work.keyed_workers import KeyedWorkers
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import random_id

NOTIFY_AFTER_CRASHES = 2
"""In a row, and before anything was taken over: the person who waits is told."""
INTERRUPT_GRACE_S = 1.5
"""For a turn to be given back when all is paused; whoever asked for that wants it soon."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerManagerSettings:
    """Counts and seconds, from [host]."""

    max_containers: int
    idle_timeout_s: float
    sweep_interval_s: float
    limits: HealthLimits
    groups_dir: Path | None = None
    """Where the agent groups' folders are."""


class ContainerManager:
    """One per host. Emits OutboxNeedsRead when a session's outbound.db may hold something to deliver."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        runtime: Runtime,
        outbox_monitor: OutboxMonitor,
        services: SessionServices,
        clock: Clock,
        settings: ContainerManagerSettings,
        outbox: OutboxReader | None = None,
    ) -> None:
        """`outbox`: shared with others who read the same files."""
        self._store = store
        self._mailboxes = mailboxes
        self._runtime = runtime
        self._services = services
        self._clock = clock
        self._settings = settings
        self._bus = store.bus
        self._starter = Starter(
            store=store, mailboxes=mailboxes, runtime=runtime, outbox_monitor=outbox_monitor, services=services
        )
        self._pool = ContainerPool(settings.max_containers)
        self._stopped_leases: set[LeaseId] = set()
        self._exit_causes: dict[LeaseId, str] = {}
        """Why those containers died whose place is free and whose claims may not be: kept until all of it is done."""
        self._start_backoff = StartBackoff()
        self._health_monitor = HealthMonitor(mailboxes, clock, settings.limits, settings.groups_dir)
        self._last_outbox_check = clock.monotonic()
        self._sweep_wakeup = asyncio.Event()
        self._next_sweep_s = math.inf
        """When the sweep looks next by itself; monotonic seconds. Infinite while it looks: what it read may be old."""
        self._containers_changed = asyncio.Event()
        """A container came up or went: one that is starting can be stopped, one that was stopped is buried."""
        self._is_closing = False
        self._is_paused = False
        self._is_disk_low = False
        self._must_measure_folders = False
        """The disk got short, and who made it so is not known yet: no log is cut before that."""
        self._logs_to_truncate: set[SessionId] = set()
        """Those that are to be cut then."""
        self._warned_folders: set[Path] = set()
        """Folders whose size the owners were told of."""
        self._start_workers = KeyedWorkers[SessionId]("start", self._start, clock)
        self._stop_workers = KeyedWorkers[SessionId]("stop", self._stop, clock)
        self._ack_workers = KeyedWorkers[SessionId]("acks", self._process_acks, clock)
        self._reap_workers = KeyedWorkers[tuple[SessionId, LeaseId]]("death", self._reap, clock)
        self._control_workers = KeyedWorkers[SessionId]("obey", self._enforce_control, clock)
        self._hold_workers = KeyedWorkers[SessionId]("holds", self._apply_hold, clock)
        self._hold_service = HoldService(store=store, mailboxes=mailboxes, clock=clock)
        self._mailbox_stops = MailboxStopCounter()
        self._pending_holds: dict[SessionId, Stuck] = {}
        """They are to be held, and it is not on record yet."""
        self._changed_hold_sessions: set[SessionId] = set()
        """Sessions that were put on hold or let go on, which nobody has looked at since."""
        self._unnotified: set[SessionId] = set()
        """They are held, and their mailbox did not say whom to tell: asked again when their container is gone."""
        self._acks_processed: dict[SessionId, asyncio.Event] = {}
        """Set for who waits until acks were taken over."""
        self._restart_requested: set[SessionId] = set()
        """They get another container as soon as the one they have is gone."""
        self._control_messages = ControlMessages(store=store, mailboxes=mailboxes, clock=clock)
        self._ack_processor = AckProcessor(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            is_alive=self._is_alive,
            was_stopped=self._stopped_leases.__contains__,
            publishes_work=lambda: not self._is_paused,
            outbox=outbox,
        )
        self._reaper = Reaper(
            store=store,
            mailboxes=mailboxes,
            ack_processor=self._ack_processor,
            control_messages=self._control_messages,
            clock=clock,
        )

    # --- life ---

    @asynccontextmanager
    async def opened(self, *, keep_containers: bool) -> AsyncIterator[None]:
        """Adopt what lives, tidy what does not, then serve. Leaving starts nothing new.

        `keep_containers`: leave them running for the next host, or stop them.
        """
        async with AsyncExitStack() as stack:
            for lanes in (
                self._ack_workers,
                self._reap_workers,
                self._stop_workers,
                self._start_workers,
                self._control_workers,
                self._hold_workers,
            ):
                await stack.enter_async_context(lanes.opened())
            stack.enter_context(self._bus.subscribed(*self._subscriptions()))
            await self._ack_processor.restore_backoff()
            await self._adopt_all()
            # Only now: a session whose container is not adopted yet would get a second one.
            wakes = Subscription(SessionHasWork, lambda event: self.wake(event.session))
            stack.enter_context(self._bus.subscribed(wakes))
            try:
                yield
            finally:
                if not keep_containers:
                    await self.stop_all()

    def _subscriptions(self) -> tuple[Subscription[Any], ...]:
        return (
            Subscription(OutboxChanged, lambda event: self.on_outbox_changed(event.session)),
            Subscription(SessionHasControlMessages, lambda event: self.on_control_messages(event.session)),
            Subscription(HoldChanged, lambda event: self.on_hold_changed(event.session)),
            Subscription(MailboxBlocked, lambda event: self.stop_for_blocked_mailbox(event.session, event.reason)),
        )

    def on_death(self, container: Container) -> None:
        """A container is gone, whoever ended it."""
        self._reap_workers.notify((container.session_id, container.lease))

    def on_outbox_changed(self, session: SessionId) -> None:
        """A session's outbound.db changed."""
        if slot := self._pool.get(session):
            slot.last_activity = self._clock.monotonic()
        self._ack_workers.notify(session)

    def wake(self, session: SessionId) -> None:
        """The session has work: a running runner notices by itself, else a container is started when there is room."""
        slot = self._pool.get(session)
        if slot is not None:
            slot.last_activity, slot.is_busy = self._clock.monotonic(), True
            slot.wakes += 1
            if slot.state is not SlotState.STOPPING:
                # Its runner may have been done with it before it was on record; if its model cannot be asked, no runner
                # takes it, and who wrote is told.
                self._ack_workers.notify(session)
                return
        if self._ack_processor.is_in_backoff(session):
            self._ack_workers.notify(session)
            return  # the sweep wakes it when its model can be asked
        if slot is None and not self._start_backoff.can_start(session, self._clock.monotonic()):
            return  # the sweep wakes it when its pause is over
        self._pool.enqueue(session)
        self._start_queued()

    def on_control_messages(self, session: SessionId) -> None:
        """There are orders for the session's runner: it has two seconds, and needs none if there is no runner."""
        self._control_workers.notify_now(session)

    def restart(self, session: SessionId, *, now: bool) -> bool:
        """Have the session's container replaced: when it has ended its turn, or `now`, and then the turn is run again
        by the next. False if it has none."""
        slot = self._pool.get(session)
        if slot is None or slot.state is SlotState.STOPPING:
            return False
        self._restart_requested.add(session)
        slot.is_draining = True
        if now and slot.container is not None:
            self._begin_stop(slot)
        self._ack_workers.notify(session)
        return True

    def stop(self, session: SessionId) -> bool:
        """Stop the session's container in order. False if it has none that runs."""
        slot = self._pool.get(session)
        if slot is None or slot.state is not SlotState.RUNNING:
            return False
        self._begin_stop(slot)
        return True

    def stop_for_blocked_mailbox(self, session: SessionId, reason: str) -> None:
        """Stop the session's container, which keeps its own files from being read or written: a death like any other.
        `reason` is for the operator."""
        slot = self._pool.get(session)
        if slot is not None and slot.state is SlotState.RUNNING:
            self._stop_blocked_slot(slot, Stuck(reason=MAILBOX, detail=reason))

    def on_hold_changed(self, session: SessionId) -> None:
        """The session, or its agent group, was put on hold or let go on: that is on record."""
        self._changed_hold_sessions.add(session)
        self._hold_workers.notify_now(session)

    def stop_for_low_disk(self) -> None:
        """The disk is nearly full: stop every container in order, and start nothing until `disk_space_recovered`."""
        self._is_disk_low = self._must_measure_folders = True
        self.interrupt()

    async def measure_growth(self) -> list[FolderGrowth]:
        """After `stop_for_low_disk`: how much the folders have grown that were written lately. Waits for the containers
        to be gone, but not long for one that does not go. Their logs are cut when they are counted: a log that filled
        the disk would keep it full."""
        until = self._clock.monotonic() + STOP_GRACE_S
        while len(self._pool) and (left_s := until - self._clock.monotonic()) > 0:
            self._containers_changed.clear()
            await _wait_for_first(self._clock.sleep(left_s), self._containers_changed.wait())
        try:
            return await self._health_monitor.folders.measure_growth()
        finally:
            self._must_measure_folders = False
            while self._logs_to_truncate:
                await self._reaper.truncate_log(self._logs_to_truncate.pop())

    async def hold_for_low_disk(self, session: Session, detail: str, *, is_group_wide: bool) -> bool:
        """Have who made the disk short stay stopped, if it is still there. False: the disk refuses even that."""
        return await self._place_hold(
            session, Stuck(reason="disk", detail=detail, should_hold=True, is_group_wide=is_group_wide)
        )

    def folders_over_limit(self) -> list[tuple[WatchedFolder, int]]:
        """The folders that are above their limit and not held for it, and the bytes they took when first seen."""
        return [(watched, size) for _, watched, size in self._health_monitor.folders.over_limit().values()]

    def resume_after_low_disk(self) -> None:
        """Start what waits, unless all is paused."""
        self._is_disk_low = False
        self._sweep_wakeup.set()
        self._start_queued()

    def pause(self) -> None:
        """Start nothing until `go_on`: who has work waits. May be called before the container manager is opened."""
        self._is_paused = True

    def interrupt(self) -> None:
        """While at rest: stop every container in order, within two seconds. Their turns are run again later, and no try
        is used up."""
        for slot in self._pool:
            self._bus.publish(SessionWorking(slot.session_id, frozenset()))
            self._stop_if_paused(slot)

    def resume(self) -> None:
        """Start what waits."""
        self._is_paused = False
        self._sweep_wakeup.set()
        self._start_queued()

    def status(self, session: SessionId) -> ContainerStatus:
        """How a session stands with containers."""
        slot = self._pool.get(session)
        state = ContainerState(slot.state.value) if slot is not None else ContainerState.NONE
        if slot is None and self._pool.is_queued(session):
            state = ContainerState.WAITING
        trouble = self._start_backoff.failures().get(session)
        return ContainerStatus(state=state, failure=trouble.reason if trouble else "")

    async def sweep(self) -> None:
        """For ever: wake what is due, stop what is idle. Sleeps until the next thing is due, or the sweep interval."""
        while True:
            looked = self._clock.now()
            await self._sweep_once(looked)
            await self._sleep_until_due(looked)

    async def stop_all(self) -> None:
        """Start nothing more, stop every container of ours and wait until they are gone."""
        self._is_closing = True
        while len(self._pool):
            self._containers_changed.clear()
            await asyncio.gather(*(self._stop(slot.session_id) for slot in self._pool))
            if len(self._pool):
                await self._containers_changed.wait()

    def containers(self) -> list[Slot]:
        return list(self._pool)

    def queued(self) -> tuple[SessionId, ...]:
        return self._pool.queued()

    def is_queued(self, session: SessionId) -> bool:
        """Whether it has work, and no container because there is no room."""
        return self._pool.is_queued(session)

    def failures(self) -> dict[SessionId, FailureInfo]:
        """The sessions whose containers fail, and why."""
        return self._start_backoff.failures()

    def throttled(self) -> dict[SessionId, str]:
        """The sessions whose runners say more of their messages than they may, and what there is too much of."""
        return self._ack_processor.throttled()

    def unsaved_conversations(self) -> dict[SessionId, datetime]:
        """The sessions whose conversations are not kept, and since when that is known."""
        return self._health_monitor.unsaved_conversations()

    def stalled_s(self, session: SessionId) -> float:
        """For how long the turn of the session's container has shown nothing; 0 when none runs."""
        slot = self._pool.get(session)
        return 0.0 if slot is None else self._health_monitor.stalled_s(slot.lease)

    # --- start and stop ---

    def _start_queued(self) -> None:
        if self._is_closing or self._is_paused or self._is_disk_low:
            return
        while (session := self._pool.next_startable()) is not None:
            now = self._clock.monotonic()
            slot = Slot(
                session_id=session,
                lease=LeaseId(random_id("l")),
                state=SlotState.STARTING,
                last_activity=now,
                started_at=now,
            )
            self._pool.add(slot)
            self._start_workers.notify(session)
        if (idle := self._pool.eviction_candidate()) is not None:
            _log.info("container_evicted", session=idle.session_id, waiting=len(self._pool.queued()))
            self._begin_stop(idle)

    def _begin_stop(self, slot: Slot) -> None:
        slot.state = SlotState.STOPPING
        self._stop_workers.notify(slot.session_id)

    def _stop_if_paused(self, slot: Slot) -> None:
        """One that is just starting is ended as soon as it has started, if all rests by then."""
        if not (self._is_paused or self._is_disk_low) or slot.state is SlotState.STARTING:
            return
        slot.grace_s = INTERRUPT_GRACE_S
        if slot.state is SlotState.RUNNING:
            self._begin_stop(slot)

    async def _start(self, id: SessionId) -> None:
        slot = self._pool.get(id)
        if slot is None or slot.state is not SlotState.STARTING or slot.container is not None:
            return
        try:
            await self._check_folders(id)
            await self._starter.start(slot, self._on_started)
            await self._check_alive(slot)
            self._stop_if_paused(slot)
        except SessionHeld:
            await self._release_held_slot(slot)
        except Exception as error:
            await self._handle_start_failure(slot, error)
        else:
            self._ack_workers.notify(id)
            self._bus.publish(OutboxNeedsRead(id))
            self._sweep_wakeup.set()  # it is to be looked at from now on, and not from the next sweep on
            self._hold_workers.notify(id)  # it may have been put on hold meanwhile

    async def _check_folders(self, id: SessionId) -> None:
        """What was in the session's folders before its container writes there, and all that is if that cannot be
        counted while it does. Raises SessionHeld if it is too much, StoreError if that cannot be put on record."""
        session = await sessions.get(self._store, id)
        while await self._stop_writers(session):
            self._containers_changed.clear()
            await self._containers_changed.wait()
        if (grown := await self._health_monitor.folders.check_before_start(session)) is None:
            return
        found = Stuck(reason=DISK, detail=grown.detail, should_hold=True, is_group_wide=grown.is_group_wide)
        await self._hold_service.place_hold(session, found)
        raise SessionHeld(f"session {id} is held: {grown.detail}")

    async def _release_held_slot(self, slot: Slot) -> None:
        """It is held: nothing failed, and its place is free for others."""
        self._pool.remove(slot.session_id)
        self._containers_changed.set()
        self._start_queued()
        await self._apply_hold(slot.session_id)

    async def _apply_hold(self, id: SessionId) -> None:
        """Stop the container of a session that is held; wake one that goes on."""
        session = await sessions.get(self._store, id)
        await self._record_pending_hold(session)
        is_changed = id in self._changed_hold_sessions
        self._changed_hold_sessions.discard(id)  # before the look: a change during it is looked at again
        try:
            hold = await holds.find(self._store, id)
        except StoreError:
            self._changed_hold_sessions |= {id} if is_changed else set()
            raise
        if hold is None:
            self._unnotified.discard(id)
            # Who was not on hold has its pause: this look may be the one that every start ends with.
            if is_changed and self._pool.get(id) is None and _is_due(session.due_at, self._clock.now()):
                self._start_backoff.reset(id)
                self.wake(id)
            return
        if self.stop(id):
            _log.warning("container_held", session=id, by=hold.by, reason=hold.reason)
        self._unnotified.add(id)
        if await self._hold_service.notify_waiting(session, hold):
            self._unnotified.discard(id)

    async def _record_pending_hold(self, session: Session) -> None:
        """Put on record that it is held, if it is to be. Raises StoreError: tried again."""
        if (found := self._pending_holds.get(session.id)) is not None:
            await self._hold_service.place_hold(session, found)
            del self._pending_holds[session.id]
            self._mailbox_stops.reset(session.id)
            _log.warning("session_held", session=session.id, reason=found.detail)

    async def _handle_start_failure(self, slot: Slot, error: Exception) -> None:
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
        await self._release_container(slot.session_id, slot.lease)
        reason = f"no container: {str(error) or type(error).__name__}"
        in_a_row = self._start_backoff.record_failure(slot.session_id, self._clock.monotonic(), reason)
        self._sweep_wakeup.set()
        if in_a_row == 1:
            await self._reaper.notify_waiting(slot.session_id, start_failure_notice(error))

    def _on_started(self, slot: Slot, container: Container) -> None:
        slot.container = container
        self._mailboxes.reset_backoff(slot.session_id)
        self._containers_changed.set()
        if slot.state is SlotState.STARTING:
            slot.state = SlotState.RUNNING

    async def _check_alive(self, slot: Slot) -> None:
        """News of a death before we knew the container went nowhere."""
        if slot.container is not None and isinstance(await self._runtime.poll(slot.container), Exited):
            self.on_death(slot.container)

    async def _stop(self, id: SessionId) -> None:
        slot = self._pool.get(id)
        if slot is None or slot.container is None:
            return
        slot.state = SlotState.STOPPING
        if not slot.failure_reason:
            self._stopped_leases.add(slot.lease)
        await self._runtime.stop(slot.container, grace_s=slot.grace_s)
        self.on_death(slot.container)  # buried by the one worker that buries it, however many heard of it

    async def _reap(self, key: tuple[SessionId, LeaseId]) -> None:
        """A container is gone: free its place, take over its last words, see whether there is work left."""
        id, lease = key
        slot = self._pool.get(id)
        if slot is not None and slot.lease == lease:
            if slot.state is SlotState.STARTING and slot.container is None:
                return  # the start is still under way and will find out by itself
            orderly = lease in self._stopped_leases
            if lease not in self._exit_causes:
                self._exit_causes[lease] = "" if orderly else await self._reaper.exit_cause(slot)
                if cause := self._exit_causes[
                    lease
                ]:  # while its place is taken: whoever is woken later waits for the pause
                    self._start_backoff.record_failure(id, self._clock.monotonic(), cause)
            crash_point("keeper.burying")
            await self._release_container(id, lease)
            crash_point("keeper.buried")
            _log.info("container_exited", session=id, lease=lease, ordered=orderly)
        if lease in self._exit_causes:  # or it was buried before; if what follows fails it is tried again
            await self._after_exit(id, cause=self._exit_causes[lease])
            del self._exit_causes[lease]
            self._stopped_leases.discard(lease)

    async def _release_container(self, id: SessionId, lease: LeaseId) -> None:
        await self._starter.release(id, lease)
        self._mailboxes.reset_backoff(id)
        self._ack_processor.budget(id).reset()
        self._pool.remove(id)
        self._bus.publish(SessionWorking(id, frozenset()))
        self._containers_changed.set()

    async def _after_exit(self, id: SessionId, *, cause: str) -> None:
        """`cause`: why it counted as a failure; empty for an end in order."""
        self._bus.publish(OutboxNeedsRead(id))
        if self._must_measure_folders:
            self._logs_to_truncate.add(id)
        else:
            await self._reaper.truncate_log(id)
        await self._reaper.collect_final_acks(id)
        if id in self._unnotified:
            self._unnotified.discard(id)
            self._hold_workers.notify(id)
        if cause and self._start_backoff.failure_count(id) == NOTIFY_AFTER_CRASHES:
            await self._reaper.notify_waiting(id, CRASH_NOTICE)
        if id in self._restart_requested:
            self._restart_requested.discard(id)
            self.wake(id)
        self._sweep_wakeup.set()
        self._start_queued()

    # --- taking over ---

    async def _process_acks(self, id: SessionId) -> None:
        if not await self._wait_for_budget(id):
            return
        wakes = self._wakes(id)
        standing = await self._ack_processor.process(id)
        if id in self._acks_processed:
            self._acks_processed[id].set()
        if standing is None:
            return
        busy = standing.open_claims > 0 or _is_due(standing.due_at, self._clock.now())
        if (slot := self._pool.get(id)) is not None:
            slot.is_busy = busy or self._wakes(id) != wakes  # work that came meanwhile is looked at next
            if standing.has_progressed:
                self._start_backoff.reset(id)
            if slot.is_draining and not standing.open_claims and slot.state is SlotState.RUNNING:
                _log.info("container_replaced", session=id)
                self._begin_stop(slot)
        if standing.has_changed and standing.due_at is not None and self._is_for_sweep(id, standing.due_at):
            self._sweep_wakeup.set()
        if standing.more:
            self._ack_workers.notify(id)
        self._start_queued()  # whoever waits may have the place of one that has nothing to do now

    def _is_for_sweep(self, id: SessionId, due_at: datetime) -> bool:
        """Whether the sweep is to look sooner than it would by itself. What is due now is found by the container that
        the session has."""
        wait_s = (due_at - self._clock.now()).total_seconds()
        if wait_s <= 0:
            return self._pool.get(id) is None
        return self._clock.monotonic() + wait_s < self._next_sweep_s

    def _wakes(self, id: SessionId) -> int:
        slot = self._pool.get(id)
        return 0 if slot is None else slot.wakes

    async def _wait_for_budget(self, id: SessionId) -> bool:
        """Wait until more of what its runner says is taken over. False: the host is closing."""
        budget = self._ack_processor.budget(id)
        while not budget.can_process(self._clock.monotonic()):
            pause_s = budget.next_pause_s()
            if budget.pauses == 1:
                _log.warning("session_over_budget", session=id, over=budget.reason, next_look_in_s=pause_s)
            if budget.should_notify:
                session = await sessions.get(self._store, id)
                await notify_throttled(self._store, session, budget.reason, self._clock.now())
            if not await self._ack_workers.sleep(pause_s):
                return False
        return True

    def _is_alive(self, session: Session, lease: LeaseId) -> bool:
        slot = self._pool.get(session.id)
        return slot is not None and slot.lease == lease

    async def _enforce_control(self, id: SessionId) -> None:
        """Wait for the runner to carry out its orders. One that does not is ended, and the orders with it."""
        session = await sessions.get(self._store, id)
        if not await self._await_control(session):
            slot = self._pool.get(id)
            if slot is not None and slot.container is not None and slot.state is not SlotState.STOPPING:
                _log.warning("container_ignored_stop", session=id, after_s=CONTROL_TIMEOUT_S)
                slot.grace_s = UNRESPONSIVE_GRACE_S
                await self._stop(id)
            await self._control_messages.close_open(session)
        self._ack_workers.notify(id)  # what was due may have been what was stopped

    async def _await_control(self, session: Session) -> bool:
        until = self._clock.monotonic() + CONTROL_TIMEOUT_S
        taken = self._acks_processed[session.id] = asyncio.Event()
        try:
            while await self._control_messages.has_open(session):
                left_s = until - self._clock.monotonic()
                if left_s <= 0 or self._pool.get(session.id) is None:
                    return False
                await _wait_for_first(self._clock.sleep(left_s), taken.wait())
                taken.clear()
            return True
        finally:
            del self._acks_processed[session.id]

    async def _adopt_all(self) -> None:
        """What lives and is on record goes on, the rest is ended or its claims are freed."""
        found = await scan_containers(self._store, self._runtime)
        for session, container in found.adoptable:
            await self._adopt_or_stop(session, container)
        for session in found.lost:
            assert session.lease is not None
            await self._free_lease(session, session.lease)
        async for session in sessions.iter_all(self._store.reports):
            self._bus.publish(
                OutboxNeedsRead(session.id)
            )  # the last host may have been killed between a container's end and its last words
        for id in await sessions.list_due_and_held(self._store, self._clock.now()):
            self._hold_workers.notify(
                id
            )  # the last host may have been killed before it told who waits; the sweep wakes none
        for container in found.orphans:
            _log.warning("orphan_container_stopped", session=container.session_id, lease=container.lease)
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
            last_activity=now,
            started_at=now,
            container=container,
        )
        self._pool.add(slot)
        slot.is_draining = is_outdated(session, await self._services.spec(session, container.lease), self._runtime)
        await self._starter.attach(session)
        await self._health_monitor.folders.record_baseline(session)
        self._ack_workers.notify(session.id)
        self._bus.publish(OutboxNeedsRead(session.id))
        self._control_workers.notify(session.id)
        self._hold_workers.notify(session.id)
        _log.info("container_adopted", session=session.id, group=session.group_folder, outdated=slot.is_draining)
        await self._check_alive(slot)

    async def _free_lease(self, session: Session, lease: LeaseId) -> None:
        async with self._store.transaction() as tx:
            await sessions.release_lease(tx, session.id, lease)
        await self._after_exit(session.id, cause="")

    # --- the sweep ---

    async def _sweep_once(self, now: datetime) -> None:
        due = await sessions.list_due(self._store, now)
        for session in due:
            if self._pool.get(session.id) is None:
                self.wake(session.id)
            else:
                self._ack_workers.notify(session.id)  # it may be done, and nobody noticed
        idle_before = self._clock.monotonic() - self._settings.idle_timeout_s
        for slot in self._pool.idle_since(idle_before):
            _log.info("container_idle", session=slot.session_id)
            self._begin_stop(slot)
        self._check_all_outboxes()
        if not self._health_monitor.next_check_s():
            await self._stop_stuck({session.id for session in due})
        self._start_queued()

    async def _stop_stuck(self, due: set[SessionId]) -> None:
        """Stop the containers that live and do not work: their claims are freed, as after any death."""
        leased = await sessions.list_leased(self._store)
        await self._health_monitor.begin_round({slot.lease for slot in self._pool}, leased)
        before = self._health_monitor.unsaved_conversations()
        for session in leased:
            slot = self._pool.get(session.id)
            if slot is None or slot.lease != session.lease or slot.state is not SlotState.RUNNING:
                continue
            found = await self._health_monitor.check(
                session, slot.lease, is_due=session.id in due, is_busy=slot.is_busy
            )
            if isinstance(found, Stuck) and found.reason == MAILBOX and slot.state is SlotState.RUNNING:
                self._stop_blocked_slot(slot, found)
            elif isinstance(found, Stuck) and slot.state is SlotState.RUNNING:
                if not found.should_hold or not await self._place_hold(session, found):
                    slot.failure_reason = found.detail
                self._stop_stuck_slot(slot, found)
            elif isinstance(found, FolderUncountable):
                _log.warning("folder_uncountable", session=session.id, sentence=found.detail)
                await self._stop_writers(session)
        await self._warn_about_large_folders()
        for unkept in self._health_monitor.unsaved_conversations().keys() - before.keys():
            _log.warning("conversation_not_recorded", session=unkept, hint="is its state folder full, or read-only?")
            await self._hold_service.notify_unsaved(unkept)

    async def _warn_about_large_folders(self) -> None:
        """The owners, once a folder and limit; it is on the status screen for as long as it lasts."""
        for path, (session, watched, size) in self._health_monitor.folders.over_limit().items():
            if path not in self._warned_folders and await self._hold_service.warn_about_size(session, watched, size):
                self._warned_folders.add(path)

    async def _stop_writers(self, session: Session) -> set[SessionId]:
        """Stop, in order, all containers that write what has to be counted at rest. Returns whose still live."""
        resting = self._health_monitor.folders.folders_needing_idle_scan(session)
        writers = {session.id} if resting else set()
        if any(watched.is_group_wide for watched in resting):
            writers |= set(await holds.list_affected_sessions(self._store, session.agent_group_id))
        living = {slot.session_id for slot in self._pool if slot.container is not None} & writers
        for id in living:
            self.stop(id)
        return living

    def _stop_stuck_slot(self, slot: Slot, stuck: Stuck) -> None:
        """Its end counts as a death if it has a fault."""
        _log.warning("container_stuck", session=slot.session_id, reason=stuck.reason, sentence=stuck.detail)
        self._begin_stop(slot)

    def _stop_blocked_slot(self, slot: Slot, stuck: Stuck) -> None:
        """It keeps the host from its mailbox: a fault, and when it is one too many it is held in its place."""
        stuck = escalate(stuck, self._mailbox_stops.record_stop(slot.session_id, self._clock.monotonic()))
        if stuck.should_hold:
            self._pending_holds[slot.session_id] = stuck
            self._hold_workers.notify_now(slot.session_id)
        else:
            slot.failure_reason = stuck.detail
        self._stop_stuck_slot(slot, stuck)

    async def _place_hold(self, session: Session, stuck: Stuck) -> bool:
        """Have it stay stopped. False: the disk refuses even that; its end then counts as a death, with its pauses."""
        try:
            await self._hold_service.place_hold(session, stuck)
        except StoreError as error:
            _log.error("hold_failed", session=session.id, error=str(error), hint=error.hint)
            return False
        return True

    def _next_check_s(self) -> float:
        """Until somebody should look at the containers again: also at idle ones, which may write all the same."""
        watched = any(slot.state is SlotState.RUNNING for slot in self._pool)
        return self._health_monitor.next_check_s() if watched else self._settings.sweep_interval_s

    def _check_all_outboxes(self) -> None:
        """Once a sweep interval: what file events and polls missed (a file that was locked just then) is found here."""
        now = self._clock.monotonic()
        if now - self._last_outbox_check < self._settings.sweep_interval_s:
            return
        self._last_outbox_check = now
        for slot in self._pool:
            self._ack_workers.notify(slot.session_id)
            self._bus.publish(OutboxNeedsRead(slot.session_id))

    async def _sleep_until_due(self, checked_at: datetime) -> None:
        """Until what was not due when we looked: asked of any later time, what falls due meanwhile would be missed."""
        wait = timedelta(seconds=self._settings.sweep_interval_s)
        if (due := await sessions.next_due(self._store, checked_at)) is not None:
            wait = min(wait, due - self._clock.now())
        wait_s = max(
            0.0,
            min(
                [wait.total_seconds(), self._next_check_s(), *self._start_backoff.remaining_s(self._clock.monotonic())]
            ),
        )
        self._next_sweep_s = self._clock.monotonic() + wait_s
        await _wait_for_first(self._clock.sleep(wait_s), self._sweep_wakeup.wait())
        self._next_sweep_s = math.inf
        self._sweep_wakeup.clear()


def _is_due(due_at: datetime | None, now: datetime) -> bool:
    return due_at is not None and due_at <= now


async def _wait_for_first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
