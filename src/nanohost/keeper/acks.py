"""Takes over what a runner said of its messages: closes them, or makes them due again, and says so to people.

Everything here can be done twice: closing a closed message or raising tries that are raised changes nothing, and a
notice has one place in the ledger. So a crash between the two files only repeats it, notice included. What is counted
(failures in a row) is counted once, whoever hears of the acks: in a transaction that finds the session as it was read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from nanohost.clock import Clock
from nanohost.keeper import spending
from nanohost.keeper.ack_budget import AckBudget
from nanohost.keeper.endings import Taken, apply, chats_of, next_due, still_due
from nanohost.keeper.holds import ended, failures_after, too_long
from nanohost.keeper.notices import Notice, delivery_of
from nanohost.keeper.verdict import Close, Retry, Verdict, lost, verdict
from nanohost.lanes import OneAtATime
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import LeaseId, Session, SessionId
from nanohost.remembered import Remembered
from nanohost.store import deliveries, message_turns, model_calls, sessions, spared_tries, turn_costs, turn_failures
from nanohost.store.database import Store, Transaction
from nanohost.store.domain_events import SessionWorking
from nanohost.store.message_turns import Begun, Ended, TurnOutcome
from nanohost.store.model_calls import Spent
from nanohost.store.notice_numbers import HELD, NO_TRY
from nanohost.store.turn_failures import TurnFailures
from nanohost.tasks.ends import Closed, end_runs
from nanohost_protocol.crash_points import reach
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.rows import Ack, AckStatus, InKind, Usage

_log = structlog.get_logger()
CONTAINER = "its container ended"
"""Why a turn was interrupted of which nothing was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a runner said since the acks that are taken over. `lost`: the claims of containers that were gone before."""

    acks: Sequence[Ack]
    claims: Sequence[Ack]
    lost: Sequence[Ack]
    usages: Mapping[str, Usage]
    cursor: int
    """How far its acks are read."""
    count: int
    """What it costs to take this over: acks, of whatever, claims that are lost, and turns but for the one that runs."""
    more: bool
    """There are acks above these."""


class _Outdated(Exception):
    """Something else was written of the session since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a session stands after its acks were taken over. `open_claims`: messages a living container works on.
    `acted`: its runner took one, or was done with one. `changed`: it is due at another time. `more`: further acks wait
    to be taken over."""

    open_claims: int
    due_at: datetime | None
    acted: bool = False
    changed: bool = False
    more: bool = False


EndRuns = Callable[[Transaction, SessionId, Sequence[Closed], datetime], Awaitable[None]]
"""Told of messages that are done with, in the transaction that takes them over. May be told of the same one again."""


class AckTaker:
    """`alive` and `ended_by_us` answer for a lease: is its container there, and was it we who stopped it. `shows_work`:
    whether it is said which messages are worked on."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        alive: Callable[[Session, LeaseId], bool],
        ended_by_us: Callable[[LeaseId], bool],
        shows_work: Callable[[], bool] = lambda: True,
        end_runs: EndRuns = end_runs,
        outbox: OutboxReader | None = None,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._outbox = outbox or OutboxReader(store=store, mailboxes=mailboxes)
        self._clock = clock
        self._alive = alive
        self._ended_by_us = ended_by_us
        self._shows_work = shows_work
        self._end_runs = end_runs
        self._held: dict[SessionId, datetime] = {}
        self._taking = OneAtATime[SessionId]()
        self._budgets = Remembered[SessionId, AckBudget](lambda budget: budget.is_full(self._clock.monotonic()))

    async def restore(self) -> None:
        """Know again for which sessions nothing is to be started now."""
        self._held = await turn_failures.held(self._store, self._clock.now())

    def is_held(self, session: SessionId) -> bool:
        """Whether the session's model cannot be asked now: nothing is to be started for it."""
        return session in self._held and self._clock.now() < self._held[session]

    def budget(self, session: SessionId) -> AckBudget:
        """How much of what its runner says is taken over now. `take` does not ask: what a container left is taken over
        in any case."""
        if (budget := self._budgets.get(session)) is None:
            budget = AckBudget(self._clock.monotonic())
            self._budgets.put(session, budget)
        return budget

    def slowed(self) -> dict[SessionId, str]:
        """The sessions whose runners say too much, and what."""
        return {id: budget.over for id, budget in self._budgets.items() if budget.is_slowed}

    async def take(self, session: SessionId) -> Standing | None:
        """Take over what changed, as the session is on record by now. Waits for who does so for the same session.

        None: outbound.db cannot be read now. Raises MailboxError, StoreError.
        """
        async with self._taking.turn(session):
            while True:
                try:
                    return await self._take(session)
                except _Outdated:
                    continue  # who wrote it has got on, so this ends

    async def _take(self, id: SessionId) -> Standing | None:
        """Raises _Outdated: nothing is on record, what is in the mailbox is put right by doing it again."""
        session, said = await self._look(id)
        if said is None:
            return None
        now = self._clock.now()
        working = [one.message_id for one in said.claims if self._alive(session, LeaseId(one.container_id))]
        living = len(working)
        shown = frozenset(working) if self._shows_work() else frozenset[str]()
        self._store.bus.publish(SessionWorking(session.id, shown))
        if said.cursor == session.ack_cursor and not said.lost and not self.is_held(session.id):
            self.budget(session.id).pay(0)
            due_at = session.due_at if living else await self._checked_due(session, now)
            return Standing(open_claims=living, due_at=due_at, changed=due_at != session.due_at)
        known = await turn_failures.find(self._store, session.id)
        failures = await self._failures(session, known, said.acks, now)
        verdicts = await self._verdicts(session, said, failures, now)
        self.budget(session.id).pay(said.count)
        if failures is not None and too_long(failures):
            failures = ended(failures)
        taken = await self._mailboxes.update(session, lambda box: apply(box, session, verdicts, now, failures))
        due_at = still_due(session.due_at, taken.due_at, now)
        reach("acks.applied")
        taken = replace(taken, due_at=due_at)
        await self._record(session, taken, said, now, known, failures)
        return Standing(
            open_claims=living,
            due_at=due_at,
            acted=bool(said.acks),
            changed=due_at != session.due_at,
            more=said.more,
        )

    async def _look(self, id: SessionId) -> tuple[Session, _Said | None]:
        """The session as it is on record, and what its runner said since. What a container left is complete only when
        it is read after its end: its turn may end just before."""
        read = await self._outbox.acks(id)
        gone = self._gone(read.session, read.news.claims if read.news is not None else ())
        if gone:
            read = await self._outbox.acks(id)
        session, news = read.session, read.news
        if news is None:
            return session, None
        cursor = max((ack.change for ack in news.acks), default=session.ack_cursor)
        acks, claims = await self._meant(session, news.acks, news.claims)
        left = [claim for claim in claims if claim.container_id in gone]
        turns = {one.turn_id for one in (*acks, *claims)}
        usages = {turn: usage for turn, usage in news.usages.items() if turn in turns}
        count = max(1, len(news.acks) + len(left) + len(usages) - 1)
        said = _Said(acks=acks, claims=claims, lost=left, usages=usages, cursor=cursor, count=count, more=news.more)
        return session, said

    async def _meant(self, session: Session, acks: Sequence[Ack], claims: Sequence[Ack]) -> tuple[list[Ack], list[Ack]]:
        """Those of messages that were given to the session: an ack of anything else costs nobody more than this. What
        was given since is counted on the way."""
        if not acks and not claims:
            return [], []
        named, budget = {ack.message_id for ack in (*acks, *claims)}, self.budget(session.id)
        known, (given, highest) = await self._mailboxes.inbound(
            session, lambda box: (box.known(named), box.open_after(budget.counted))
        )
        budget.give(given, up_to=highest)
        return [ack for ack in acks if ack.message_id in known], [one for one in claims if one.message_id in known]

    def _gone(self, session: Session, claims: Sequence[Ack]) -> set[str]:
        """The containers that claimed something and are not there any more."""
        return {one.container_id for one in claims if not self._alive(session, LeaseId(one.container_id))}

    async def _failures(
        self, session: Session, known: TurnFailures | None, acks: Sequence[Ack], now: datetime
    ) -> TurnFailures | None:
        """How the session stands after these acks. An order that a runner obeyed says nothing of its model."""
        if known is not None and acks:
            orders = await self._mailboxes.inbound(session, lambda box: _orders(box, acks))
            acks = [ack for ack in acks if ack.message_id not in orders]
        return failures_after(known, acks, now)

    async def _checked_due(self, session: Session, now: datetime) -> datetime | None:
        """When work is due, looked up. due_at outlives its work when a runner was done before routing had written it
        down, or when a host was killed between a mailbox and the database."""
        if session.due_at is None and session.lease is not None:
            return None  # without a container there may be work that was none for the one that is gone
        found = await self._mailboxes.update(session, lambda box: next_due(box, session, now))
        due_at = still_due(session.due_at, found, now)
        if due_at == session.due_at:
            return due_at
        async with self._store.transaction() as tx:
            await sessions.replace_due(tx, session.id, seen=session.due_at, due=due_at)
        return due_at

    async def tell_waiting(self, session: Session, sentence: str) -> None:
        """Say that nothing can be done now, to whoever wrote the latest message that waits in a chat, once."""
        waiting = await self._mailboxes.update(session, lambda box: list(box.latest_of_chats()))
        if not waiting:
            return
        latest = {message.origin.chat: message for message in waiting if message.origin}
        now = self._clock.now()
        notices = [
            delivery_of(session, Notice(message=m, number=NO_TRY, sentence=sentence), now) for m in latest.values()
        ]
        async with self._store.transaction() as tx:
            for notice in notices:
                await deliveries.add(tx, notice)

    async def _verdicts(
        self, session: Session, said: _Said, failures: TurnFailures | None, now: datetime
    ) -> list[tuple[Ack, Verdict]]:
        found = []
        tried_before = any(one.tries for one in (*said.acks, *said.lost))  # a first try has none before it
        spared = await spared_tries.of_session(self._store, session.id) if tried_before else {}
        for ack in said.acks:
            orderly = self._ended_by_us(LeaseId(ack.container_id))
            judged = verdict(_counted(ack, spared), now, orderly=orderly, failures=failures)
            if judged is not None:
                found.append((ack, judged))
        for claim in said.lost:
            orderly = self._ended_by_us(LeaseId(claim.container_id))
            found.append((claim, lost(_counted(claim, spared), now, orderly=orderly)))
        return found

    async def _record(
        self,
        session: Session,
        taken: Taken,
        said: _Said,
        now: datetime,
        known: TurnFailures | None,
        failures: TurnFailures | None,
    ) -> None:
        """Raises _Outdated if `known`, or how far the acks are taken over, is not what is on record."""
        cursor, usages = said.cursor, said.usages
        ends = spending.ends(said.acks, [ack for ack, _ in taken.closed], now)
        notices = [delivery_of(session, notice, now) for notice in taken.notices]
        if failures is not None:
            failures = replace(failures, told=failures.told | chats_of(taken.notices, HELD))
        async with self._store.transaction() as tx:
            has_failures = known is not None
            if not await sessions.advance_ack_cursor(
                tx, session, cursor=cursor, due=taken.due_at, has_failures=has_failures
            ):
                raise _Outdated
            if has_failures and await turn_failures.find(tx, session.id) != known:
                raise _Outdated
            if failures != known:
                await turn_failures.put(tx, session.id, failures)
            seen = await model_calls.settle(tx, session.id, ends)
            told, group = _told(usages, seen), session.group_folder
            await turn_costs.put(tx, session.id, agent_group=group, usages=told, seen=seen, now=now)
            took = spending.took(usages, seen)
            await spared_tries.add(tx, session.id, taken.spared)
            await spared_tries.forget(tx, session.id, [ack.message_id for ack, _ in taken.closed])
            await message_turns.begin(tx, session.id, _begun(said.acks), now)
            await message_turns.end(tx, session.id, _ended(taken), now)
            if known is not None and failures is None:
                await deliveries.withdraw_notices(tx, session.id, HELD, "the model answers again", now)
            for notice in notices:
                await deliveries.add(tx, notice)
            ended = [_closed(ack, how, took, taken.of_tasks) for ack, how in taken.closed]
            await self._end_runs(tx, session.id, ended, now)
        _say(session, taken, took)
        self._held.pop(session.id, None)
        if failures is not None and failures.until is not None:
            self._held[session.id] = failures.until


