"""Carries the pause out: has everybody stop, says what was cut, and has everybody go on.

Promises: what is on record counts (store/paused.py), whoever wrote it and whenever; a host that starts paused stays so,
and ends what outlived the last one. Which turns were under way is on record before the first of them is ended, unless
the disk refuses it, and said once. Sending needs no word of it: each send asks the record itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Protocol

import structlog

from nanohost.chat_commands.pause import cut_in_words
from nanohost.clock import Clock
from nanohost.errors import MailboxError
from nanohost.event_bus import Subscription
from nanohost.lanes import Lanes
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session
from nanohost.store import host_messages, paused, sessions
from nanohost.store.database import Store
from nanohost.store.domain_events import PauseChanged
from nanohost.store.paused import CutTurn, Paused
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.times import to_text

LOOK_WITHIN_S = 0.4
"""At each runner's file: the turns are to be ended within two seconds, known or not."""
_ALL = "all"

_log = structlog.get_logger()


class Containers(Protocol):
    """Whoever starts and stops them: the keeper."""

    def rest(self) -> None: ...

    def cut(self) -> None: ...

    def go_on(self) -> None: ...


class Sends(Protocol):
    """Whoever sends: delivery."""

    async def go_on(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the pause that began `at` found, kept for a disk that refuses it at first: it is cut all the same."""

    at: datetime
    containers: int
    turns: Sequence[CutTurn]


class Pausing:
    """One per host."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        containers: Containers,
        sends: Sends,
        zone: tzinfo,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._containers = containers
        self._sends = sends
        self._zone = zone
        self._lanes = Lanes[str]("pausing", self._look, clock)
        self._found: _Found | None = None
        self.known: Paused | None = None
        """The pause that is being kept to, as it was last seen."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep to what is on record while entered. Entered before anything is started: a host that is paused starts
        nothing."""
        self.known = await paused.find(self._store)
        if self.known is not None:
            self._containers.rest()
            _log.warning("paused", by=self.known.by, since=to_text(self.known.at), hint="nanohost resume")
        with self._store.bus.subscribed(Subscription(PauseChanged, lambda _: self.look())):
            async with self._lanes.opened():
                yield

    def look(self) -> None:
        """The pause may have begun or ended. Returns at once."""
        self._lanes.hurry(_ALL)

    async def _look(self, _: str) -> None:
        was, self.known = self.known, await paused.find(self._store)
        if self.known is None:
            if was is not None:
                _log.warning("resumed", since=to_text(was.at))
            self._containers.go_on()
            await self._sends.go_on()
            return
        if was is None:
            _log.warning("paused", by=self.known.by, hint="nanohost resume")
        self._containers.rest()
        try:
            if self.known.cut is None:
                await self._note(self.known)
        finally:
            self._containers.cut()

    async def _note(self, pause: Paused) -> None:
        """Put on record which turns are under way, and say so where the pause was asked for."""
        if self._found is None or self._found.at != pause.at:
            self._found = await self._under_way(pause)
        cut = self._found.turns
        async with self._store.transaction() as tx:
            if not await paused.note_cut(tx, pause, cut):
                return
            if pause.place is not None and self._found.containers:
                now = self._clock.now()
                text = cut_in_words(cut, now, self._zone)
                out_id = derive("h", "cut", to_text(pause.at))
                await host_messages.say(tx, pause.place, ChatOut(text=text), out_id=out_id, now=now)

    async def _under_way(self, pause: Paused) -> _Found:
        leased = await sessions.leased(self._store)
        found = await asyncio.gather(*(self._turn_of(session) for session in leased))
        return _Found(at=pause.at, containers=len(leased), turns=[one for one in found if one is not None])

    async def _turn_of(self, session: Session) -> CutTurn | None:
        unknown = CutTurn(agent_group=session.group_folder, since=None)
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                doing = await self._mailboxes.outbound(session, queries.progress())
        except (MailboxError, TimeoutError) as error:
            _log.warning("turn_unknown", session=session.id, error=str(error) or "too slow")
            return unknown
        if doing is None:
            return unknown
        return CutTurn(agent_group=session.group_folder, since=doing.since) if doing.since else None
