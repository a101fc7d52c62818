"""Takes over what a runner said of its messages: closes them, or makes them due again, and says so to people.

Everything here can be done twice: closing a closed message or raising tries that are raised changes nothing, and a
notice has one place in the ledger. So a crash between the two files only repeats it, notice included. What is counted
(failures in a row) is counted once, whoever hears of the acks: in a transaction that finds the session as it was read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from nanohost.clock import Clock
from nanohost.containers import turn_usage
from nanohost.containers.apply_acks import AppliedAcks, apply_decisions, next_due, notified_chats, stable_due
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
"""Why a turn was interrupted of which nothing was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunnerReport:
    """What a runner said since the acks that are taken over. `lost_claims`: the claims of containers that were gone
    before."""

    acks: Sequence[Ack]
    claims: Sequence[Ack]
    lost_claims: Sequence[Ack]
    usages: Mapping[str, Usage]
    cursor: int
    """How far its acks are read."""
    count: int
    """What it costs to take this over: acks, of whatever, claims that are lost, and turns but for the one that runs."""
    more: bool
    """There are acks above these."""


class _StaleRead(Exception):
    """Something else was written of the session since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """How a session stands after its acks were taken over. `open_claims`: messages a living container works on.
    `has_progressed`: its runner took one, or was done with one. `has_changed`: it is due at another time. `more`:
    further acks wait to be taken over."""

    open_claims: int
    due_at: datetime | None
    has_progressed: bool = False
    has_changed: bool = False
    more: bool = False


OnMessagesClosed = Callable[[Transaction, SessionId, Sequence[ClosedMessage], datetime], Awaitable[None]]
"""Told of messages that are done with, in the transaction that takes them over. May be told of the same one again."""


class AckProcessor:
    """`is_alive` and `was_stopped` answer for a lease: is its container there, and was it we who stopped it.
    `publishes_work`: whether it is said which messages are worked on."""

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
        """Know again for which sessions nothing is to be started now."""
        self._backoff_until = await turn_failures.list_held(self._store, self._clock.now())

    def is_in_backoff(self, session: SessionId) -> bool:
        """Whether the session's model cannot be asked now: nothing is to be started for it."""
        return session in self._backoff_until and self._clock.now() < self._backoff_until[session]

    def budget(self, session: SessionId) -> AckBudget:
        """How much of what its runner says is taken over now. `take` does not ask: what a container left is taken over
        in any case."""
        if (budget := self._budgets.get(session)) is None:
            budget = AckBudget(self._clock.monotonic())
            self._budgets.put(session, budget)
        return budget

    def throttled(self) -> dict[SessionId, str]:
        """The sessions whose runners say too much, and what."""
        return {id: budget.reason for id, budget in self._budgets.items() if budget.is_throttled}

    async def process(self, session: SessionId) -> SessionState | None:
        """Take over what changed, as the session is on record by now. Waits for who does so for the same session.

        None: outbound.db cannot be read now. Raises MailboxError, StoreError.
        """
        async with self._locks.hold(session):
            while True:
                try:
                    return await self._process_once(session)
                except _StaleRead:
                    continue  # who wrote it has got on, so this ends

    async def _process_once(self, id: SessionId) -> SessionState | None:
        """Raises _Outdated: nothing is on record, what is in the mailbox is put right by doing it again."""
        session, said = await self._read_runner(id)
        if said is None:
            return None
        now = self._clock.now()
        working = [one.message_id for one in said.claims if self._is_alive(session, LeaseId(one.container_id))]
        living = len(working)
        shown = frozenset(working) if self._publishes_work() else frozenset[str]()
        self._store.bus.publish(SessionWorking(session.id, shown))
        if said.cursor == session.ack_cursor and not said.lost_claims and not self.is_in_backoff(session.id):
            self.budget(session.id).charge(0)
            due_at = session.due_at if living else await self._verify_due(session, now)
            return SessionState(open_claims=living, due_at=due_at, has_changed=due_at != session.due_at)
        known = await turn_failures.find(self._store, session.id)
        failures = await self._updated_failures(session, known, said.acks, now)
        verdicts = await self._decide(session, said, failures, now)
        self.budget(session.id).charge(said.count)
        if failures is not None and exceeds_max_backoff(failures):
            failures = reset_failures(failures)
        taken = await self._mailboxes.update(
            session, lambda box: apply_decisions(box, session, verdicts, now, failures)
        )
        due_at = stable_due(session.due_at, taken.due_at, now)
        crash_point("acks.applied")
        taken = replace(taken, due_at=due_at)
        await self._record(session, taken, said, now, known, failures)
        return SessionState(
            open_claims=living,
            due_at=due_at,
            has_progressed=bool(said.acks),
            has_changed=due_at != session.due_at,
            more=said.more,
        )

    async def _read_runner(self, id: SessionId) -> tuple[Session, _RunnerReport | None]:
        """The session as it is on record, and what its runner said since. What a container left is complete only when
        it is read after its end: its turn may end just before."""
        read = await self._outbox.acks(id)
        gone = self._exited_containers(read.session, read.batch.claims if read.batch is not None else ())
        if gone:
            read = await self._outbox.acks(id)
        session, news = read.session, read.batch
        if news is None:
            return session, None
        cursor = max((ack.change for ack in news.acks), default=session.ack_cursor)
        acks, claims = await self._known_acks(session, news.acks, news.claims)
        left = [claim for claim in claims if claim.container_id in gone]
        turns = {one.turn_id for one in (*acks, *claims)}
        usages = {turn: usage for turn, usage in news.usages.items() if turn in turns}
        count = max(1, len(news.acks) + len(left) + len(usages) - 1)
        said = _RunnerReport(
            acks=acks, claims=claims, lost_claims=left, usages=usages, cursor=cursor, count=count, more=news.more
        )
        return session, said

    async def _known_acks(
        self, session: Session, acks: Sequence[Ack], claims: Sequence[Ack]
    ) -> tuple[list[Ack], list[Ack]]:
        """Those of messages that were given to the session: an ack of anything else costs nobody more than this. What
        was given since is counted on the way."""
        if not acks and not claims:
            return [], []
        named, budget = {ack.message_id for ack in (*acks, *claims)}, self.budget(session.id)
        known, (given, highest) = await self._mailboxes.read_inbound(
            session, lambda box: (box.existing_ids(named), box.count_open_after(budget.counted_up_to))
        )
        budget.add_allowance(given, up_to=highest)
        return [ack for ack in acks if ack.message_id in known], [one for one in claims if one.message_id in known]

    def _exited_containers(self, session: Session, claims: Sequence[Ack]) -> set[str]:
        """The containers that claimed something and are not there any more."""
        return {one.container_id for one in claims if not self._is_alive(session, LeaseId(one.container_id))}

    async def _updated_failures(
        self, session: Session, previous: TurnFailures | None, acks: Sequence[Ack], now: datetime
    ) -> TurnFailures | None:
        """How the session stands after these acks. An order that a runner obeyed says nothing of its model."""
        if previous is not None and acks:
            orders = await self._mailboxes.read_inbound(session, lambda box: _control_message_ids(box, acks))
            acks = [ack for ack in acks if ack.message_id not in orders]
        return update_failures(previous, acks, now)

    async def _verify_due(self, session: Session, now: datetime) -> datetime | None:
        """When work is due, looked up. due_at outlives its work when a runner was done before routing had written it
        down, or when a host was killed between a mailbox and the database."""
        if session.due_at is None and session.lease is not None:
            return None  # without a container there may be work that was none for the one that is gone
        found = await self._mailboxes.update(session, lambda box: next_due(box, session, now))
        due_at = stable_due(session.due_at, found, now)
        if due_at == session.due_at:
            return due_at
        async with self._store.transaction() as tx:
            await sessions.replace_due(tx, session.id, expected=session.due_at, due=due_at)
        return due_at

    async def notify_waiting(self, session: Session, text: str) -> None:
        """Say that nothing can be done now, to whoever wrote the latest message that waits in a chat, once."""
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
        found = []
        tried_before = any(one.tries for one in (*report.acks, *report.lost_claims))  # a first try has none before it
        spared = await uncounted_attempts.list_for_session(self._store, session.id) if tried_before else {}
        for ack in report.acks:
            orderly = self._was_stopped(LeaseId(ack.container_id))
            judged = decide(_with_counted_attempts(ack, spared), now, was_stopped=orderly, failures=failures)
            if judged is not None:
                found.append((ack, judged))
        for claim in report.lost_claims:
            orderly = self._was_stopped(LeaseId(claim.container_id))
            found.append((claim, decide_lost_claim(_with_counted_attempts(claim, spared), now, was_stopped=orderly)))
        return found

    async def _record(
        self,
        session: Session,
        applied: AppliedAcks,
        report: _RunnerReport,
        now: datetime,
        previous: TurnFailures | None,
        failures: TurnFailures | None,
    ) -> None:
        """Raises _Outdated if `previous`, or how far the acks are taken over, is not what is on record."""
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
            told, group = _reported_usages(usages, seen), session.group_folder
            await turn_costs.save(tx, session.id, agent_group=group, usages=told, gateway_totals=seen, now=now)
            took = turn_usage.turn_usages(usages, seen)
            await uncounted_attempts.add(tx, session.id, applied.uncounted_attempts)
            await uncounted_attempts.delete(tx, session.id, [ack.message_id for ack, _ in applied.closed])
            await message_turns.record_starts(tx, session.id, _begun_turns(report.acks), now)
            await message_turns.record_ends(tx, session.id, _ended_turns(applied), now)
            if previous is not None and failures is None:
                await deliveries.withdraw_notices(tx, session.id, MODEL_HELD_NOTICE, "the model answers again", now)
            for notice in notices:
                await deliveries.add(tx, notice)
            ended = [_closed_message(ack, how, took, applied.of_tasks) for ack, how in applied.closed]
            await self._on_messages_closed(tx, session.id, ended, now)
        _log_turns(session, applied, took)
        self._backoff_until.pop(session.id, None)
        if failures is not None and failures.until is not None:
            self._backoff_until[session.id] = failures.until


