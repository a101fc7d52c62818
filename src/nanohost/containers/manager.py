"""Wakes, starts, watches and stops containers.

Promises: a session has at most one container, because its lease is in the database before the container starts.
Every session with due work gets a container, in order of arrival, within `max_containers`. When a container dies
nothing is lost: its claims become due again. A stuck container is stopped, which counts as a death; a session that
fills the disk, or blocks its mailbox repeatedly, is also held. Containers keep running when the host stops and are
adopted at its next start. A container whose runner ignores a control message is stopped within two seconds.
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
from nanohost.containers.stuck_monitor import HealthMonitor
from nanohost.containers.stuck_policy import DISK, MAILBOX, HealthLimits, Stuck
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
from nanohost.runtimes.runtime_api import Container, Exited, Runtime
from nanohost.work.event_bus import Subscription
from nanohost.work.keyed_workers import KeyedWorkers
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import random_id

NOTIFY_AFTER_CRASHES = 2
"""Crashes in a row without any ack, after which the person who waits is notified."""
INTERRUPT_GRACE_S = 1.5
"""How long a runner has to give its turn back when all is paused: whoever paused expects a prompt stop."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerManagerSettings:
    """Counts and seconds, from the table [host] of nanohost.toml."""

    max_containers: int
    idle_timeout_s: float
    sweep_interval_s: float
    limits: HealthLimits
    groups_dir: Path | None = None
    """Where the agent groups' folders are."""