def _orders(box: InboundReader, acks: Sequence[Ack]) -> set[str]:
    found = [box.find(ack.message_id) for ack in acks]
    return {row.id for row in found if row is not None and row.kind is InKind.CONTROL}


def _told(usages: Mapping[str, Usage], seen: Mapping[str, Spent]) -> dict[str, Usage]:
    """Of the turns that came to anything: one that was cut off before its model answered took nothing."""
    came = {turn: usage for turn, usage in usages.items() if usage.tokens_in or usage.tokens_out or usage.cost_usd}
    return {turn: Usage() for turn, spent in seen.items() if spent.tokens} | came


def _closed(ack: Ack, how: Close, usages: Mapping[str, Usage], of_tasks: Collection[str]) -> Closed:
    return Closed(
        message_id=ack.message_id,
        of_task=ack.message_id in of_tasks,
        completed=how.status == "completed",
        sentence=(ack.error.sentence if ack.error else None) or how.notice,
        usage=usages.get(ack.turn_id),
    )


def _begun(acks: Sequence[Ack]) -> list[Begun]:
    """The messages that turns began with."""
    begun = [ack for ack in acks if ack.status is AckStatus.PROCESSING]
    return [Begun(message_id=ack.message_id, turn_id=ack.turn_id, at=ack.changed_at) for ack in begun]