def _control_message_ids(box: InboundReader, acks: Sequence[Ack]) -> set[str]:
    found = [box.find(ack.message_id) for ack in acks]
    return {row.id for row in found if row is not None and row.kind is InKind.CONTROL}


def _reported_usages(usages: Mapping[str, Usage], metered: Mapping[str, CallTotals]) -> dict[str, Usage]:
    """Of the turns that came to anything: one that was cut off before its model answered took nothing."""
    came = {turn: usage for turn, usage in usages.items() if usage.tokens_in or usage.tokens_out or usage.cost_usd}
    return {turn: Usage() for turn, spent in metered.items() if spent.tokens} | came


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
    """The messages that turns began with."""
    begun = [ack for ack in acks if ack.status is AckStatus.PROCESSING]
    return [TurnStart(message_id=ack.message_id, turn_id=ack.turn_id, at=ack.changed_at) for ack in begun]


def _ended_turns(applied: AppliedAcks) -> list[TurnEnd]:
    """How turns ended, by message. One whose container died said nothing."""
    ended = []
    for ack, how in (*applied.closed, *applied.retried):
        match how:
            case RetryMessage():
                outcome = TurnOutcome.INTERRUPTED
            case CloseMessage(status="completed"):
                outcome = TurnOutcome.COMPLETED
            case CloseMessage():
                outcome = TurnOutcome.FAILED
        said = how.notice if isinstance(how, CloseMessage) else None
        error = (
            None
            if outcome is TurnOutcome.COMPLETED
            else (ack.error.sentence if ack.error else said or CONTAINER_EXITED)
        )
        at = None if ack.status is AckStatus.PROCESSING else ack.changed_at
        ended.append(TurnEnd(message_id=ack.message_id, turn_id=ack.turn_id, outcome=outcome, error=error, at=at))
    return ended


