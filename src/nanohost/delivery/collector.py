"""Collects rows from outbound.db into the ledger: each once, in order, validated. Requests of agents become actions.

The rows and the cursor of the last row read are committed in one transaction; the entry's key (session, number) makes
a repetition after a crash harmless. The address book is read in that transaction, and nothing is recorded if the cursor
was moved since the rows were read.

Rows are recorded within the session's budget (see budget.py): the others wait in outbound.db, and none is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from nanohost.access.notify import notify_throttled
from nanohost.clock import Clock
from nanohost.db import actions, deliveries, moved_chats, questions, sessions
from nanohost.db.actions import ActionRow, ActionStatus
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Store, Transaction
from nanohost.db.deliveries import Delivery, DeliveryStatus
from nanohost.db.domain_events import RequestsWaiting
from nanohost.db.events import ChatKey
from nanohost.delivery.address_book import build_address_book, session_chats, with_known_names
from nanohost.delivery.budget import (
    MAX_SCHEDULED,
    MAX_WAITING,
    RateLimits,
    RowCost,
    SessionBudget,
    rate_limits_from_settings,
)
from nanohost.delivery.settings import DeliverySettings
from nanohost.delivery.validate import AddressBook, reject, target_number, validate
from nanohost.guard.guard import record_outcome
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import Session, SessionId
from nanohost.work.evicting_map import EvictingMap
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.outbound import MalformedRow
from nanohost_protocol.rows import ChatId, Destination, MessageOut, Origin, OutKind
from nanohost_protocol.sequence import MAX_SEQ

BATCH_SIZE = 32
TOO_MANY_SCHEDULED = f"{MAX_SCHEDULED} messages wait for a later time already; wait until one of them is sent"

_log = structlog.get_logger()


async def _never_wait(_: float) -> bool:
    return False


class Collector:
    """Collects the rows of sessions. Emits RequestsWaiting for a session with new requests.

    `wait` sleeps the given seconds before a session over its budget is read again, and returns False to give up.
    """

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        wait: Callable[[float], Awaitable[bool]] = _never_wait,
        rate_limits: RateLimits | None = None,
        outbox: OutboxReader | None = None,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._outbox = outbox or OutboxReader(store=store, mailboxes=mailboxes)
        self._clock = clock
        self._wait = wait
        self._rate_limits = rate_limits or rate_limits_from_settings(DeliverySettings())
        self._budgets = EvictingMap[SessionId, SessionBudget](lambda budget: budget.is_full(self._clock.monotonic()))
        self._is_collecting = True
        self._skipped_sessions: set[SessionId] = set()

    async def collect(self, id: SessionId) -> None:
        """Collects all new rows of the session, as fast as its budget allows. Raises MailboxError, StoreError."""
        budget = self._budgets.get(id) or SessionBudget(self._rate_limits, self._clock.monotonic())
        while True:
            if not self._is_collecting:
                self._skipped_sessions.add(id)
                return
            read = await self._outbox.rows(id, limit=BATCH_SIZE)
            if read.batch is None or not read.batch.rows:
                budget.reset()
                return
            self._budgets.put(id, budget)  # only now: many sessions have no rows
            if await self._enter_within(budget, read.session, read.batch.rows) and not read.batch.more:
                budget.reset()
                return
            if budget.reason and not await self._throttle(read.session, budget):
                return

    def throttled(self) -> dict[SessionId, str]:
        """Returns the sessions that are over their budget, with the limit that each exceeds."""
        return {id: budget.reason for id, budget in self._budgets.items() if budget.is_throttled}

    def pause(self) -> None:
        """Collects nothing until `resume`."""
        self._is_collecting = False

    def resume(self) -> list[SessionId]:
        """Collects again. Returns the sessions that were skipped meanwhile."""
        self._is_collecting = True
        skipped, self._skipped_sessions = list(self._skipped_sessions), set()
        return skipped

    async def _enter_within(
        self, budget: SessionBudget, session: Session, rows: Sequence[MessageOut | MalformedRow]
    ) -> bool:
        """Records the rows that the budget allows. Returns whether that was all of them."""
        room, later = await self._remaining_capacity(budget, session)
        return room > 0 and await self._store_rows(session, rows[:room], budget, scheduled=later) == len(rows)

    async def _remaining_capacity(self, budget: SessionBudget, session: Session) -> tuple[int, int]:
        """Returns how many more unsettled messages and requests the session may have, and how many are scheduled."""
        now = self._clock.now()
        waiting = await deliveries.count_waiting(self._store, session.id, now=now, limit=MAX_WAITING)
        room = MAX_WAITING - waiting.messages - waiting.requests
        if room <= 0:
            budget.reason = f"{MAX_WAITING:,} of its messages and requests wait already"
        return room, waiting.later

    async def _throttle(self, session: Session, budget: SessionBudget) -> bool:
        """Waits before the next read. Returns False to give up."""
        pause_s = budget.next_pause_s()
        if budget.pauses == 1:
            _log.warning("session_over_budget", session=session.id, over=budget.reason, next_look_in_s=pause_s)
        if budget.should_notify:
            await notify_throttled(self._store, session, budget.reason, self._clock.now())
        return await self._wait(pause_s)

    async def _store_rows(
        self, session: Session, rows: Sequence[MessageOut | MalformedRow], budget: SessionBudget, *, scheduled: int
    ) -> int:
        """Records as many rows as the budget allows and returns how many. `scheduled`: scheduled messages so far."""
        answered = {row.in_reply_to for row in rows if isinstance(row, MessageOut) and row.in_reply_to}
        targets = {target_number(row) for row in rows if isinstance(row, MessageOut)}
        numbers = {number for number in targets if number is not None and 0 < number <= MAX_SEQ}
        origins, numbered, known = await self._mailboxes.read_inbound(
            session,
            lambda box: (_find_origins(box, answered), _find_origins_by_number(box, numbers), box.destinations()),
        )
        now = self._clock.now()
        async with self._store.transaction() as tx:
            for number in numbers - numbered.keys():
                if (ours := await deliveries.find(tx, session.id, number)) is not None:
                    numbered[number] = _origin_of(ours)
            context = await _validation_context(tx, session, known, origins, target_numbers=numbers, numbered=numbered)
            entries = _build_entries(rows, context, now, scheduled)
            entries = entries[: budget.consume(list(map(_row_cost, rows, entries)), self._clock.monotonic())]
            if not entries:
                return 0
            last = rows[len(entries) - 1].seq
            if not await sessions.advance_out_cursor(tx, session.id, expected=session.out_cursor, cursor=last, now=now):
                return 0  # recorded by another task; retention may have deleted some of it already
            await deliveries.add_all(tx, [entry for entry in entries if isinstance(entry, Delivery)])
            for entry in entries:
                await self._store_related(tx, entry, now)
            if any(isinstance(entry, ActionRow) for entry in entries):
                tx.emit(RequestsWaiting(session.id))
            crash_point("collector.open")
        crash_point("collector.committed")
        self._log_entries(session, [entry for entry in entries if isinstance(entry, Delivery)])
        return len(entries)

    async def _store_related(self, tx: Transaction, entry: Delivery | ActionRow, now: datetime) -> None:
        """Records a request, or what a message needs beside its ledger entry."""
        if isinstance(entry, ActionRow):
            if await actions.add(tx, entry) and entry.status is ActionStatus.REFUSED:
                await record_outcome(tx, entry, AuditOutcome.REFUSED, reason=entry.reason or "", now=now)
        elif entry.kind == OutKind.QUESTION and entry.status is DeliveryStatus.PENDING:
            await questions.add(tx, entry, now)

    def _log_entries(self, session: Session, entries: Sequence[Delivery]) -> None:
        for entry in entries:
            if entry.status is DeliveryStatus.DROPPED:
                hint = f"nanohost deliveries get {session.id} {entry.seq}"
                _log.warning("outbound_dropped", session=session.id, seq=entry.seq, hint=hint)
                _log.debug("outbound_dropped", session=session.id, seq=entry.seq, reason=entry.reason)
                continue
            _log.info(
                "message_collected",
                session=session.id,
                seq=entry.seq,
                kind=entry.kind,
                turn=entry.turn_id,
                channel=entry.queue.channel_type,
                chat=entry.platform_id,
            )
            _log.debug("message_collected", session=session.id, seq=entry.seq, content=entry.content)


def _key(chat: ChatId) -> ChatKey:
    return ChatKey(chat.channel_type, chat.instance, chat.platform_id)


def _chat_id(chat: ChatKey) -> ChatId:
    return ChatId(chat.channel_type, chat.instance, chat.platform_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ValidationContext:
    """The data for validating rows. `target_numbers`: numbers of messages that are edited or reacted to;
    `origins_by_number`: where those messages are."""

    session: SessionId
    book: AddressBook
    origins: Mapping[str, Origin]
    target_numbers: Collection[int]
    origins_by_number: dict[int, Origin]


async def _validation_context(
    tx: Transaction,
    session: Session,
    told: Sequence[Destination],
    origins: Mapping[str, Origin],
    *,
    target_numbers: Collection[int],
    numbered: dict[int, Origin],
) -> _ValidationContext:
    """`told`: the names that the agent knows. All chats are as they are called now."""
    chats = await session_chats(tx, session)
    named = {_key(one.chat) for one in told if one.chat is not None}
    called = {id: ChatKey(one.channel_type, one.instance, one.platform_id) for id, one in origins.items()}
    now = await moved_chats.current_of(tx, {*named, *called.values()} - chats.current)
    known = [
        one if one.chat is None else replace(one, chat=_chat_id(now.get(_key(one.chat), _key(one.chat))))
        for one in told
    ]
    return _ValidationContext(
        session=session.id,
        book=with_known_names(build_address_book(chats, session.thread_id), known),
        origins={id: moved_chats.moved_origin(one, now.get(called[id], called[id])) for id, one in origins.items()},
        target_numbers=target_numbers,
        origins_by_number=numbered,
    )


def _build_entries(
    rows: Sequence[MessageOut | MalformedRow], context: _ValidationContext, now: datetime, scheduled: int
) -> list[Delivery | ActionRow]:
    """Returns the entry for each row. `scheduled`: the session's scheduled messages so far."""
    entries = []
    session, book, origins = context.session, context.book, context.origins
    for row in rows:
        entry = validate(
            row, session=session, book=book, origins=origins, now=now, origins_by_number=context.origins_by_number
        )
        if isinstance(row, MessageOut) and _is_scheduled(entry, now):
            scheduled += 1
            if scheduled > MAX_SCHEDULED:
                entry = reject(row, TOO_MANY_SCHEDULED, session=session, book=book, origins=origins, now=now)
        entries.append(entry)
        if isinstance(entry, Delivery) and entry.seq in context.target_numbers and entry.queue.platform_id:
            context.origins_by_number[entry.seq] = _origin_of(entry)  # a later row of the batch may edit it
    return entries


