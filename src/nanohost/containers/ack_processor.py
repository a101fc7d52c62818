"""Processes the acks of a session's runner: closes messages or makes them due again, and notifies people.

Everything here can be repeated: to close a closed message or to raise tries that are raised changes nothing, and a
notice has one place in the ledger. So a crash between the two files only repeats the work. Failures in a row are
counted once, in a transaction that checks that the session is as it was read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from nanohost.clock import Clock
from nanohost.containers import turn_usage
from nanohost.containers.ack_writer import AppliedAcks, apply_decisions, next_due, notified_chats, stable_due
from nanohost.containers.model_backoff import exceeds_max_backoff, reset_failures, update_failures
from nanohost.containers.notices import Notice, notice_delivery
from nanohost.containers.retry_policy import CloseMessage, RetryDecision, RetryMessage, decide, decide_lost_claim
from nanohost.db import deliveries, message_turns, model_calls, sessions, turn_costs, turn_failures, uncounted_attempts
from nanohost.db.database import Store, Transaction
from nanohost.db.domain_events import SessionWorking
from nanohost.db.message_turns import TurnEnd, TurnOutcome, TurnStart
from nanohost.db.model_calls import CallTotals
from nanohost.db.notice_numbers import MODEL_HELD_NOTICE, NO_CONTAINER_NOTICE
from nanohost.db.turn_failures import TurnFailures
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import LeaseId, Session, SessionId
from nanohost.scheduler.run_results import ClosedMessage, end_runs
from nanohost.text.translation import lazy_gettext
from nanohost.work.evicting_map import EvictingMap
from nanohost.work.keyed_workers import KeyedLock
from nanohost.work.throttle import Throttle, TokenBucket, full_bucket
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.rows import Ack, AckStatus, InKind, Usage

_log = structlog.get_logger()
CONTAINER_EXITED = "its container ended"
"""Why a turn was interrupted about which the runner wrote nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunnerReport:
    """What a runner wrote since the acks that are processed. `lost_claims`: claims of containers that were gone before
    the read."""

    acks: Sequence[Ack]
    claims: Sequence[Ack]
    lost_claims: Sequence[Ack]
    usages: Mapping[str, Usage]
    cursor: int
    """How far the acks are read."""
    count: int
    """What to charge to the budget: all acks, the lost claims, and the turns except the running one."""
    more: bool
    """There are more acks after these."""


