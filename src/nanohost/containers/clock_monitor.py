"""Detects that the wall clock was set back, and moves deadlines forward that were computed from the old time.

Retries, repeated sends, model backoffs and tasks "in ten minutes" are stored as wall clock times, so that a restart
keeps them. If the clock is set back an hour, each would wait an hour too long. A clock that is set forward only makes
them due. Never: changes a task for which somebody named a time of day, since that follows the clock as it is.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from nanohost.clock import Clock
from nanohost.db import deliveries, sessions, tasks, turn_failures
from nanohost.db.database import Store
from nanohost.db.domain_events import SessionHasWork
from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session

CHECK_INTERVAL_S = 5.0
MIN_JUMP_S = 10.0
"""Smaller steps are normal clock corrections; a retry may be late by so much."""

_log = structlog.get_logger()


class ClockMonitor:
    """One per host."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock

    async def run(self) -> None:
        """Run for ever: compare the wall clock with the monotonic clock."""
        while True:
            wall, passed_s = self._clock.now(), self._clock.monotonic()
            await self._clock.sleep(CHECK_INTERVAL_S)
            if (by := self._backward_jump(wall, passed_s)) >= timedelta(seconds=MIN_JUMP_S):
                await self._shift_deadlines(by)

    def _backward_jump(self, wall: datetime, monotonic_s: float) -> timedelta:
        """Returns by how much the clock jumped back since `wall`; 0 if it advanced, however slowly."""
        now = self._clock.now()
        if now >= wall:
            return timedelta()
        return wall - now + timedelta(seconds=self._clock.monotonic() - monotonic_s)

    async def _shift_deadlines(self, offset: timedelta) -> None:
        now = self._clock.now()
        _log.warning("clock_jumped_back", by_s=round(offset.total_seconds()))
        async with self._store.transaction() as tx:
            held = await turn_failures.bring_forward(tx, by=offset, now=now)
            await deliveries.bring_forward(tx, by=offset, now=now)
            await tasks.bring_forward(tx, by=offset, now=now)
        later = {session.id: session for session in await sessions.list_due_later(self._store, now)}
        for id in held.keys() - later.keys():
            later[id] = await sessions.get(self._store, id)
        for session in later.values():
            try:
                await self._shift_session_deadlines(session, offset, now, held.get(session.id))
            except MailboxError as error:
                _log.warning("session_deadlines_not_shifted", session=session.id, error=str(error))

    async def _shift_session_deadlines(
        self, session: Session, offset: timedelta, now: datetime, held_until: datetime | None
    ) -> None:
        """Move the deadlines in a session's mailbox. For a session in backoff the ack processor finds its due time
        again: SessionHasWork triggers that."""
        await self._mailboxes.update(
            session, lambda box: box.reschedule_earlier(shift=offset, now=now, held_until=held_until)
        )
        if held_until is None and session.due_at is not None:
            async with self._store.transaction() as tx:
                await sessions.replace_due(
                    tx, session.id, expected=session.due_at, due=max(now, session.due_at - offset)
                )
        self._store.bus.publish(SessionHasWork(session.id))
