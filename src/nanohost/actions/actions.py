"""Carries out what agents ask for, one session's requests in order.

Promises: an effect, its entry in the audit log and the mark that it was done are one transaction, so that a kill
between them changes nothing; the agent is told after that, under an id that makes telling it twice the same as once.
What needs a person's yes is held, and holds up nothing; once it has it, everything is checked anew before it is done.
A request that makes no sense is refused with a sentence, and no person is asked about it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from zoneinfo import ZoneInfo

import structlog

from nanohost.actions.asking import ask_person
from nanohost.actions.notice import MOST_TOLD, WITHIN, notice
from nanohost.actions.registry import About, Action, Arguments, Request, find, registered
from nanohost.approvals.decide import why_not
from nanohost.clock import Clock
from nanohost.delivery.addresses import tell_addresses
from nanohost.errors import NanohostError, UsageError
from nanohost.event_bus import Subscription
from nanohost.guard.guard import Guard, record
from nanohost.guard.ruling import Decision, Ruling
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.store import actions, agent_groups, approvals, audit, holds, paused, rules, sessions
from nanohost.store.actions import ActionRow, ActionStatus
from nanohost.store.approvals import Approval, ApprovalStatus
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Store, Transaction
from nanohost.store.domain_events import ApprovalChanged, HoldChanged, PauseChanged, RequestsWaiting, SessionHasWork
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import notice_id

PAUSE_LOOK_S = 60.0

_log = structlog.get_logger()


class _Possible(Exception):
    """It could be done, and a person is to be asked: what was done to find out is undone."""


class _NotNow(Exception):
    """Nothing goes on."""


class Actions:
    """`timezone`: of times that name none. Emits SessionHasWork for a session whose agent is to hear of an outcome."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        timezone: str,
        guard: Guard,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._timezone = timezone
        self._guard = guard
        self._lanes = Lanes[SessionId]("actions", self._serve, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Carry out while entered, beginning with what the last host left."""
        subscriptions = (
            Subscription(RequestsWaiting, lambda event: self._lanes.poke(event.session)),
            Subscription(HoldChanged, lambda event: self._lanes.poke(event.session)),
            Subscription(PauseChanged, lambda _: self._lanes.poke_napping(lambda _: True)),
        )
        with self._store.bus.subscribed(*subscriptions):
            async with self._lanes.opened():
                for session in await actions.open_sessions(self._store):
                    self._lanes.poke(session)
                yield

    async def _serve(self, session: SessionId) -> None:
        while (action := await actions.next_open(self._store, session)) is not None:
            if action.status is not ActionStatus.PENDING:
                await self._tell(action)
                continue
            reach("actions.entered")
            try:
                await self._carry_out(action)
            except _NotNow:
                await self._lanes.light_nap(session, PAUSE_LOOK_S)
                if self._lanes.closing:
                    return
                continue
            reach("actions.done")

    async def _carry_out(self, action: ActionRow) -> None:
        """Settle or hold it. Raises what is not the request's fault."""
        try:
            try:
                await self._attempt(action, may_ask=False)
            except _Possible:
                await self._attempt(action, may_ask=True)
        except UsageError as error:
            await self._turn_down(action, ActionStatus.REFUSED, _sentence(error))
        except (NanohostError, OSError, _NotNow):
            raise  # the disk, a lock: the request is not to blame
        except Exception as error:
            _log.error("action_broke", session=action.session_id, action=action.name, exc_info=error)
            await self._turn_down(action, ActionStatus.FAILED, f"{type(error).__name__}: {error}")

    async def _attempt(self, action: ActionRow, *, may_ask: bool) -> None:
        """What the guard says of it, done in one transaction. Raises _Possible for what a person has to be asked about,
        and could be done, unless `may_ask`."""
        found = find(action.name)
        wanted = found.checked(action.arguments)
        async with self._store.transaction() as tx:
            if await paused.find(tx) is not None or await holds.find(tx, action.session_id) is not None:
                raise _NotNow
            approval = None if action.approval_id is None else await approvals.find(tx, action.approval_id)
            request = await self._request(tx, action, approval)
            about = await found.about(tx, request, wanted)
            is_approved = action.approval_id is not None and not _is_settled(approval)
            if is_approved:
                _check_approval(approval, action, about)
            decision = await self._guard.ask(
                tx,
                action=action.name,
                usual=found.usual,
                scope=about.scope,
                agent_group=request.agent_group.id,
                approved=is_approved,
                now=request.now,
            )
            if decision.rule is not None:
                await rules.use(tx, decision.rule, request.now)
            if decision.ruling is Ruling.DENY:
                rule = _number(decision)
                await self._settle(tx, action, ActionStatus.REFUSED, AuditOutcome.DENIED, decision.reason, rule=rule)
            elif decision.ruling is Ruling.ALLOW:
                await self._do(tx, action, found, request, wanted, decision)
            elif may_ask:
                await self._hold(tx, action, request, about)
            else:
                await found.effect(tx, request, wanted)
                raise _Possible
        if decision.ruling not in (Ruling.DENY, Ruling.ALLOW):
            reach("actions.held")

    async def _request(self, tx: Transaction, action: ActionRow, approval: Approval | None) -> Request:
        session = await sessions.get(tx, action.session_id)
        return Request(
            session=action.session_id,
            agent_group=await agent_groups.get(tx, session.agent_group_id),
            id=action.out_id,
            origin=action.origin,
            asked_at=action.asked_at,
            now=self._clock.now(),
            timezone=self._timezone,
            allowed_by=(approval.decided_by if approval is not None else None) or audit.agent(action.session_id),
        )

    async def _do(
        self,
        tx: Transaction,
        action: ActionRow,
        found: Action,
        request: Request,
        wanted: Arguments,
        decision: Decision,
    ) -> None:
        said = await found.effect(tx, request, wanted)
        is_told = said is not None or action.approval_id is not None
        await actions.settle(
            tx,
            action,
            ActionStatus.DONE,
            reason=said,
            notice_id=_notice_id(action) if is_told else None,
            now=request.now,
        )
        await record(tx, action, AuditOutcome.DONE, reason=decision.reason, now=request.now, rule=_number(decision))

    async def _hold(self, tx: Transaction, action: ActionRow, request: Request, about: About) -> None:
        """Raises UsageError if nobody is asked."""
        zone = ZoneInfo(self._timezone)
        approval = await ask_person(tx, action, about, agent_group=request.agent_group, now=request.now, zone=zone)
        await actions.hold(tx, action, approval)
        held = replace(action, approval_id=approval)
        await record(tx, held, AuditOutcome.HELD, reason="a person has to say yes", now=request.now)
        tx.emit(ApprovalChanged(approval))

    async def _turn_down(self, action: ActionRow, status: ActionStatus, reason: str) -> None:
        outcome = AuditOutcome.REFUSED if status is ActionStatus.REFUSED else AuditOutcome.FAILED
        async with self._store.transaction() as tx:
            await self._settle(tx, action, status, outcome, reason)

    async def _settle(
        self,
        tx: Transaction,
        action: ActionRow,
        status: ActionStatus,
        outcome: AuditOutcome,
        reason: str,
        *,
        rule: int | None = None,
    ) -> None:
        """It was not done."""
        now = self._clock.now()
        await actions.settle(tx, action, status, reason=reason, notice_id=_notice_id(action), now=now)
        await record(tx, action, outcome, reason=reason, now=now, rule=rule)

    async def _tell(self, action: ActionRow) -> None:
        """Into the mailbox, then on record. Raises MailboxError while the mailbox refuses: tried again."""
        assert action.done_at is not None, "only what is settled is told"
        bad_before = await actions.bad_before(
            self._store, action, since=action.done_at - WITHIN, until=action.done_at, most=MOST_TOLD
        )
        message = notice(action, bad_before=bad_before)
        wakes = message is not None and message.trigger
        session = await sessions.get(self._store, action.session_id)
        if action.status is ActionStatus.DONE and _moves_addresses(action):
            await tell_addresses(self._store, self._mailboxes, session.agent_group_id)
        if message is not None:
            await self._mailboxes.put(session, [message])
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await actions.mark_told(tx, action)
            if wakes:
                await sessions.make_due(tx, action.session_id, at=now, now=now)
                tx.emit(SessionHasWork(action.session_id))
        if action.status is not ActionStatus.DONE:
            _report(action, wakes=wakes)


def _is_settled(approval: Approval | None) -> bool:
    """Whether a rule was made while it waited for a person: it is ruled upon as if nobody had been asked."""
    return approval is not None and approval.status is ApprovalStatus.WITHDRAWN


def _number(decision: Decision) -> int | None:
    """Of the rule that decided."""
    return None if decision.rule is None else decision.rule.id


def _check_approval(approval: Approval | None, action: ActionRow, about: About) -> None:
    """Raises UsageError if it is no yes to this request as it is now."""
    if (problem := why_not(approval, action)) is not None:
        raise UsageError(problem)
    assert approval is not None, "without one there is a reason"
    if json.loads(approval.payload).get("scope") != about.scope:
        raise UsageError("what it names is something else now than what was approved; ask again")


def _moves_addresses(action: ActionRow) -> bool:
    return action.name in registered() and registered()[action.name].moves_addresses


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