class _StaleRead(Exception):
    """The session's rows changed since they were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """The state of a session after its acks were processed. `open_claims`: messages that a living container works on.
    `has_progressed`: its runner claimed or finished a message. `has_changed`: `due_at` is another time. `more`: more
    acks wait to be processed."""

    open_claims: int
    due_at: datetime | None
    has_progressed: bool = False
    has_changed: bool = False
    more: bool = False


OnMessagesClosed = Callable[[Transaction, SessionId, Sequence[ClosedMessage], datetime], Awaitable[None]]
"""Called with closed messages, in the transaction that records them. May be called again with the same message."""


class AckProcessor:
    """Processes the acks of all sessions. For a lease, `is_alive` says whether its container lives and `was_stopped`
    whether the host stopped it. `publishes_work`: whether to publish which messages are being worked on."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        is_alive: Callable[[Session, LeaseId], bool],
        was_stopped: Callable[[LeaseId], bool],
        publishes_work: Callable[[], bool] = lambda: True,
        on_messages_closed: OnMessagesClosed = end_runs,
        outbox: OutboxReader | None = None,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._outbox = outbox or OutboxReader(store=store, mailboxes=mailboxes)
        self._clock = clock
        self._is_alive = is_alive
        self._was_stopped = was_stopped
        self._publishes_work = publishes_work
        self._on_messages_closed = on_messages_closed
        self._backoff_until: dict[SessionId, datetime] = {}
        self._locks = KeyedLock[SessionId]()
        self._budgets = EvictingMap[SessionId, AckBudget](lambda budget: budget.is_full(self._clock.monotonic()))

    async def restore_backoff(self) -> None:
        """Load the sessions whose model is in backoff, after a start of the host."""
        self._backoff_until = await turn_failures.list_held(self._store, self._clock.now())

    def is_in_backoff(self, session: SessionId) -> bool:
        """Whether the session's model is in backoff, so that no container is started for it."""
        return session in self._backoff_until and self._clock.now() < self._backoff_until[session]

    def budget(self, session: SessionId) -> AckBudget:
        """Returns the session's budget of acks. `process` does not check it: the last acks of a container are processed
        in any case."""
        if (budget := self._budgets.get(session)) is None:
            budget = AckBudget(self._clock.monotonic())
            self._budgets.put(session, budget)
        return budget

    def throttled(self) -> dict[SessionId, str]:
        """Returns the sessions that are over their ack budget, with the reason."""
        return {id: budget.reason for id, budget in self._budgets.items() if budget.is_throttled}

    async def process(self, session: SessionId) -> SessionState | None:
        """Process the session's new acks. Waits for another call for the same session.

        Returns None if outbound.db cannot be read now. Raises MailboxError, StoreError.
        """
        async with self._locks.hold(session):
            while True:
                try:
                    return await self._process_once(session)
                except _StaleRead:
                    continue  # the other writer has made progress, so this loop ends

    async def _process_once(self, id: SessionId) -> SessionState | None:
        """Process what is new since the read. Raises _StaleRead: nothing was recorded, and a repeat corrects the
        mailbox."""
        session, report = await self._read_runner(id)
        if report is None:
            return None
        now = self._clock.now()
        working = [claim.message_id for claim in report.claims if self._is_alive(session, LeaseId(claim.container_id))]
        open_claims = len(working)
        published = frozenset(working) if self._publishes_work() else frozenset[str]()
        self._store.bus.publish(SessionWorking(session.id, published))
        if report.cursor == session.ack_cursor and not report.lost_claims and not self.is_in_backoff(session.id):
            self.budget(session.id).charge(0)
            due_at = session.due_at if open_claims else await self._verify_due(session, now)
            return SessionState(open_claims=open_claims, due_at=due_at, has_changed=due_at != session.due_at)
        previous = await turn_failures.find(self._store, session.id) if session.has_turn_failures else None
        failures = await self._updated_failures(session, previous, report.acks, now)
        decisions = await self._decide(session, report, failures, now)
        self.budget(session.id).charge(report.count)
        if failures is not None and exceeds_max_backoff(failures):
            failures = reset_failures(failures)
        applied = await self._mailboxes.update(
            session, lambda box: apply_decisions(box, session, decisions, now, failures)
        )
        due_at = stable_due(session.due_at, applied.due_at, now)
        crash_point("acks.applied")
        applied = replace(applied, due_at=due_at)
        await self._record(session, applied, report, now, previous, failures)
        return SessionState(
            open_claims=open_claims,
            due_at=due_at,
            has_progressed=bool(report.acks),
            has_changed=due_at != session.due_at,
            more=report.more,
        )

    async def _read_runner(self, id: SessionId) -> tuple[Session, _RunnerReport | None]:
        """Returns the session as recorded, and what its runner wrote since; None if outbound.db cannot be read now.

        If a container that claimed something is gone, reads again: its turn may have ended between read and exit.
        """
        read = await self._outbox.acks(id)
        exited = self._exited_containers(read.session, read.batch.claims if read.batch is not None else ())
        if exited:
            read = await self._outbox.acks(id)
        session, batch = read.session, read.batch
        if batch is None:
            return session, None
        cursor = max((ack.change for ack in batch.acks), default=session.ack_cursor)
        acks, claims = await self._known_acks(session, batch.acks, batch.claims)
        lost = [claim for claim in claims if claim.container_id in exited]
        turns = {ack.turn_id for ack in (*acks, *claims)}
        usages = {turn: usage for turn, usage in batch.usages.items() if turn in turns}
        count = max(1, len(batch.acks) + len(lost) + len(usages) - 1)
        report = _RunnerReport(
            acks=acks, claims=claims, lost_claims=lost, usages=usages, cursor=cursor, count=count, more=batch.more
        )
        return session, report

    async def _known_acks(
        self, session: Session, acks: Sequence[Ack], claims: Sequence[Ack]
    ) -> tuple[list[Ack], list[Ack]]:
        """Returns the acks and the claims whose messages exist in the session's inbound.db; others are ignored.

        Also adds the messages that are new in inbound.db to the budget.
        """
        if not acks and not claims:
            return [], []
        ids, budget = {ack.message_id for ack in (*acks, *claims)}, self.budget(session.id)
        known, (new_messages, highest) = await self._mailboxes.read_inbound(
            session, lambda box: (box.existing_ids(ids), box.count_open_after(budget.counted_up_to))
        )
        budget.add_allowance(new_messages, up_to=highest)
        return [ack for ack in acks if ack.message_id in known], [ack for ack in claims if ack.message_id in known]

    def _exited_containers(self, session: Session, claims: Sequence[Ack]) -> set[str]:
        """Returns the containers that have open claims and do not live any more."""
        return {one.container_id for one in claims if not self._is_alive(session, LeaseId(one.container_id))}

    async def _updated_failures(
        self, session: Session, previous: TurnFailures | None, acks: Sequence[Ack], now: datetime
    ) -> TurnFailures | None:
        """Returns the session's model failures after these acks. Acks of control messages say nothing about the model
        and are left out."""
        if previous is not None and acks:
            control = await self._mailboxes.read_inbound(session, lambda box: _control_message_ids(box, acks))
            acks = [ack for ack in acks if ack.message_id not in control]
        return update_failures(previous, acks, now)

    async def _verify_due(self, session: Session, now: datetime) -> datetime | None:
        """Look up in the mailbox when work is due, correct the record, and return it. due_at is out of date if a runner
        finished before routing recorded it, or if the host was killed between mailbox and database."""
        if session.due_at is None and session.lease is not None:
            return None  # only without a container can there be work that is not on record: rows for a fresh one
        found = await self._mailboxes.update(session, lambda box: next_due(box, session, now))
        due_at = stable_due(session.due_at, found, now)
        if due_at == session.due_at:
            return due_at
        async with self._store.transaction() as tx:
            await sessions.replace_due(tx, session.id, expected=session.due_at, due=due_at)
        return due_at

    async def notify_waiting(self, session: Session, text: str) -> None:
        """Notify each chat once, in reply to its latest waiting message, that nothing can be done now."""
        waiting = await self._mailboxes.update(session, lambda box: list(box.latest_per_chat()))
        if not waiting:
            return
        latest = {message.origin.chat: message for message in waiting if message.origin}
        now = self._clock.now()
        notices = [
            notice_delivery(session, Notice(message=m, number=NO_CONTAINER_NOTICE, text=text), now)
            for m in latest.values()
        ]
        async with self._store.transaction() as tx:
            for notice in notices:
                await deliveries.add(tx, notice)

    async def _decide(
        self, session: Session, report: _RunnerReport, failures: TurnFailures | None, now: datetime
    ) -> list[tuple[Ack, RetryDecision]]:
        """Decide for each ack and each lost claim. An ack of a turn that still runs gets no decision."""
        decisions = []
        is_retry = any(ack.tries for ack in (*report.acks, *report.lost_claims))  # a first attempt has none before it
        uncounted = await uncounted_attempts.list_for_session(self._store, session.id) if is_retry else {}
        for ack in report.acks:
            was_stopped = self._was_stopped(LeaseId(ack.container_id))
            decision = decide(_with_counted_attempts(ack, uncounted), now, was_stopped=was_stopped, failures=failures)
            if decision is not None:
                decisions.append((ack, decision))
        for claim in report.lost_claims:
            was_stopped = self._was_stopped(LeaseId(claim.container_id))
            counted = _with_counted_attempts(claim, uncounted)
            decisions.append((claim, decide_lost_claim(counted, now, was_stopped=was_stopped)))
        return decisions

    async def _record(
        self,
        session: Session,
        applied: AppliedAcks,
        report: _RunnerReport,
        now: datetime,
        previous: TurnFailures | None,
        failures: TurnFailures | None,
    ) -> None:
        """Record the processed acks in one transaction. Raises _StaleRead if `previous` or the session's ack cursor is
        not what is on record."""
        cursor, usages = report.cursor, report.usages
        ends = turn_usage.turn_end_times(report.acks, [ack for ack, _ in applied.closed], now)
        notices = [notice_delivery(session, notice, now) for notice in applied.notices]
        if failures is not None:
            failures = replace(
                failures, notified_chats=failures.notified_chats | notified_chats(applied.notices, MODEL_HELD_NOTICE)
            )
        async with self._store.transaction() as tx:
            has_failures = previous is not None
            if not await sessions.advance_ack_cursor(
                tx, session, cursor=cursor, due=applied.due_at, has_failures=has_failures
            ):
                raise _StaleRead
            if has_failures and await turn_failures.find(tx, session.id) != previous:
                raise _StaleRead
            if failures != previous:
                await turn_failures.save(tx, session.id, failures)
            seen = await model_calls.assign_to_turns(tx, session.id, ends)
            reported, group = _reported_usages(usages, seen), session.group_folder
            await turn_costs.save(tx, session.id, agent_group=group, usages=reported, gateway_totals=seen, now=now)
            usage_by_turn = turn_usage.turn_usages(usages, seen)
            await uncounted_attempts.add(tx, session.id, applied.uncounted_attempts)
            retried = [ack.message_id for ack, _ in applied.closed if ack.tries]  # a first attempt has none before it
            await uncounted_attempts.delete(tx, session.id, retried)
            await message_turns.record_starts(tx, session.id, _begun_turns(report.acks), now)
            await message_turns.record_ends(tx, session.id, _ended_turns(applied), now)
            if previous is not None and failures is None:
                await deliveries.withdraw_notices(tx, session.id, MODEL_HELD_NOTICE, "the model answers again", now)
            for notice in notices:
                await deliveries.add(tx, notice)
            closed = [
                _closed_message(ack, decision, usage_by_turn, applied.of_tasks) for ack, decision in applied.closed
            ]
            await self._on_messages_closed(tx, session.id, closed, now)
        _log_turns(session, applied, usage_by_turn)
        self._backoff_until.pop(session.id, None)
        if failures is not None and failures.held_until is not None:
            self._backoff_until[session.id] = failures.held_until