class ContainerManager:
    """One per host. Publishes OutboxNeedsRead when a session's outbound.db may hold something to deliver."""

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
        """`outbox`: the reader that is shared with the other stages that read the same files."""
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
        """Why a container died, by lease: from when its slot is freed until `_after_exit` has succeeded."""
        self._start_backoff = StartBackoff()
        self._health_monitor = HealthMonitor(mailboxes, clock, settings.limits, settings.groups_dir)
        self._last_outbox_check = clock.monotonic()
        self._sweep_wakeup = asyncio.Event()
        self._next_sweep_s = math.inf
        """When the sweep looks next by itself; monotonic seconds. Infinite while it looks: what it read may be old."""
        self._containers_changed = asyncio.Event()
        """Set when a container has started or has been released."""
        self._is_closing = False
        self._is_paused = False
        self._is_disk_low = False
        self._must_measure_folders = False
        """The disk became low and its main consumer is not known yet: no log is truncated before that."""
        self._logs_to_truncate: set[SessionId] = set()
        """Sessions whose logs are truncated after the folders are measured."""
        self._warned_folders: set[Path] = set()
        """Folders about whose size the owners were warned."""
        self._start_workers = KeyedWorkers[SessionId]("start", self._start, clock)
        self._stop_workers = KeyedWorkers[SessionId]("stop", self._stop, clock)
        self._ack_workers = KeyedWorkers[SessionId]("acks", self._process_acks, clock)
        self._reap_workers = KeyedWorkers[tuple[SessionId, LeaseId]]("death", self._reap, clock)
        self._control_workers = KeyedWorkers[SessionId]("obey", self._enforce_control, clock)
        self._hold_workers = KeyedWorkers[SessionId]("holds", self._apply_hold, clock)
        self._hold_service = HoldService(store=store, mailboxes=mailboxes, clock=clock)
        self._mailbox_stops = MailboxStopCounter()
        self._pending_holds: dict[SessionId, Stuck] = {}
        """Sessions to hold whose hold is not in the database yet."""
        self._changed_hold_sessions: set[SessionId] = set()
        """Sessions that were held or released since `_apply_hold` last ran for them."""
        self._unnotified: set[SessionId] = set()
        """Held sessions whose mailbox did not say whom to notify: retried when their container is gone."""
        self._acks_processed: dict[SessionId, asyncio.Event] = {}
        """Set when a session's acks have been processed, for a caller that waits for that."""
        self._restart_requested: set[SessionId] = set()
        """Sessions that get a new container as soon as their current one is gone."""
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
        """Adopt living containers, clean up after dead ones, then serve. On exit nothing new is started.

        `keep_containers`: leave the containers running for the next host, or stop them on exit.
        """
        async with AsyncExitStack() as stack:
            for workers in (
                self._ack_workers,
                self._reap_workers,
                self._stop_workers,
                self._start_workers,
                self._control_workers,
                self._hold_workers,
            ):
                await stack.enter_async_context(workers.opened())
            stack.enter_context(self._bus.subscribed(*self._subscriptions()))
            await self._ack_processor.restore_backoff()
            await self._adopt_all()
            # Subscribe only now: before its container is adopted, a session would get a second one.
            wakes = Subscription(SessionHasWork, lambda event: self.wake(event.session, may_be_done=event.may_be_done))
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
        """Handle the end of a container, whoever ended it. Returns at once."""
        self._reap_workers.notify((container.session_id, container.lease))

    def on_outbox_changed(self, session: SessionId) -> None:
        """Handle a change of a session's outbound.db. Returns at once."""
        if slot := self._pool.get(session):
            slot.last_activity = self._clock.monotonic()
        self._ack_workers.notify(session)

    def wake(self, session: SessionId, *, may_be_done: bool = True) -> None:
        """Have the session's work done: a running runner notices it by itself; otherwise a container is queued.

        `may_be_done`: see SessionHasWork.
        """
        slot = self._pool.get(session)
        if slot is not None:
            slot.last_activity, slot.is_busy = self._clock.monotonic(), True
            slot.wakes += 1
            if slot.state is not SlotState.STOPPING:
                # If the model is in backoff, no runner takes the work, and processing the acks notifies the sender.
                if may_be_done or self._ack_processor.is_in_backoff(session):
                    self._ack_workers.notify(session)
                return
        if self._ack_processor.is_in_backoff(session):
            self._ack_workers.notify(session)
            return  # the sweep wakes it when the backoff of its model ends
        if slot is None and not self._start_backoff.can_start(session, self._clock.monotonic()):
            return  # the sweep wakes it when its start backoff ends
        self._pool.enqueue(session)
        self._start_queued()

    def on_control_messages(self, session: SessionId) -> None:
        """Have the runner carry out new control messages within two seconds; without a runner, close them at once."""
        self._control_workers.notify_now(session)

    def restart(self, session: SessionId, *, now: bool) -> bool:
        """Replace the session's container when its turn has ended, or `now`; then the next container runs the turn
        again. Returns False if the session has no container."""
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
        """Stop the session's container gracefully. Returns False if none is running."""
        slot = self._pool.get(session)
        if slot is None or slot.state is not SlotState.RUNNING:
            return False
        self._begin_stop(slot)
        return True

    def stop_for_blocked_mailbox(self, session: SessionId, reason: str) -> None:
        """Stop the session's container, which blocks the host from its mailbox files; the stop counts as a death.
        `reason` is for the operator."""
        slot = self._pool.get(session)
        if slot is not None and slot.state is SlotState.RUNNING:
            self._stop_blocked_slot(slot, Stuck(reason=MAILBOX, detail=reason))

    def on_hold_changed(self, session: SessionId) -> None:
        """Handle a hold or a release of the session or its agent group, after its commit."""
        self._changed_hold_sessions.add(session)
        self._hold_workers.notify_now(session)

    def stop_for_low_disk(self) -> None:
        """Stop every container gracefully and start none until `resume_after_low_disk`."""
        self._is_disk_low = self._must_measure_folders = True
        self.interrupt()

    async def measure_growth(self) -> list[FolderGrowth]:
        """Measure, after `stop_for_low_disk`, how much recently written folders have grown. Waits for the containers
        to be gone, at most STOP_GRACE_S. Then truncates their logs: a log that filled the disk would keep it full."""
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
        """Hold the session, or its agent group, that made the disk low, if it still exists. Returns False if the disk
        is too full to record the hold."""
        return await self._place_hold(
            session, Stuck(reason="disk", detail=detail, should_hold=True, is_group_wide=is_group_wide)
        )

    def folders_over_limit(self) -> list[tuple[WatchedFolder, int]]:
        """Returns the folders that are above their limit without a hold, and their size in bytes when first seen."""
        return [(watched, size) for _, watched, size in self._health_monitor.folders.over_limit().values()]

    def resume_after_low_disk(self) -> None:
        """Start the queued sessions again, unless all is paused."""
        self._is_disk_low = False
        self._sweep_wakeup.set()
        self._start_queued()

    def pause(self) -> None:
        """Start nothing until `resume`: sessions with work wait. May be called before `opened`."""
        self._is_paused = True

    def interrupt(self) -> None:
        """Stop every container gracefully within two seconds, while paused or low on disk. Their turns are run again
        later, and the attempt does not count."""
        for slot in self._pool:
            self._bus.publish(SessionWorking(slot.session_id, frozenset()))
            self._stop_if_paused(slot)

    def resume(self) -> None:
        """Start the queued sessions again after a pause."""
        self._is_paused = False
        self._sweep_wakeup.set()
        self._start_queued()

    def status(self, session: SessionId) -> ContainerStatus:
        """Returns the state of the session's container and its last failure."""
        slot = self._pool.get(session)
        state = ContainerState(slot.state.value) if slot is not None else ContainerState.NONE
        if slot is None and self._pool.is_queued(session):
            state = ContainerState.WAITING
        failure = self._start_backoff.failures().get(session)
        return ContainerStatus(state=state, failure=failure.reason if failure else "")

    async def sweep(self) -> None:
        """Run for ever: wake sessions with due work, stop idle containers. Sleeps until more is due, at most the sweep
        interval."""
        while True:
            checked_at = self._clock.now()
            await self._sweep_once(checked_at)
            await self._sleep_until_due(checked_at)

    async def stop_all(self) -> None:
        """Start nothing more, stop every container and wait until all are gone."""
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
        """Whether the session has work and waits for a free container."""
        return self._pool.is_queued(session)

    def failures(self) -> dict[SessionId, FailureInfo]:
        """Returns the sessions whose containers fail, and why."""
        return self._start_backoff.failures()

    def throttled(self) -> dict[SessionId, str]:
        """Returns the sessions whose runners write more acks than allowed, with the reason."""
        return self._ack_processor.throttled()

    def unsaved_conversations(self) -> dict[SessionId, datetime]:
        """Returns the sessions whose conversations are not saved, and since when that is known."""
        return self._health_monitor.unsaved_conversations()

    def stalled_s(self, session: SessionId) -> float:
        """Returns the seconds since the session's turn last showed progress; 0 if no turn runs."""
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
        """Stop the container if all is paused or the disk is low. A starting container is stopped once it runs."""
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
            self._sweep_wakeup.set()  # health checks of the container begin now, not with the next sweep
            self._hold_workers.notify(id)  # the session may have been put on hold meanwhile

    async def _check_folders(self, id: SessionId) -> None:
        """Count the session's folders before its container writes there: briefly, or wholly if they could not be
        counted while containers wrote them. Raises SessionHeld if one is over its limit, StoreError if the hold cannot
        be recorded."""
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
        """Free the slot of a held session. This is no failure."""
        self._pool.remove(slot.session_id)
        self._containers_changed.set()
        self._start_queued()
        await self._apply_hold(slot.session_id)

    async def _apply_hold(self, id: SessionId) -> None:
        """Stop the container of a held session and notify those who wait; wake a released session."""
        session = await sessions.get(self._store, id)
        await self._record_pending_hold(session)
        is_changed = id in self._changed_hold_sessions
        self._changed_hold_sessions.discard(id)  # before the read: a change during it is handled by the next run
        try:
            hold = await holds.find(self._store, id)
        except StoreError:
            self._changed_hold_sessions |= {id} if is_changed else set()
            raise
        if hold is None:
            self._unnotified.discard(id)
            # A session that was not held keeps its start backoff: every start ends with this check.
            if is_changed and self._pool.get(id) is None and _is_due(session.due_at, self._clock.now()):
                self._start_backoff.reset(id)
                self.wake(id)
            return
        if self.stop(id):
            _log.warning("container_held", session=id, by=hold.created_by, reason=hold.reason)
        self._unnotified.add(id)
        if await self._hold_service.notify_waiting(session, hold):
            self._unnotified.discard(id)

    async def _record_pending_hold(self, session: Session) -> None:
        """Record the session's pending hold, if it has one. Raises StoreError; then the worker retries."""
        if (found := self._pending_holds.get(session.id)) is not None:
            await self._hold_service.place_hold(session, found)
            del self._pending_holds[session.id]
            self._mailbox_stops.reset(session.id)
            _log.warning("session_held", session=session.id, reason=found.detail)

    async def _handle_start_failure(self, slot: Slot, error: Exception) -> None:
        is_expected = isinstance(error, NanohostError)
        _log.error(
            "container_not_started",
            session=slot.session_id,
            error=str(error) or type(error).__name__,
            hint=error.hint if isinstance(error, NanohostError) else "",
            exc_info=None if is_expected else error,
        )
        if slot.container is not None:
            await self._runtime.stop(slot.container, grace_s=STOP_GRACE_S)  # a step after the start failed
        await self._release_container(slot.session_id, slot.lease)
        reason = f"no container: {str(error) or type(error).__name__}"
        failure_count = self._start_backoff.record_failure(slot.session_id, self._clock.monotonic(), reason)
        self._sweep_wakeup.set()
        if failure_count == 1:
            await self._reaper.notify_waiting(slot.session_id, start_failure_notice(error))

    def _on_started(self, slot: Slot, container: Container) -> None:
        slot.container = container
        self._mailboxes.reset_backoff(slot.session_id)
        self._containers_changed.set()
        if slot.state is SlotState.STARTING:
            slot.state = SlotState.RUNNING

    async def _check_alive(self, slot: Slot) -> None:
        """Report the container's death if it has exited: an earlier report, before its slot knew it, was ignored."""
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
        self.on_death(slot.container)  # one worker reaps it, however often its death is reported

    async def _reap(self, key: tuple[SessionId, LeaseId]) -> None:
        """Clean up after a container that is gone: free its slot, process its last acks, look for remaining work."""
        id, lease = key
        slot = self._pool.get(id)
        if slot is not None and slot.lease == lease:
            if slot.state is SlotState.STARTING and slot.container is None:
                return  # the start is still in progress and checks by itself whether the container lives
            was_stopped = lease in self._stopped_leases
            if lease not in self._exit_causes:
                self._exit_causes[lease] = "" if was_stopped else await self._reaper.exit_cause(slot)
                if cause := self._exit_causes[
                    lease
                ]:  # before the slot is freed, so that a wake meanwhile respects the backoff
                    self._start_backoff.record_failure(id, self._clock.monotonic(), cause)
            crash_point("containers.reaping")
            await self._release_container(id, lease)
            crash_point("containers.reaped")
            _log.info("container_exited", session=id, lease=lease, ordered=was_stopped)
        if lease in self._exit_causes:  # not reaped yet; if a step below fails, the worker retries it
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
        """Finish the session after its container is gone. `cause`: why it died; empty after an ordered stop."""
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

    # --- acks, control messages and adoption ---

    async def _process_acks(self, id: SessionId) -> None:
        if not await self._wait_for_budget(id):
            return
        wakes = self._wakes(id)
        state = await self._ack_processor.process(id)
        if id in self._acks_processed:
            self._acks_processed[id].set()
        if state is None:
            return
        busy = state.open_claims > 0 or _is_due(state.due_at, self._clock.now())
        if (slot := self._pool.get(id)) is not None:
            slot.is_busy = busy or self._wakes(id) != wakes  # work that arrived meanwhile is processed next
            if state.has_progressed:
                self._start_backoff.reset(id)
            if slot.is_draining and not state.open_claims and slot.state is SlotState.RUNNING:
                _log.info("container_replaced", session=id)
                self._begin_stop(slot)
        if state.has_changed and state.due_at is not None and self._is_for_sweep(id, state.due_at):
            self._sweep_wakeup.set()
        if state.more or self._wakes(id) != wakes:
            self._ack_workers.notify(id)
        self._start_queued()  # a queued session may now replace an idle container

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
        """Wait until the session's ack budget allows more. Returns False if the host is closing."""
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
        """Wait for the runner to carry out its control messages. If it does not, stop its container and close them."""
        session = await sessions.get(self._store, id)
        if not await self._await_control(session):
            slot = self._pool.get(id)
            if slot is not None and slot.container is not None and slot.state is not SlotState.STOPPING:
                _log.warning("container_stop_ignored", session=id, after_s=CONTROL_TIMEOUT_S)
                slot.grace_s = UNRESPONSIVE_GRACE_S
                await self._stop(id)
            await self._control_messages.close_open(session)
        self._ack_workers.notify(id)  # the due messages may be those that were stopped

    async def _await_control(self, session: Session) -> bool:
        until = self._clock.monotonic() + CONTROL_TIMEOUT_S
        processed = self._acks_processed[session.id] = asyncio.Event()
        try:
            while await self._control_messages.has_open(session):
                left_s = until - self._clock.monotonic()
                if left_s <= 0 or self._pool.get(session.id) is None:
                    return False
                await _wait_for_first(self._clock.sleep(left_s), processed.wait())
                processed.clear()
            return True
        finally:
            del self._acks_processed[session.id]

    async def _adopt_all(self) -> None:
        """Adopt living containers that are on record, free the leases of dead ones, stop containers without record."""
        found = await scan_containers(self._store, self._runtime)
        for session, container in found.adoptable:
            await self._adopt_or_stop(session, container)
        for session in found.lost:
            assert session.lease is not None
            await self._free_lease(session, session.lease)
        async for session in sessions.iter_all(self._store.reports):
            # The last host may have been killed after a container's end, before it read the container's last rows.
            self._bus.publish(OutboxNeedsRead(session.id))
        for id in await sessions.list_due_and_held(self._store, self._clock.now()):
            # The last host may have been killed before it notified those who wait; the sweep wakes no held session.
            self._hold_workers.notify(id)
        for container in found.orphans:
            _log.warning("orphan_container_stopped", session=container.session_id, lease=container.lease)
            await self._runtime.stop(container, grace_s=STOP_GRACE_S)

    async def _adopt_or_stop(self, session: Session, container: Container) -> None:
        """Adopt the container, or stop it if its mailbox or gateway socket cannot be opened: the host starts anyway."""
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
                self._ack_workers.notify(session.id)  # it may be done without a notification
        idle_before = self._clock.monotonic() - self._settings.idle_timeout_s
        for slot in self._pool.idle_since(idle_before):
            _log.info("container_idle", session=slot.session_id)
            self._begin_stop(slot)
        self._check_all_outboxes()
        if not self._health_monitor.next_check_s():
            await self._stop_stuck({session.id for session in due})
        self._start_queued()

    async def _stop_stuck(self, due: set[SessionId]) -> None:
        """Check the running containers and stop those that are stuck: their claims are freed, as after any death."""
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
        for id in self._health_monitor.unsaved_conversations().keys() - before.keys():
            _log.warning("conversation_not_recorded", session=id, hint="is its state folder full, or read-only?")
            await self._hold_service.notify_unsaved(id)

    async def _warn_about_large_folders(self) -> None:
        """Warn the owners once for each folder and limit. The status shows such a folder for as long as it lasts."""
        for path, (session, watched, size) in self._health_monitor.folders.over_limit().items():
            if path not in self._warned_folders and await self._hold_service.warn_about_size(session, watched, size):
                self._warned_folders.add(path)

    async def _stop_writers(self, session: Session) -> set[SessionId]:
        """Stop gracefully all containers that write the session's folders that need an idle scan.

        Returns the sessions whose containers still live.
        """
        folders = self._health_monitor.folders.folders_needing_idle_scan(session)
        writers = {session.id} if folders else set()
        if any(watched.is_group_wide for watched in folders):
            writers |= set(await holds.list_affected_sessions(self._store, session.agent_group_id))
        living = {slot.session_id for slot in self._pool if slot.container is not None} & writers
        for id in living:
            self.stop(id)
        return living

    def _stop_stuck_slot(self, slot: Slot, stuck: Stuck) -> None:
        """Stop a stuck container. Its end counts as a death if the slot has a failure reason."""
        _log.warning("container_stuck", session=slot.session_id, reason=stuck.reason, sentence=stuck.detail)
        self._begin_stop(slot)

    def _stop_blocked_slot(self, slot: Slot, stuck: Stuck) -> None:
        """Stop a container that blocks its mailbox: this counts as a death; after MAX_STOPS it is held instead."""
        stuck = escalate(stuck, self._mailbox_stops.record_stop(slot.session_id, self._clock.monotonic()))
        if stuck.should_hold:
            self._pending_holds[slot.session_id] = stuck
            self._hold_workers.notify_now(slot.session_id)
        else:
            slot.failure_reason = stuck.detail
        self._stop_stuck_slot(slot, stuck)

    async def _place_hold(self, session: Session, stuck: Stuck) -> bool:
        """Hold the session. Returns False if the disk is too full to record it; then its end counts as a death."""
        try:
            await self._hold_service.place_hold(session, stuck)
        except StoreError as error:
            _log.error("hold_failed", session=session.id, error=str(error), hint=error.hint)
            return False
        return True

    def _next_check_s(self) -> float:
        """Returns the seconds until the next health check. Idle containers are checked too, since they can write."""
        any_running = any(slot.state is SlotState.RUNNING for slot in self._pool)
        return self._health_monitor.next_check_s() if any_running else self._settings.sweep_interval_s

    def _check_all_outboxes(self) -> None:
        """Have every outbox read once a sweep interval: events and polls may miss a change, as of a locked file."""
        now = self._clock.monotonic()
        if now - self._last_outbox_check < self._settings.sweep_interval_s:
            return
        self._last_outbox_check = now
        for slot in self._pool:
            self._ack_workers.notify(slot.session_id)
            self._bus.publish(OutboxNeedsRead(slot.session_id))

    async def _sleep_until_due(self, checked_at: datetime) -> None:
        """Sleep until the first work that was not due at `checked_at`. A later time would miss work due in between."""
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
