"""Wakes, idles and stops containers.

Promises: a session has at most one container, because its lease is in the database before the container is started;
whatever is due gets one, in order of arrival, as far as `max_containers` goes; a container that dies takes nothing
with it: its claims become due again. One that is stuck is stopped, which counts as a death; one that fills the disk, or
keeps the host from its mailbox again and again, is held, too. Living containers outlast the host and are adopted at the
next start. One whose runner does not obey a person is ended within two seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from nanohost.access.telling import tell_slowed
from nanohost.chat_commands.command import ContainerState, Look
from nanohost.clock import Clock
from nanohost.errors import NanohostError, StoreError
from nanohost.event_bus import Subscription
from nanohost.keeper.acks import AckTaker
from nanohost.keeper.adoption import is_outdated, look_around
from nanohost.keeper.blocked import MailboxStops, stopped_again
from nanohost.keeper.burial import Burial
from nanohost.keeper.cause import Growth
from nanohost.keeper.footprint import Uncounted, Watched
from nanohost.keeper.health import Health
from nanohost.keeper.held import Holding, SessionHeld
from nanohost.keeper.orders import DISOBEDIENT_GRACE_S, OBEY_WITHIN_S, Orders
from nanohost.keeper.pauses import Pauses, Trouble
from nanohost.keeper.sentences import CRASHES, no_container
from nanohost.keeper.slots import STOP_GRACE_S, Slot, Slots, SlotState
from nanohost.keeper.starter import SessionServices, Starter
from nanohost.keeper.stuck import DISK, MAILBOX, Limits, Stuck
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.news import OutboxNews
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import LeaseId, Session, SessionId
from nanohost.runtimes.port import Container, Exited, Runtime
from nanohost.store import holds, sessions
from nanohost.store.database import Store
from nanohost.store.domain_events import (
    HoldChanged,
    MailboxBlocked,
    OutboxChanged,
    OutboxToRead,
    SessionHasOrders,
    SessionHasWork,
    SessionWorking,
)
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import draw

TOLD_AFTER_DEATHS = 2
"""In a row, and before anything was taken over: the person who waits is told."""
CUT_GRACE_S = 1.5
"""For a turn to be given back when all is paused; whoever asked for that wants it soon."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """Counts and seconds, from [host]."""

    max_containers: int
    idle_timeout_s: float
    sweep_interval_s: float
    limits: Limits
    groups: Path | None = None
    """Where the agent groups' folders are."""