def _control_message_ids(box: InboundReader, acks: Sequence[Ack]) -> set[str]:
    found = [box.find(ack.message_id) for ack in acks]
    return {row.id for row in found if row is not None and row.kind is InKind.CONTROL}


def _reported_usages(usages: Mapping[str, Usage], metered: Mapping[str, CallTotals]) -> dict[str, Usage]:
    """Returns the usages to save: of turns for which the runner or the gateway counted tokens or cost. A turn that was
    interrupted before its model answered used nothing."""
    used = {turn: usage for turn, usage in usages.items() if usage.tokens_in or usage.tokens_out or usage.cost_usd}
    return {turn: Usage() for turn, totals in metered.items() if totals.tokens} | used


def _closed_message(
    ack: Ack, decision: CloseMessage, usages: Mapping[str, Usage], of_tasks: Collection[str]
) -> ClosedMessage:
    return ClosedMessage(
        message_id=ack.message_id,
        of_task=ack.message_id in of_tasks,
        is_completed=decision.status == "completed",
        error=(ack.error.sentence if ack.error else None) or decision.notice,
        usage=usages.get(ack.turn_id),
    )


def _begun_turns(acks: Sequence[Ack]) -> list[TurnStart]:
    """Returns the messages whose turns began."""
    begun = [ack for ack in acks if ack.status is AckStatus.PROCESSING]
    return [TurnStart(message_id=ack.message_id, turn_id=ack.turn_id, at=ack.changed_at) for ack in begun]