def _log_turns(session: Session, applied: AppliedAcks, usages: Mapping[str, Usage]) -> None:
    """One line a turn that ended. Why one failed is in its container's words, which may be a person's."""
    said: set[str] = set()
    for one, (ack, _) in zip(_ended_turns(applied), (*applied.closed, *applied.retried), strict=True):
        if one.turn_id in said:
            continue
        said.add(one.turn_id)
        known = {"session": session.id, "group": session.group_folder, "turn": one.turn_id}
        usage = usages.get(one.turn_id)
        if one.outcome is TurnOutcome.COMPLETED:
            _log.info("turn_completed", **known, cost_usd=None if usage is None else usage.cost_usd)
            continue
        again = one.outcome is TurnOutcome.INTERRUPTED
        error = ack.error.error_class if ack.error else CONTAINER_EXITED
        _log.warning("turn_interrupted" if again else "turn_failed", **known, error=error, tried_again=again)
        _log.debug("turn_failed", **known, error=one.error)


def _with_counted_attempts(ack: Ack, uncounted: Mapping[str, Sequence[int]]) -> Ack:
    """The ack with the number of tries that count: `messages_in.tries` grows with every try, because that is what
    makes a message eligible again."""
    not_counting = sum(1 for tries in uncounted.get(ack.message_id, ()) if tries < ack.tries)
    return replace(ack, tries=ack.tries - not_counting)


ACKS_PER_HOUR = 7_200
"""Beyond those of messages that were given, as many as there may be messages (see delivery/budget.py): an ack costs
the host about the same. A turn over 300 messages, tried again for an hour while the model is overloaded, has fewer."""
ACKS_PER_MESSAGE = 2
"""It is claimed, and it is done with."""
MAX_ALLOWANCE = 100_000
"""Acks that are left over from messages that were given: those of 50,000 messages that came at once."""
OVER_BUDGET_REASON = lazy_gettext(
    "more than {count} acks an hour beyond those of its messages", count=f"{ACKS_PER_HOUR:,}"
)


@dataclass(slots=True)
class AckBudget(Throttle):
    """One session's. To be forgotten when it is full: what it counted is closed by then."""

    now: float
    counted_up_to: int = 0
    """Messages of the mailbox up to this number were given to it."""
    _allowance: int = 0
    _bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = full_bucket(ACKS_PER_HOUR, self.now)

    def is_full(self, now: float) -> bool:
        """Whether it is as one of somebody who never acked anything."""
        self._bucket.refill(now)
        return not self.reason and not self._allowance and self._bucket.is_full

    def add_allowance(self, messages: int, *, up_to: int = 0) -> None:
        """So many messages were put into its mailbox, the last of them with this number."""
        self.counted_up_to = max(self.counted_up_to, up_to)
        self._allowance = min(self._allowance + ACKS_PER_MESSAGE * messages, MAX_ALLOWANCE)

    def charge(self, count: int) -> None:
        """So much was taken over; nothing: nothing waits."""
        from_given = min(count, self._allowance)
        self._allowance -= from_given
        self._bucket.tokens -= count - from_given
        if not count:
            self.reset()

    def can_process(self, now: float) -> bool:
        """Whether more is taken over now; else `over` says why not."""
        self._bucket.refill(now)
        self.reason = "" if self._allowance or self._bucket.tokens >= 1 else OVER_BUDGET_REASON
        return not self.reason
