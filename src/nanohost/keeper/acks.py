"""Takes over what a runner said of its messages: closes them, or makes them due again, and says so to people.

Everything here can be done twice: closing a closed message or raising tries that are raised changes nothing, and a
notice has one place in the ledger. So a crash between the two files only repeats it, notice included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nanohost.clock import Clock
from nanohost.keeper import spending
from nanohost.keeper.endings import Taken, apply, chats_of, next_due, still_due
from nanohost.keeper.holds import ended, failures_after, too_long
from nanohost.keeper.notices import HELD, NO_TRY, Notice, delivery_of
from nanohost.keeper.verdict import Close, Verdict, lost, verdict
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId, Session, SessionId
from nanohost.store import deliveries, model_calls, sessions, spared_tries, turn_costs, turn_failures
from nanohost.store.database import Store, Transaction
from nanohost.store.deliveries import LaneKey
from nanohost.store.model_calls import Spent
from nanohost.store.turn_failures import TurnFailures
from nanohost.tasks.ends import Closed
from nanohost_protocol.crash_points import reach
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.rows import Ack, InKind, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a session stands after its acks were taken over. `open_claims`: messages a living container works on."""

    open_claims: int
    due_at: datetime | None


OnClosed = Callable[[Transaction, SessionId, Sequence[Closed]], Awaitable[Callable[[], None]]]
"""Told of messages that are done with, in the transaction that takes them over; answers with what to do after it. May
be told of the same one again."""


async def nobody_asks(tx: Transaction, session: SessionId, closed: Sequence[Closed]) -> Callable[[], None]:
    """An OnClosed for a host without tasks."""
    return lambda: None


OnWorking = Callable[[SessionId, Collection[str]], None]
"""Told which messages a session's living container works on, again and again, and of none when it is done."""


def nobody_looks(session: SessionId, messages: Collection[str]) -> None:
    """An OnWorking for a host that shows nobody that it works."""