def _turn_outcome(decision: RetryDecision) -> TurnOutcome:
    match decision:
        case RetryMessage():
            return TurnOutcome.INTERRUPTED
        case CloseMessage(status="completed"):
            return TurnOutcome.COMPLETED
        case CloseMessage():
            return TurnOutcome.FAILED


def _ended_turns(applied: AppliedAcks) -> list[TurnEnd]:
    """Returns how each message's turn ended. A turn whose container died has no error and no time of its own."""
    ended = []
    decisions: list[tuple[Ack, RetryDecision]] = [*applied.closed, *applied.retried]
    for ack, decision in decisions:
        outcome = _turn_outcome(decision)
        notice = decision.notice if isinstance(decision, CloseMessage) else None
        error = (
            None
            if outcome is TurnOutcome.COMPLETED
            else (ack.error.sentence if ack.error else notice or CONTAINER_EXITED)
        )
        at = None if ack.status is AckStatus.PROCESSING else ack.changed_at
        ended.append(TurnEnd(message_id=ack.message_id, turn_id=ack.turn_id, outcome=outcome, error=error, at=at))
    return ended


def _log_turns(session: Session, applied: AppliedAcks, usages: Mapping[str, Usage]) -> None:
    """Log one line for each ended turn. The error text comes from the container and may quote a person: debug only."""
    logged: set[str] = set()
    for end, (ack, _) in zip(_ended_turns(applied), (*applied.closed, *applied.retried), strict=True):
        if end.turn_id in logged:
            continue
        logged.add(end.turn_id)
        fields = {"session": session.id, "group": session.group_folder, "turn": end.turn_id}
        usage = usages.get(end.turn_id)
        if end.outcome is TurnOutcome.COMPLETED:
            _log.info("turn_completed", **fields, cost_usd=None if usage is None else usage.cost_usd)
            continue
        is_retried = end.outcome is TurnOutcome.INTERRUPTED
        error = ack.error.error_class if ack.error else CONTAINER_EXITED
        event = "turn_interrupted" if is_retried else "turn_failed"
        _log.warning(event, **fields, error=error, tried_again=is_retried)
        _log.debug(event, **fields, error=end.error)


