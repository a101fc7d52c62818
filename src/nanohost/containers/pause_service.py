"""Applies the pause: stops all containers, reports which turns were interrupted, and resumes everything afterwards.

Promises: the record (db/paused.py) decides, whoever wrote it and whenever. A host that starts paused stays paused, and
stops containers that outlived the last host. The interrupted turns are recorded before the first of them is stopped,
unless the disk is full, and reported once. Delivery is not told of a pause: each send reads the record itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Protocol

import structlog

from nanohost.chat_commands.pause import format_interrupted_turns
from nanohost.clock import Clock
from nanohost.db import host_messages, paused, sessions
from nanohost.db.database import Store
from nanohost.db.domain_events import PauseChanged
from nanohost.db.paused import InterruptedTurn, PauseState
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session
from nanohost.work.event_bus import Subscription
from nanohost.work.keyed_workers import KeyedWorkers
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.times import to_text

READ_TIMEOUT_S = 0.4
"""For each runner's file: all turns must end within two seconds, whether they could be read or not."""
_KEY = "all"

_log = structlog.get_logger()


class ContainerControl(Protocol):
    """Starts and stops containers; implemented by the container manager."""

    def pause(self) -> None: ...

    def interrupt(self) -> None: ...

    def resume(self) -> None: ...


class DeliveryControl(Protocol):
    """Resumes sending; implemented by delivery."""

    async def resume(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _TurnSnapshot:
    """The turns that the pause of `paused_at` found. Kept in case the disk is full: the turns are interrupted anyway,
    and recorded later."""

    paused_at: datetime
    container_count: int
    turns: Sequence[InterruptedTurn]


class PauseService:
    """One per host."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        containers: ContainerControl,
        delivery: DeliveryControl,
        zone: tzinfo,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._containers = containers
        self._delivery = delivery
        self._zone = zone
        self._workers = KeyedWorkers[str]("pausing", self._apply, clock)
        self._snapshot: _TurnSnapshot | None = None
        self.current: PauseState | None = None
        """The pause that is applied now, as last read."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Apply the recorded pause while entered. Enter it before anything is started: a paused host starts nothing."""
        self.current = await paused.find(self._store)
        if self.current is not None:
            self._containers.pause()
            _log.warning(
                "host_paused",
                by=self.current.created_by,
                since=to_text(self.current.created_at),
                hint="nanohost resume",
            )
        with self._store.bus.subscribed(Subscription(PauseChanged, lambda _: self.check())):
            async with self._workers.opened():
                yield

    def check(self) -> None:
        """Read the record again, since a pause may have begun or ended. Returns at once."""
        self._workers.notify_now(_KEY)

    async def _apply(self, _: str) -> None:
        previous, self.current = self.current, await paused.find(self._store)
        if self.current is None:
            if previous is not None:
                _log.warning("host_resumed", since=to_text(previous.created_at))
            self._containers.resume()
            await self._delivery.resume()
            return
        if previous is None:
            _log.warning("host_paused", by=self.current.created_by, hint="nanohost resume")
        self._containers.pause()
        try:
            if self.current.interrupted_turns is None:
                await self._record_interrupted(self.current)
        finally:
            self._containers.interrupt()

    async def _record_interrupted(self, pause: PauseState) -> None:
        """Record which turns run, and report them in the chat in which the pause was requested."""
        if self._snapshot is None or self._snapshot.paused_at != pause.created_at:
            self._snapshot = await self._snapshot_turns(pause)
        turns = self._snapshot.turns
        async with self._store.transaction() as tx:
            if not await paused.record_interrupted(tx, pause, turns):
                return
            if pause.origin is not None and self._snapshot.container_count:
                now = self._clock.now()
                text = format_interrupted_turns(turns, now, self._zone)
                out_id = derive_id("h", "cut", to_text(pause.created_at))
                await host_messages.enqueue(tx, pause.origin, ChatOut(text=text), out_id=out_id, now=now)

    async def _snapshot_turns(self, pause: PauseState) -> _TurnSnapshot:
        leased = await sessions.list_leased(self._store)
        found = await asyncio.gather(*(self._running_turn(session) for session in leased))
        return _TurnSnapshot(
            paused_at=pause.created_at, container_count=len(leased), turns=[one for one in found if one is not None]
        )

    async def _running_turn(self, session: Session) -> InterruptedTurn | None:
        unknown = InterruptedTurn(agent_group=session.group_folder, since=None)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                progress = await self._mailboxes.read_outbound(session, queries.progress())
        except (MailboxError, TimeoutError) as error:
            _log.warning("turn_unreadable", session=session.id, error=str(error) or "too slow")
            return unknown
        if progress is None:
            return unknown
        return InterruptedTurn(agent_group=session.group_folder, since=progress.since) if progress.since else None