def _ended(taken: Taken) -> list[Ended]:
    """How turns ended, by message. One whose container died said nothing."""
    ended = []
    for ack, how in (*taken.closed, *taken.retried):
        match how:
            case Retry():
                outcome = TurnOutcome.INTERRUPTED
            case Close(status="completed"):
                outcome = TurnOutcome.COMPLETED
            case Close():
                outcome = TurnOutcome.FAILED
        said = how.notice if isinstance(how, Close) else None
        error = None if outcome is TurnOutcome.COMPLETED else (ack.error.sentence if ack.error else said or CONTAINER)
        at = None if ack.status is AckStatus.PROCESSING else ack.changed_at
        ended.append(Ended(message_id=ack.message_id, turn_id=ack.turn_id, outcome=outcome, error=error, at=at))
    return ended


def _say(session: Session, taken: Taken, usages: Mapping[str, Usage]) -> None:
    """One line a turn that ended. Why one failed is in its container's words, which may be a person's."""
    said: set[str] = set()
    for one, (ack, _) in zip(_ended(taken), (*taken.closed, *taken.retried), strict=True):
        if one.turn_id in said:
            continue
        said.add(one.turn_id)
        known = {"session": session.id, "group": session.group_folder, "turn": one.turn_id}
        usage = usages.get(one.turn_id)
        if one.outcome is TurnOutcome.COMPLETED:
            _log.info("turn_completed", **known, cost_usd=None if usage is None else usage.cost_usd)
            continue
        again = one.outcome is TurnOutcome.INTERRUPTED
        error = ack.error.error_class if ack.error else CONTAINER
        _log.warning("turn_interrupted" if again else "turn_failed", **known, error=error, tried_again=again)
        _log.debug("turn_failed", **known, error=one.error)


def _counted(ack: Ack, spared: Mapping[str, Sequence[int]]) -> Ack:
    """The ack with the number of tries that count: `messages_in.tries` grows with every try, because that is what
    makes a message eligible again."""
    not_counting = sum(1 for tries in spared.get(ack.message_id, ()) if tries < ack.tries)
    return replace(ack, tries=ack.tries - not_counting)