def _with_counted_attempts(ack: Ack, uncounted: Mapping[str, Sequence[int]]) -> Ack:
    """Returns the ack with only the tries that count. `messages_in.tries` grows with every try, because that makes a
    message eligible again."""
    not_counting = sum(1 for tries in uncounted.get(ack.message_id, ()) if tries < ack.tries)
    return replace(ack, tries=ack.tries - not_counting)


ACKS_PER_HOUR = 7_200
"""Acks beyond the allowance for messages. As many as there may be messages (see delivery/budget.py): an ack costs the
host about the same. A turn over 300 messages that is retried for an hour while the model is overloaded has fewer."""
ACKS_PER_MESSAGE = 2
"""A claim and an end."""
MAX_ALLOWANCE = 100_000
"""The most unused acks of messages that are kept: those of 50,000 messages that arrive at once."""
OVER_BUDGET_REASON = lazy_gettext(
    "more than {count} acks an hour beyond those of its messages", count=f"{ACKS_PER_HOUR:,}"
)


@dataclass(slots=True)
class AckBudget(Throttle):
    """One session's budget of acks. Once it is full it may be dropped: the messages that it counted are closed."""

    now: float
    counted_up_to: int = 0
    """The highest number of an inbound message that is counted in the allowance."""
    _allowance: int = 0
    _bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = full_bucket(ACKS_PER_HOUR, self.now)

    def is_full(self, now: float) -> bool:
        """Whether nothing is used: the budget is like that of a session without any ack."""
        self._bucket.refill(now)
        return not self.reason and not self._allowance and self._bucket.is_full

    def add_allowance(self, messages: int, *, up_to: int = 0) -> None:
        """Allow the acks of so many new messages. `up_to`: the number of the last of them."""
        self.counted_up_to = max(self.counted_up_to, up_to)
        self._allowance = min(self._allowance + ACKS_PER_MESSAGE * messages, MAX_ALLOWANCE)

    def charge(self, count: int) -> None:
        """Charge so many processed acks; 0 means that none waits, and ends the throttling."""
        from_allowance = min(count, self._allowance)
        self._allowance -= from_allowance
        self._bucket.tokens -= count - from_allowance
        if not count:
            self.reset()

    def can_process(self, now: float) -> bool:
        """Whether more acks may be processed now; if not, `reason` says why."""
        self._bucket.refill(now)
        self.reason = "" if self._allowance or self._bucket.tokens >= 1 else OVER_BUDGET_REASON
        return not self.reason
