"""Executes the requests of agents, in order within each session.

Promises: an effect, its audit entry and the mark that it was done are one transaction, so that a kill leaves all of
them or none; the agent is notified after that, under an id that makes a repetition harmless. A request that needs an
approval is held and delays no other; after the approval everything is checked again. An invalid request is refused with
a sentence, and nobody is asked about it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from zoneinfo import ZoneInfo

import structlog

from nanohost.actions.agent_notice import MAX_NOTICES, REJECTION_WINDOW, build_notice
from nanohost.actions.approval_requests import request_approval
from nanohost.actions.registry import Action, ActionRequest, Arguments, RequestSummary, get_action, registered_actions
from nanohost.approvals.decision import find_approval_problem
from nanohost.clock import Clock
from nanohost.db import actions, agent_groups, approvals, audit, holds, paused, rules, sessions
from nanohost.db.actions import ActionRow, ActionStatus
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Store, Transaction
from nanohost.db.domain_events import ApprovalChanged, HoldChanged, PauseChanged, RequestsWaiting, SessionHasWork
from nanohost.delivery.address_book import update_destinations
from nanohost.errors import NanohostError, UsageError
from nanohost.guard.guard import Guard, GuardDecision, Permission, record_outcome
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.work.event_bus import Subscription
from nanohost.work.keyed_workers import KeyedWorkers
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import notice_id

PAUSE_POLL_S = 60.0

_log = structlog.get_logger()


class _ApprovalRequired(Exception):
    """The request is possible but needs an approval; raised to roll back the trial of its effect."""


class _Suspended(Exception):
    """The host is paused."""


class ActionExecutor:
    """Executes requests. `timezone`: for times without one. Emits SessionHasWork for a session with a new notice."""

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
        self._workers = KeyedWorkers[SessionId]("actions", self._process, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Executes requests while entered, beginning with those that the last host left."""
        subscriptions = (
            Subscription(RequestsWaiting, lambda event: self._workers.notify(event.session)),
            Subscription(HoldChanged, lambda event: self._workers.notify(event.session)),
            Subscription(PauseChanged, lambda _: self._workers.notify_waiting(lambda _: True)),
        )
        with self._store.bus.subscribed(*subscriptions):
            async with self._workers.opened():
                for session in await actions.open_sessions(self._store):
                    self._workers.notify(session)
                yield

    async def _process(self, session: SessionId) -> None:
        while (action := await actions.next_open(self._store, session)) is not None:
            if action.status is not ActionStatus.PENDING:
                await self._notify_agent(action)
                continue
            crash_point("actions.entered")
            try:
                await self._execute(action)
            except _Suspended:
                await self._workers.wait(session, PAUSE_POLL_S)
                if self._workers.is_closing:
                    return
                continue
            crash_point("actions.done")

    async def _execute(self, action: ActionRow) -> None:
        """Settles or holds the request. Raises errors that the request has not caused."""
        try:
            try:
                await self._attempt(action, can_request_approval=False)
            except _ApprovalRequired:
                await self._attempt(action, can_request_approval=True)
        except UsageError as error:
            await self._reject(action, ActionStatus.REFUSED, _agent_error_text(error))
        except (NanohostError, OSError, _Suspended):
            raise  # the disk or a lock: the request is not at fault
        except Exception as error:
            _log.error("action_failed", session=action.session_id, action=action.name, exc_info=error)
            await self._reject(action, ActionStatus.FAILED, f"{type(error).__name__}: {error}")

    async def _attempt(self, action: ActionRow, *, can_request_approval: bool) -> None:
        """Applies the guard's decision in one transaction.

        Raises _ApprovalRequired if it is possible and needs an approval, unless `can_request_approval`.
        """
        found = get_action(action.name)
        wanted = found.parse_arguments(action.arguments)
        async with self._store.transaction() as tx:
            if await paused.find(tx) is not None or await holds.find(tx, action.session_id) is not None:
                raise _Suspended
            approval = None if action.approval_id is None else await approvals.find(tx, action.approval_id)
            request = await self._build_request(tx, action, approval)
            about = await found.build_summary(tx, request, wanted)
            is_approved = action.approval_id is not None and not _is_withdrawn(approval)
            if is_approved:
                _check_approval(approval, action, about)
            decision = await self._guard.check(
                tx,
                action=action.name,
                default=found.default_permission,
                scope=about.scope,
                agent_group=request.agent_group.id,
                is_approved=is_approved,
                now=request.now,
            )
            if decision.rule is not None:
                await rules.record_use(tx, decision.rule, request.now)
            if decision.permission is Permission.DENY:
                rule = _rule_id(decision)
                await self._record_rejection(
                    tx, action, ActionStatus.REFUSED, AuditOutcome.DENIED, decision.reason, rule_id=rule
                )
            elif decision.permission is Permission.ALLOW:
                await self._apply(tx, action, found, request, wanted, decision)
            elif can_request_approval:
                await self._hold_for_approval(tx, action, request, about)
            else:
                await found.effect(tx, request, wanted)
                raise _ApprovalRequired
        if decision.permission not in (Permission.DENY, Permission.ALLOW):
            crash_point("actions.held")

    async def _build_request(self, tx: Transaction, action: ActionRow, approval: Approval | None) -> ActionRequest:
        session = await sessions.get(tx, action.session_id)
        return ActionRequest(
            session_id=action.session_id,
            agent_group=await agent_groups.get(tx, session.agent_group_id),
            request_id=action.out_id,
            origin=action.origin,
            asked_at=action.requested_at,
            now=self._clock.now(),
            timezone=self._timezone,
            approved_by=(approval.decided_by if approval is not None else None) or audit.agent_actor(action.session_id),
        )

    async def _apply(
        self,
        tx: Transaction,
        action: ActionRow,
        definition: Action,
        request: ActionRequest,
        arguments: Arguments,
        decision: GuardDecision,
    ) -> None:
        answer = await definition.effect(tx, request, arguments)
        has_notice = answer is not None or action.approval_id is not None
        await actions.settle(
            tx,
            action,
            ActionStatus.DONE,
            reason=answer,
            notice_id=_notice_id(action) if has_notice else None,
            now=request.now,
        )
        await record_outcome(
            tx, action, AuditOutcome.DONE, reason=decision.reason, now=request.now, rule=_rule_id(decision)
        )

    async def _hold_for_approval(
        self, tx: Transaction, action: ActionRow, request: ActionRequest, summary: RequestSummary
    ) -> None:
        """Holds the request for an approval. Raises UsageError if no approval is requested."""
        zone = ZoneInfo(self._timezone)
        approval = await request_approval(
            tx, action, summary, agent_group=request.agent_group, now=request.now, zone=zone
        )
        await actions.hold(tx, action, approval)
        held = replace(action, approval_id=approval)
        await record_outcome(tx, held, AuditOutcome.HELD, reason="a person has to approve it", now=request.now)
        tx.emit(ApprovalChanged(approval))

    async def _reject(self, action: ActionRow, status: ActionStatus, reason: str) -> None:
        outcome = AuditOutcome.REFUSED if status is ActionStatus.REFUSED else AuditOutcome.FAILED
        async with self._store.transaction() as tx:
            await self._record_rejection(tx, action, status, outcome, reason)

    async def _record_rejection(
        self,
        tx: Transaction,
        action: ActionRow,
        status: ActionStatus,
        outcome: AuditOutcome,
        reason: str,
        *,
        rule_id: int | None = None,
    ) -> None:
        """Records that the request was not carried out."""
        now = self._clock.now()
        await actions.settle(tx, action, status, reason=reason, notice_id=_notice_id(action), now=now)
        await record_outcome(tx, action, outcome, reason=reason, now=now, rule=rule_id)

    async def _notify_agent(self, action: ActionRow) -> None:
        """Writes the notice into the mailbox, then records that. Raises MailboxError if that fails: it is retried."""
        assert action.done_at is not None, "only a settled action has a notice"
        bad_before = await actions.count_failed_before(
            self._store, action, since=action.done_at - REJECTION_WINDOW, until=action.done_at, limit=MAX_NOTICES
        )
        message = build_notice(action, recent_rejections=bad_before)
        wakes = message is not None and message.trigger
        session = await sessions.get(self._store, action.session_id)
        if action.status is ActionStatus.DONE and _changes_addresses(action):
            await update_destinations(self._store, self._mailboxes, session.agent_group_id)
        if message is not None:
            await self._mailboxes.put(session, [message])
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await actions.mark_notified(tx, action)
            if wakes:
                await sessions.make_due(tx, action.session_id, at=now, now=now)
                tx.emit(SessionHasWork(action.session_id))
        if action.status is not ActionStatus.DONE:
            _log_rejection(action, is_waking=wakes)