class AckTaker:
    """`alive` and `ended_by_us` answer for a lease: is its container there, and was it we who stopped it."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        alive: Callable[[Session, LeaseId], bool],
        ended_by_us: Callable[[LeaseId], bool],
        on_notice: Callable[[LaneKey], None],
        on_closed: OnClosed = nobody_asks,
        on_working: OnWorking = nobody_looks,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._alive = alive
        self._ended_by_us = ended_by_us
        self._on_notice = on_notice
        self._on_closed = on_closed
        self._on_working = on_working
        self._held: dict[SessionId, datetime] = {}

    async def restore(self) -> None:
        """Know again for which sessions nothing is to be started now."""
        self._held = await turn_failures.held(self._store, self._clock.now())

    def is_held(self, session: SessionId) -> bool:
        """Whether the session's model cannot be asked now: nothing is to be started for it."""
        return session in self._held and self._clock.now() < self._held[session]

    async def take(self, session: Session) -> Standing | None:
        """Take over what changed. None: outbound.db cannot be read now. Raises MailboxError, StoreError."""
        news = await self._mailboxes.outbound(session, queries.acks_after(session.ack_cursor))
        if news is None:
            return None
        acks, claims, usages = news.acks, news.claims, news.usages
        now = self._clock.now()
        failures = await self._failures(session, acks, now)
        verdicts = await self._verdicts(session, acks, claims, failures, now)
        working = [claim.message_id for claim in claims if self._alive(session, LeaseId(claim.container_id))]
        living = len(working)
        self._on_working(session.id, working)
        cursor = max((ack.change for ack in acks), default=session.ack_cursor)
        if not acks and not verdicts and not self.is_held(session.id):
            due_at = session.due_at if living else await self._checked_due(session, now)
            return Standing(open_claims=living, due_at=due_at)
        if failures is not None and too_long(failures):
            failures = ended(failures)
        taken = await self._mailboxes.update(session, lambda box: apply(box, session, verdicts, now, failures))
        due_at = still_due(session.due_at, taken.due_at, now)
        reach("acks.applied")
        taken = replace(taken, due_at=due_at)
        ends = spending.ends(acks, [ack for ack, _ in taken.closed], now)
        await self._record(session, taken, usages, ends, cursor, now, failures)
        return Standing(open_claims=living, due_at=due_at)

    async def _failures(self, session: Session, acks: Sequence[Ack], now: datetime) -> TurnFailures | None:
        """How the session stands after these acks. An order that a runner obeyed says nothing of its model."""
        known = await turn_failures.find(self._store, session.id)
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
        waiting = await self._mailboxes.update(
            session, lambda box: [m for m in box.pending() if m.trigger and m.origin and m.kind is not InKind.CONTROL]
        )
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
        for notice in notices:
            self._on_notice(notice.lane)

    async def _verdicts(
        self,
        session: Session,
        acks: Sequence[Ack],
        claims: Sequence[Ack],
        failures: TurnFailures | None,
        now: datetime,
    ) -> list[tuple[Ack, Verdict]]:
        found = []
        spared = await spared_tries.of_session(self._store, session.id) if acks or claims else {}
        for ack in acks:
            orderly = self._ended_by_us(LeaseId(ack.container_id))
            judged = verdict(_counted(ack, spared), now, orderly=orderly, failures=failures)
            if judged is not None:
                found.append((ack, judged))
        for claim in claims:
            lease = LeaseId(claim.container_id)
            if not self._alive(session, lease):
                found.append((claim, lost(_counted(claim, spared), now, orderly=self._ended_by_us(lease))))
        return found

    async def _record(
        self,
        session: Session,
        taken: Taken,
        usages: Mapping[str, Usage],
        ends: Mapping[str, datetime],
        cursor: int,
        now: datetime,
        failures: TurnFailures | None,
    ) -> None:
        notices = [delivery_of(session, notice, now) for notice in taken.notices]
        if failures is not None:
            failures = replace(failures, told=failures.told | chats_of(taken.notices, HELD))
        async with self._store.transaction() as tx:
            await sessions.set_ack_cursor(tx, session.id, cursor)
            await sessions.replace_due(tx, session.id, seen=session.due_at, due=taken.due_at)
            await turn_failures.put(tx, session.id, failures)
            seen = await model_calls.settle(tx, session.id, ends)
            told, group = _told(usages, seen), session.group_folder
            await turn_costs.put(tx, session.id, agent_group=group, usages=told, seen=seen, now=now)
            took = spending.took(usages, seen)
            await spared_tries.add(tx, session.id, taken.spared)
            await spared_tries.forget(tx, session.id, [ack.message_id for ack, _ in taken.closed])
            for notice in notices:
                await deliveries.add(tx, notice)
            after = await self._on_closed(tx, session.id, [_closed(ack, how, took) for ack, how in taken.closed])
        after()
        self._held.pop(session.id, None)
        if failures is not None and failures.until is not None:
            self._held[session.id] = failures.until
        for notice in notices:
            self._on_notice(notice.lane)


def _orders(box: InboundReader, acks: Sequence[Ack]) -> set[str]:
    found = [box.find(ack.message_id) for ack in acks]
    return {row.id for row in found if row is not None and row.kind is InKind.CONTROL}


def _told(usages: Mapping[str, Usage], seen: Mapping[str, Spent]) -> dict[str, Usage]:
    """Of the turns that came to anything: one that was cut off before its model answered took nothing."""
    came = {turn: usage for turn, usage in usages.items() if usage.tokens_in or usage.tokens_out or usage.cost_usd}
    return {turn: Usage() for turn, spent in seen.items() if spent.tokens} | came


def _closed(ack: Ack, how: Close, usages: Mapping[str, Usage]) -> Closed:
    return Closed(
        message_id=ack.message_id,
        completed=how.status == "completed",
        sentence=(ack.error.sentence if ack.error else None) or how.notice,
        usage=usages.get(ack.turn_id),
    )


def _counted(ack: Ack, spared: Mapping[str, Sequence[int]]) -> Ack:
    """The ack with the number of tries that count: `messages_in.tries` grows with every try, because that is what
    makes a message eligible again."""
    not_counting = sum(1 for tries in spared.get(ack.message_id, ()) if tries < ack.tries)
    return replace(ack, tries=ack.tries - not_counting)