class Keeper:
    """One per host. Emits OutboxToRead when a session's outbound.db may hold something to deliver."""

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
        self._starter = Starter(store=store, mailboxes=mailboxes, runtime=runtime, news=news, services=services)
        self._slots = Slots(settings.max_containers)
        self._ended: set[LeaseId] = set()
        self._causes: dict[LeaseId, str] = {}
        """Why those containers died whose place is free and whose claims may not be: kept until all of it is done."""
        self._pauses = Pauses()
        self._health = Health(mailboxes, clock, settings.limits, settings.groups)
        self._looked = clock.monotonic()
        self._kick = asyncio.Event()
        self._moved = asyncio.Event()
        """A container came up or went: one that is starting can be stopped, one that was stopped is buried."""
        self._closing = False
        self._resting = False
        self._short_of_disk = False
        self._is_to_count = False
        """The disk got short, and who made it so is not known yet: no log is cut before that."""
        self._long_logs: set[SessionId] = set()
        """Those that are to be cut then."""
        self._warned: set[Path] = set()
        """Folders whose size the owners were told of."""
        self._starts = Lanes[SessionId]("start", self._start, clock)
        self._stops = Lanes[SessionId]("stop", self._stop, clock)
        self._acks = Lanes[SessionId]("acks", self._take_acks, clock)
        self._deaths = Lanes[tuple[SessionId, LeaseId]]("death", self._bury, clock)
        self._obeying = Lanes[SessionId]("obey", self._see_obeyed, clock)
        self._holds = Lanes[SessionId]("holds", self._see_hold, clock)
        self._holding = Holding(store=store, mailboxes=mailboxes, clock=clock)
        self._blocked = MailboxStops()
        self._to_hold: dict[SessionId, Stuck] = {}
        """They are to be held, and it is not on record yet."""
        self._changed_holds: set[SessionId] = set()
        """Sessions that were put on hold or let go on, which nobody has looked at since."""
        self._untold: set[SessionId] = set()
        """They are held, and their mailbox did not say whom to tell: asked again when their container is gone."""
        self._taken: dict[SessionId, asyncio.Event] = {}
        """Set for who waits until acks were taken over."""
        self._again: set[SessionId] = set()
        """They get another container as soon as the one they have is gone."""
        self._orders = Orders(store=store, mailboxes=mailboxes, clock=clock)
        self._taker = AckTaker(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            alive=self._is_alive,
            ended_by_us=self._ended.__contains__,
            shows_work=lambda: not self._resting,
            outbox=outbox,
        )
        self._burial = Burial(store=store, mailboxes=mailboxes, taker=self._taker, orders=self._orders, clock=clock)

    # --- life ---

    @asynccontextmanager
    async def opened(self, *, keep_containers: bool) -> AsyncIterator[None]:
        """Adopt what lives, tidy what does not, then serve. Leaving starts nothing new.

        `keep_containers`: leave them running for the next host, or stop them.
        """
        async with AsyncExitStack() as stack:
            for lanes in (self._acks, self._deaths, self._stops, self._starts, self._obeying, self._holds):
                await stack.enter_async_context(lanes.opened())
            stack.enter_context(self._bus.subscribed(*self._subscriptions()))
            await self._taker.restore()
            await self._adopt()
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
            Subscription(OutboxChanged, lambda event: self.on_change(event.session)),
            Subscription(SessionHasOrders, lambda event: self.obey(event.session)),
            Subscription(HoldChanged, lambda event: self.on_hold(event.session)),
            Subscription(MailboxBlocked, lambda event: self.stop_blocked(event.session, event.why)),
        )

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
            slot.wakes += 1
            if slot.state is not SlotState.STOPPING:
                # Its runner may have been done with it before it was on record; if its model cannot be asked, no runner
                # takes it, and who wrote is told.
                self._acks.poke(session)
                return
        if self._taker.is_held(session):
            self._acks.poke(session)
            return  # the sweep wakes it when its model can be asked
        if slot is None and not self._pauses.over(session, self._clock.monotonic()):
            return  # the sweep wakes it when its pause is over
        self._slots.wait(session)
        self._pump()

    def obey(self, session: SessionId) -> None:
        """There are orders for the session's runner: it has two seconds, and needs none if there is no runner."""
        self._obeying.hurry(session)

    def restart(self, session: SessionId, *, now: bool) -> bool:
        """Have the session's container replaced: when it has ended its turn, or `now`, and then the turn is run again
        by the next. False if it has none."""
        slot = self._slots.get(session)
        if slot is None or slot.state is SlotState.STOPPING:
            return False
        self._again.add(session)
        slot.retiring = True
        if now and slot.container is not None:
            self._end(slot)
        self._acks.poke(session)
        return True

    def stop(self, session: SessionId) -> bool:
        """Stop the session's container in order. False if it has none that runs."""
        slot = self._slots.get(session)
        if slot is None or slot.state is not SlotState.RUNNING:
            return False
        self._end(slot)
        return True

    def stop_blocked(self, session: SessionId, why: str) -> None:
        """Stop the session's container, which keeps its own files from being read or written: a death like any other.
        `why` is for the operator."""
        slot = self._slots.get(session)
        if slot is not None and slot.state is SlotState.RUNNING:
            self._stop_blocked_one(slot, Stuck(reason=MAILBOX, sentence=why))

    def on_hold(self, session: SessionId) -> None:
        """The session, or its agent group, was put on hold or let go on: that is on record."""
        self._changed_holds.add(session)
        self._holds.hurry(session)

    def stop_for_disk(self) -> None:
        """The disk is nearly full: stop every container in order, and start nothing until `disk_has_room`."""
        self._short_of_disk = self._is_to_count = True
        self.cut()

    async def growths(self) -> list[Growth]:
        """After `stop_for_disk`: how much the folders have grown that were written lately. Waits for the containers to
        be gone, but not long for one that does not go. Their logs are cut when they are counted: a log that filled the
        disk would keep it full."""
        until = self._clock.monotonic() + STOP_GRACE_S
        while len(self._slots) and (left_s := until - self._clock.monotonic()) > 0:
            self._moved.clear()
            await _first_of(self._clock.sleep(left_s), self._moved.wait())
        try:
            return await self._health.folders.growths()
        finally:
            self._is_to_count = False
            while self._long_logs:
                await self._burial.cut_log(self._long_logs.pop())

    async def hold_for_disk(self, session: Session, sentence: str, *, of_group: bool) -> bool:
        """Have who made the disk short stay stopped, if it is still there. False: the disk refuses even that."""
        return await self._hold(session, Stuck(reason="disk", sentence=sentence, hold=True, of_group=of_group))

    def large_folders(self) -> list[tuple[Watched, int]]:
        """The folders that are above their limit and not held for it, and the bytes they took when first seen."""
        return [(watched, size) for _, watched, size in self._health.folders.above().values()]

    def disk_has_room(self) -> None:
        """Start what waits, unless all is paused."""
        self._short_of_disk = False
        self._kick.set()
        self._pump()

    def rest(self) -> None:
        """Start nothing until `go_on`: who has work waits. May be called before the keeper is opened."""
        self._resting = True

    def cut(self) -> None:
        """While at rest: stop every container in order, within two seconds. Their turns are run again later, and no try
        is used up."""
        for slot in self._slots:
            self._bus.publish(SessionWorking(slot.session_id, frozenset()))
            self._end_if_resting(slot)

    def go_on(self) -> None:
        """Start what waits."""
        self._resting = False
        self._kick.set()
        self._pump()

    def look(self, session: SessionId) -> Look:
        """How a session stands with containers."""
        slot = self._slots.get(session)
        state = ContainerState(slot.state.value) if slot is not None else ContainerState.NONE
        if slot is None and self._slots.is_waiting(session):
            state = ContainerState.WAITING
        trouble = self._pauses.troubles().get(session)
        return Look(state=state, trouble=trouble.reason if trouble else "")

    async def sweep(self) -> None:
        """For ever: wake what is due, stop what is idle. Sleeps until the next thing is due, or the sweep interval."""
        while True:
            looked = self._clock.now()
            await self._sweep_once(looked)
            await self._sleep_until_due(looked)

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

    def is_waiting(self, session: SessionId) -> bool:
        """Whether it has work, and no container because there is no room."""
        return self._slots.is_waiting(session)

    def troubles(self) -> dict[SessionId, Trouble]:
        """The sessions whose containers fail, and why."""
        return self._pauses.troubles()

    def slowed(self) -> dict[SessionId, str]:
        """The sessions whose runners say more of their messages than they may, and what there is too much of."""
        return self._taker.slowed()

    def unkept(self) -> dict[SessionId, datetime]:
        """The sessions whose conversations are not kept, and since when that is known."""
        return self._health.unkept()

    def quiet_s(self, session: SessionId) -> float:
        """For how long the turn of the session's container has shown nothing; 0 when none runs."""
        slot = self._slots.get(session)
        return 0.0 if slot is None else self._health.quiet_s(slot.lease)

    # --- start and stop ---

    def _pump(self) -> None:
        if self._closing or self._resting or self._short_of_disk:
            return
        while (session := self._slots.next()) is not None:
            now = self._clock.monotonic()
            slot = Slot(session_id=session, lease=LeaseId(draw("l")), state=SlotState.STARTING, touched=now, since=now)
            self._slots.add(slot)
            self._starts.poke(session)
        if (idle := self._slots.to_evict()) is not None:
            _log.info("container_evicted", session=idle.session_id, waiting=len(self._slots.waiting()))
            self._end(idle)

    def _end(self, slot: Slot) -> None:
        slot.state = SlotState.STOPPING
        self._stops.poke(slot.session_id)

    def _end_if_resting(self, slot: Slot) -> None:
        """One that is just starting is ended as soon as it has started, if all rests by then."""
        if not (self._resting or self._short_of_disk) or slot.state is SlotState.STARTING:
            return
        slot.grace_s = CUT_GRACE_S
        if slot.state is SlotState.RUNNING:
            self._end(slot)

    async def _start(self, id: SessionId) -> None:
        slot = self._slots.get(id)
        if slot is None or slot.state is not SlotState.STARTING or slot.container is not None:
            return
        try:
            await self._count_folders(id)
            await self._starter.start(slot, self._came_up)
            await self._see_whether_it_lives(slot)
            self._end_if_resting(slot)
        except SessionHeld:
            await self._start_later(slot)
        except Exception as error:
            await self._give_up_start(slot, error)
        else:
            self._acks.poke(id)
            self._bus.publish(OutboxToRead(id))
            self._kick.set()  # it is to be looked at from now on, and not from the next sweep on
            self._holds.poke(id)  # it may have been put on hold meanwhile

    async def _count_folders(self, id: SessionId) -> None:
        """What was in the session's folders before its container writes there, and all that is if that cannot be
        counted while it does. Raises SessionHeld if it is too much, StoreError if that cannot be put on record."""
        session = await sessions.get(self._store, id)
        while await self._stop_writers(session):
            self._moved.clear()
            await self._moved.wait()
        if (grown := await self._health.folders.before_start(session)) is None:
            return
        found = Stuck(reason=DISK, sentence=grown.sentence, hold=True, of_group=grown.of_group)
        await self._holding.hold_stuck(session, found)
        raise SessionHeld(f"session {id} is held: {grown.sentence}")

    async def _start_later(self, slot: Slot) -> None:
        """It is held: nothing failed, and its place is free for others."""
        self._slots.remove(slot.session_id)
        self._moved.set()
        self._pump()
        await self._see_hold(slot.session_id)

    async def _see_hold(self, id: SessionId) -> None:
        """Stop the container of a session that is held; wake one that goes on."""
        session = await sessions.get(self._store, id)
        await self._hold_blocked(session)
        is_changed = id in self._changed_holds
        self._changed_holds.discard(id)  # before the look: a change during it is looked at again
        try:
            hold = await holds.find(self._store, id)
        except StoreError:
            self._changed_holds |= {id} if is_changed else set()
            raise
        if hold is None:
            self._untold.discard(id)
            # Who was not on hold has its pause: this look may be the one that every start ends with.
            if is_changed and self._slots.get(id) is None and _is_due(session.due_at, self._clock.now()):
                self._pauses.forget(id)
                self.wake(id)
            return
        if self.stop(id):
            _log.warning("container_held", session=id, by=hold.by, reason=hold.reason)
        self._untold.add(id)
        if await self._holding.tell_waiting(session, hold):
            self._untold.discard(id)

    async def _hold_blocked(self, session: Session) -> None:
        """Put on record that it is held, if it is to be. Raises StoreError: tried again."""
        if (found := self._to_hold.get(session.id)) is not None:
            await self._holding.hold_stuck(session, found)
            del self._to_hold[session.id]
            self._blocked.forget(session.id)
            _log.warning("session_held", session=session.id, reason=found.sentence)

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
            await self._burial.tell_waiting(slot.session_id, no_container(error))

    def _came_up(self, slot: Slot, container: Container) -> None:
        slot.container = container
        self._mailboxes.forgive(slot.session_id)
        self._moved.set()
        if slot.state is SlotState.STARTING:
            slot.state = SlotState.RUNNING

    async def _see_whether_it_lives(self, slot: Slot) -> None:
        """News of a death before we knew the container went nowhere."""
        if slot.container is not None and isinstance(await self._runtime.poll(slot.container), Exited):
            self.on_death(slot.container)

    async def _stop(self, id: SessionId) -> None:
        slot = self._slots.get(id)
        if slot is None or slot.container is None:
            return
        slot.state = SlotState.STOPPING
        if not slot.fault:
            self._ended.add(slot.lease)
        await self._runtime.stop(slot.container, grace_s=slot.grace_s)
        self.on_death(slot.container)  # buried by the one worker that buries it, however many heard of it

    async def _bury(self, key: tuple[SessionId, LeaseId]) -> None:
        """A container is gone: free its place, take over its last words, see whether there is work left."""
        id, lease = key
        slot = self._slots.get(id)
        if slot is not None and slot.lease == lease:
            if slot.state is SlotState.STARTING and slot.container is None:
                return  # the start is still under way and will find out by itself
            orderly = lease in self._ended
            if lease not in self._causes:
                self._causes[lease] = "" if orderly else await self._burial.cause(slot)
                if cause := self._causes[lease]:  # while its place is taken: whoever is woken later waits for the pause
                    self._pauses.failed(id, self._clock.monotonic(), cause)
            reach("keeper.burying")
            await self._clear(id, lease)
            reach("keeper.buried")
            _log.info("container_gone", session=id, lease=lease, ordered=orderly)
        if lease in self._causes:  # or it was buried before; if what follows fails it is tried again
            await self._after_death(id, cause=self._causes[lease])
            del self._causes[lease]
            self._ended.discard(lease)

    async def _clear(self, id: SessionId, lease: LeaseId) -> None:
        await self._starter.clear(id, lease)
        self._mailboxes.forgive(id)
        self._taker.budget(id).rest()
        self._slots.remove(id)
        self._bus.publish(SessionWorking(id, frozenset()))
        self._moved.set()

    async def _after_death(self, id: SessionId, *, cause: str) -> None:
        """`cause`: why it counted as a failure; empty for an end in order."""
        self._bus.publish(OutboxToRead(id))
        if self._is_to_count:
            self._long_logs.add(id)
        else:
            await self._burial.cut_log(id)
        await self._burial.take_last_words(id)
        if id in self._untold:
            self._untold.discard(id)
            self._holds.poke(id)
        if cause and self._pauses.in_a_row(id) == TOLD_AFTER_DEATHS:
            await self._burial.tell_waiting(id, CRASHES)
        if id in self._again:
            self._again.discard(id)
            self.wake(id)
        self._kick.set()
        self._pump()

    # --- taking over ---

    async def _take_acks(self, id: SessionId) -> None:
        if not await self._is_within_budget(id):
            return
        wakes = self._wakes(id)
        standing = await self._taker.take(id)
        if id in self._taken:
            self._taken[id].set()
        if standing is None:
            return
        busy = standing.open_claims > 0 or _is_due(standing.due_at, self._clock.now())
        if (slot := self._slots.get(id)) is not None:
            slot.busy = busy or self._wakes(id) != wakes  # work that came meanwhile is looked at next
            if standing.acted:
                self._pauses.forget(id)
            if slot.retiring and not standing.open_claims and slot.state is SlotState.RUNNING:
                _log.info("container_replaced", session=id)
                self._end(slot)
        if standing.changed and standing.due_at is not None:
            self._kick.set()  # it may be due sooner than the sweep looks next
        if standing.more:
            self._acks.poke(id)
        self._pump()  # whoever waits may have the place of one that has nothing to do now

    def _wakes(self, id: SessionId) -> int:
        slot = self._slots.get(id)
        return 0 if slot is None else slot.wakes

    async def _is_within_budget(self, id: SessionId) -> bool:
        """Wait until more of what its runner says is taken over. False: the host is closing."""
        budget = self._taker.budget(id)
        while not budget.may_look(self._clock.monotonic()):
            pause_s = budget.pause_s()
            if budget.pauses == 1:
                _log.warning("session_over_budget", session=id, over=budget.over, next_look_in_s=pause_s)
            if budget.is_to_be_told:
                session = await sessions.get(self._store, id)
                await tell_slowed(self._store, session, budget.over, self._clock.now())
            if not await self._acks.nap(pause_s):
                return False
        return True

    def _is_alive(self, session: Session, lease: LeaseId) -> bool:
        slot = self._slots.get(session.id)
        return slot is not None and slot.lease == lease

    async def _see_obeyed(self, id: SessionId) -> None:
        """Wait for the runner to carry out its orders. One that does not is ended, and the orders with it."""
        session = await sessions.get(self._store, id)
        if not await self._obeyed(session):
            slot = self._slots.get(id)
            if slot is not None and slot.container is not None and slot.state is not SlotState.STOPPING:
                _log.warning("container_disobeys", session=id, after_s=OBEY_WITHIN_S)
                slot.grace_s = DISOBEDIENT_GRACE_S
                await self._stop(id)
            await self._orders.settle(session)
        self._acks.poke(id)  # what was due may have been what was stopped

    async def _obeyed(self, session: Session) -> bool:
        until = self._clock.monotonic() + OBEY_WITHIN_S
        taken = self._taken[session.id] = asyncio.Event()
        try:
            while await self._orders.are_open(session):
                left_s = until - self._clock.monotonic()
                if left_s <= 0 or self._slots.get(session.id) is None:
                    return False
                await _first_of(self._clock.sleep(left_s), taken.wait())
                taken.clear()
            return True
        finally:
            del self._taken[session.id]

    async def _adopt(self) -> None:
        """What lives and is on record goes on, the rest is ended or its claims are freed."""
        found = await look_around(self._store, self._runtime)
        for session, container in found.ours:
            await self._adopt_or_stop(session, container)
        for session in found.lost:
            assert session.lease is not None
            await self._free(session, session.lease)
        async for session in sessions.every(self._store.reports):
            self._bus.publish(
                OutboxToRead(session.id)
            )  # the last host may have been killed between a container's end and its last words
        for id in await sessions.due_and_held(self._store, self._clock.now()):
            self._holds.poke(id)  # the last host may have been killed before it told who waits; the sweep wakes none
        for container in found.strays:
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
        slot.retiring = is_outdated(session, await self._services.spec(session, container.lease), self._runtime)
        await self._starter.surround(session)
        await self._health.folders.begin(session)
        self._acks.poke(session.id)
        self._bus.publish(OutboxToRead(session.id))
        self._obeying.poke(session.id)
        self._holds.poke(session.id)
        _log.info("container_adopted", session=session.id, group=session.group_folder, outdated=slot.retiring)
        await self._see_whether_it_lives(slot)

    async def _free(self, session: Session, lease: LeaseId) -> None:
        async with self._store.transaction() as tx:
            await sessions.release(tx, session.id, lease)
        await self._after_death(session.id, cause="")

    # --- the sweep ---

    async def _sweep_once(self, now: datetime) -> None:
        due = await sessions.due(self._store, now)
        for session in due:
            if self._slots.get(session.id) is None:
                self.wake(session.id)
            else:
                self._acks.poke(session.id)  # it may be done, and nobody noticed
        idle_before = self._clock.monotonic() - self._settings.idle_timeout_s
        for slot in self._slots.idle_since(idle_before):
            _log.info("container_idle", session=slot.session_id)
            self._end(slot)
        self._look_everywhere()
        if not self._health.next_look_s():
            await self._stop_stuck({session.id for session in due})
        self._pump()

    async def _stop_stuck(self, due: set[SessionId]) -> None:
        """Stop the containers that live and do not work: their claims are freed, as after any death."""
        leased = await sessions.leased(self._store)
        await self._health.begin_look({slot.lease for slot in self._slots}, leased)
        before = self._health.unkept()
        for session in leased:
            slot = self._slots.get(session.id)
            if slot is None or slot.lease != session.lease or slot.state is not SlotState.RUNNING:
                continue
            found = await self._health.look(session, slot.lease, due=session.id in due, busy=slot.busy)
            if isinstance(found, Stuck) and found.reason == MAILBOX and slot.state is SlotState.RUNNING:
                self._stop_blocked_one(slot, found)
            elif isinstance(found, Stuck) and slot.state is SlotState.RUNNING:
                if not found.hold or not await self._hold(session, found):
                    slot.fault = found.sentence
                self._stop_stuck_one(slot, found)
            elif isinstance(found, Uncounted):
                _log.warning("folder_not_counted", session=session.id, sentence=found.sentence)
                await self._stop_writers(session)
        await self._warn_of_large_folders()
        for unkept in self._health.unkept().keys() - before.keys():
            _log.warning("conversation_not_kept", session=unkept, hint="is its state folder full, or read-only?")
            await self._holding.tell_unkept(unkept)

    async def _warn_of_large_folders(self) -> None:
        """The owners, once a folder and limit; it is on the status screen for as long as it lasts."""
        for path, (session, watched, size) in self._health.folders.above().items():
            if path not in self._warned and await self._holding.warn_of_size(session, watched, size):
                self._warned.add(path)

    async def _stop_writers(self, session: Session) -> set[SessionId]:
        """Stop, in order, all containers that write what has to be counted at rest. Returns whose still live."""
        resting = self._health.folders.needs_rest(session)
        writers = {session.id} if resting else set()
        if any(watched.of_group for watched in resting):
            writers |= set(await holds.concerned(self._store, session.agent_group_id))
        living = {slot.session_id for slot in self._slots if slot.container is not None} & writers
        for id in living:
            self.stop(id)
        return living

    def _stop_stuck_one(self, slot: Slot, found: Stuck) -> None:
        """Its end counts as a death if it has a fault."""
        _log.warning("container_stuck", session=slot.session_id, reason=found.reason, sentence=found.sentence)
        self._end(slot)

    def _stop_blocked_one(self, slot: Slot, found: Stuck) -> None:
        """It keeps the host from its mailbox: a fault, and when it is one too many it is held in its place."""
        found = stopped_again(found, self._blocked.stopped(slot.session_id, self._clock.monotonic()))
        if found.hold:
            self._to_hold[slot.session_id] = found
            self._holds.hurry(slot.session_id)
        else:
            slot.fault = found.sentence
        self._stop_stuck_one(slot, found)

    async def _hold(self, session: Session, found: Stuck) -> bool:
        """Have it stay stopped. False: the disk refuses even that; its end then counts as a death, with its pauses."""
        try:
            await self._holding.hold_stuck(session, found)
        except StoreError as error:
            _log.error("not_held", session=session.id, error=str(error), hint=error.hint)
            return False
        return True

    def _next_look_s(self) -> float:
        """Until somebody should look at the containers again: also at idle ones, which may write all the same."""
        watched = any(slot.state is SlotState.RUNNING for slot in self._slots)
        return self._health.next_look_s() if watched else self._settings.sweep_interval_s

    def _look_everywhere(self) -> None:
        """Once a sweep interval: what file events and polls missed (a file that was locked just then) is found here."""
        now = self._clock.monotonic()
        if now - self._looked < self._settings.sweep_interval_s:
            return
        self._looked = now
        for slot in self._slots:
            self._acks.poke(slot.session_id)
            self._bus.publish(OutboxToRead(slot.session_id))

    async def _sleep_until_due(self, looked: datetime) -> None:
        """Until what was not due when we looked: asked of any later time, what falls due meanwhile would be missed."""
        wait = timedelta(seconds=self._settings.sweep_interval_s)
        if (due := await sessions.next_due(self._store, looked)) is not None:
            wait = min(wait, due - self._clock.now())
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
