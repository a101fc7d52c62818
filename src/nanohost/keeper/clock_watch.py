"""Sees that the wall clock was set back, and brings forward what waits by the old one.

Retries and second sends are on disk as times of day, so that a restart keeps them. After a clock went back an hour each
would wait an hour more than it should. A clock that goes forward only makes them due. Never touches when a person or a
provider named the time: tasks and held sessions keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from nanohost.clock import Clock
from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId
from nanohost.store import deliveries, sessions
from nanohost.store.database import Store
from nanohost.store.deliveries import LaneKey

LOOK_EVERY_S = 5.0
LEAST_S = 10.0
"""A clock that is kept right by small steps is no jump; nobody minds a retry that is so much late."""

_log = structlog.get_logger()


class ClockWatch:
    """`wake` and `on_entry` are told of sessions and lanes whose waiting became shorter."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        wake: Callable[[SessionId], None],
        on_entry: Callable[[LaneKey], None],
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._wake = wake
        self._on_entry = on_entry

    async def run(self) -> None:
        """For ever: compare the wall clock with the time that passed."""
        expected = self._ahead_s()
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            found = self._ahead_s()
            if expected - found >= LEAST_S:
                await self._bring_forward(timedelta(seconds=expected - found))
            expected = found

    def _ahead_s(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    async def _bring_forward(self, by: timedelta) -> None:
        _log.warning("clock_went_back", by_s=round(by.total_seconds()))
        for session in await sessions.due_later(self._store, self._clock.now()):
            try:
                await self._bring_session_forward(session, by)
            except MailboxError as error:
                _log.warning("session_not_brought_forward", session=session.id, error=str(error))
        async with self._store.transaction() as tx:
            lanes = await deliveries.bring_forward(tx, by=by, now=self._clock.now())
        for lane in lanes:
            self._on_entry(lane)

    async def _bring_session_forward(self, session: Session, by: timedelta) -> None:
        now = self._clock.now()
        assert session.due_at is not None, "it falls due later"
        if not await self._mailboxes.update(session, lambda box: box.bring_forward(by=by, now=now)):
            return  # held, or not a retry
        async with self._store.transaction() as tx:
            await sessions.replace_due(tx, session.id, seen=session.due_at, due=max(now, session.due_at - by))
        self._wake(session.id)
