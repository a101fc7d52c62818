"""Carries out what agents ask for, one session's requests in order.

Promises: an effect and the mark that it was done are one transaction, so that a kill between them changes nothing;
the agent is told after that, under an id that makes telling it twice the same as once. A request that makes no sense
is refused with a sentence and holds up nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from nanohost.actions.guard import Guard, everything
from nanohost.actions.notice import MOST_TOLD, WITHIN, notice
from nanohost.actions.registry import Request, find
from nanohost.clock import Clock
from nanohost.errors import NanohostError, UsageError
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.store import actions, sessions
from nanohost.store.actions import ActionRow, ActionStatus
from nanohost.store.database import Store
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import notice_id

_log = structlog.get_logger()


class Actions:
    """`timezone`: of times that name none. `wake` is called for a session whose agent is to hear of a refusal,
    `changed` for one whose request was carried out, after the commit."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        timezone: str,
        wake: Callable[[SessionId], None],
        changed: Callable[[SessionId], None],
        guard: Guard = everything,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._timezone = timezone
        self._wake = wake
        self._changed = changed
        self._guard = guard
        self._lanes = Lanes[SessionId]("actions", self._serve, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Carry out while entered, beginning with what the last host left."""
        async with self._lanes.opened():
            for session in await actions.open_sessions(self._store):
                self._lanes.poke(session)
            yield

    def on_request(self, session: SessionId) -> None:
        """The session's agent asked for something, and that is on record."""
        self._lanes.poke(session)

    async def _serve(self, session: SessionId) -> None:
        while (action := await actions.next_open(self._store, session)) is not None:
            if action.status is not ActionStatus.PENDING:
                await self._tell(action)
                continue
            reach("actions.entered")
            done = await self._carry_out(action)
            reach("actions.done")
            if done:
                self._changed(session)

    async def _carry_out(self, action: ActionRow) -> bool:
        """Settle it, one way or another. False: nothing was changed. Raises what is not the request's fault."""
        try:
            await self._do(action)
            return True
        except UsageError as error:
            await self._turn_down(action, ActionStatus.REFUSED, _sentence(error))
        except (NanohostError, OSError):
            raise  # the disk, a lock: the request is not to blame
        except Exception as error:
            _log.error("action_broke", session=action.session_id, action=action.name, exc_info=error)
            await self._turn_down(action, ActionStatus.FAILED, f"{type(error).__name__}: {error}")
        return False

    async def _do(self, action: ActionRow) -> None:
        now = self._clock.now()
        request = Request(
            session=action.session_id,
            id=action.out_id,
            origin=action.origin,
            asked_at=action.asked_at,
            now=now,
            timezone=self._timezone,
        )
        found = find(action.name)
        if (reason := self._guard(request, found)) is not None:
            raise UsageError(reason)
        async with self._store.transaction() as tx:
            said = await found.carry_out(tx, request, action.arguments)
            notice = None if said is None else _notice_id(action)
            await actions.settle(tx, action, ActionStatus.DONE, reason=said, notice_id=notice, now=now)

    async def _turn_down(self, action: ActionRow, status: ActionStatus, reason: str) -> None:
        async with self._store.transaction() as tx:
            await actions.settle(tx, action, status, reason=reason, notice_id=_notice_id(action), now=self._clock.now())

    async def _tell(self, action: ActionRow) -> None:
        """Into the mailbox, then on record. Raises MailboxError while the mailbox refuses: tried again."""
        assert action.done_at is not None, "only what is settled is told"
        since = action.done_at - WITHIN
        bad_before = await actions.bad_before(self._store, action, since=since, most=MOST_TOLD)
        message = notice(action, bad_before=bad_before)
        wakes = message is not None and message.trigger
        if message is not None:
            session = await sessions.get(self._store, action.session_id)
            await self._mailboxes.put(session, [message])
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await actions.mark_told(tx, action)
            if wakes:
                await sessions.make_due(tx, action.session_id, at=now, now=now)
        if action.status is not ActionStatus.DONE:
            _report(action, wakes=wakes)
        if wakes:
            self._wake(action.session_id)


def _notice_id(action: ActionRow) -> str:
    return notice_id(session=action.session_id, request=action.out_id)


def _sentence(error: UsageError) -> str:
    """For an agent: what an operator would type next is of no use to it."""
    hint = "" if "nanohost " in error.hint else error.hint
    return f"{error}; {hint}" if hint else str(error)


def _report(action: ActionRow, *, wakes: bool) -> None:
    _log.warning(
        "action_not_done",
        session=action.session_id,
        action=action.name[:80],
        request=action.out_id,
        status=action.status,
        reason=action.reason,
        wakes=wakes,
    )