def _is_withdrawn(approval: Approval | None) -> bool:
    """Returns whether the approval was withdrawn, as after a new rule: the guard then decides as without one."""
    return approval is not None and approval.status is ApprovalStatus.WITHDRAWN


def _rule_id(decision: GuardDecision) -> int | None:
    """Returns the id of the rule that decided; None if no rule did."""
    return None if decision.rule is None else decision.rule.id


def _check_approval(approval: Approval | None, action: ActionRow, summary: RequestSummary) -> None:
    """Raises UsageError if it does not approve this request in its present form."""
    if (problem := find_approval_problem(approval, action)) is not None:
        raise UsageError(problem)
    assert approval is not None, "without one there is a reason"
    if json.loads(approval.payload).get("scope") != summary.scope:
        raise UsageError("what it names is something else now than what was approved; ask again")


def _changes_addresses(action: ActionRow) -> bool:
    return action.name in registered_actions() and registered_actions()[action.name].changes_addresses


def _notice_id(action: ActionRow) -> str:
    return notice_id(session=action.session_id, request=action.out_id)


def _agent_error_text(error: UsageError) -> str:
    """Returns the error for an agent, without the hint, which is for an operator."""
    hint = "" if "nanohost " in error.hint else error.hint
    return f"{error}; {hint}" if hint else str(error)


def _log_rejection(action: ActionRow, *, is_waking: bool) -> None:
    _log.warning(
        "action_rejected",
        session=action.session_id,
        action=action.name[:80],
        request=action.out_id,
        status=action.status,
        reason=action.reason,
        wakes=is_waking,
    )