def _row_cost(row: MessageOut | MalformedRow, entry: Delivery | ActionRow) -> RowCost:
    """Returns the cost of a row by what the host writes for it."""
    as_request = isinstance(entry, ActionRow) or entry.status is DeliveryStatus.DROPPED
    if isinstance(row, MalformedRow):
        return RowCost(len(row.problem), is_request=as_request)
    others = (row.id, row.turn_id, row.kind, row.destination or "", row.recurrence or "", row.in_reply_to or "")
    return RowCost(len(row.content.encode("utf-8", "replace")) + sum(map(len, others)), is_request=as_request)


def _is_scheduled(entry: Delivery | ActionRow, now: datetime) -> bool:
    return (
        isinstance(entry, Delivery)
        and entry.status is DeliveryStatus.PENDING
        and entry.not_before is not None
        and entry.not_before > now
    )


def _find_origins(box: InboundReader, message_ids: set[str]) -> dict[str, Origin]:
    found = {}
    for message_id in message_ids:
        message = box.find(message_id)
        if message is not None and message.origin is not None:
            found[message_id] = message.origin
    return found


def _find_origins_by_number(box: InboundReader, numbers: set[int]) -> dict[int, Origin]:
    """Returns the origins of the people's messages with these numbers."""
    found = {}
    for number in numbers:
        message = box.find_by_seq(number) if number % 2 == 0 else None
        if message is not None and message.origin is not None and message.origin.platform_message_id is not None:
            found[number] = message.origin
    return found


def _origin_of(delivery: Delivery) -> Origin:
    """Returns where a delivery was sent, without a message to reply to."""
    queue = delivery.queue
    return Origin(
        channel_type=queue.channel_type,
        instance=queue.instance,
        platform_id=queue.platform_id,
        thread_id=delivery.thread_id,
    )
