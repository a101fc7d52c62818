"""From outbound.db into the ledger: every row once, in order, checked. What is no message but a request of the agent is
entered as an action.

The rows and the cursor that says how far we are go into the database in one transaction, so a crash repeats the step
or does not; the entry's key (session, number) makes a repetition harmless. Where a row may go is asked in that very
transaction, and nothing is entered if the cursor was moved since the rows were read.

A session is entered within its budget only (see budget.py): what is over it waits in outbound.db, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from nanohost.access.telling import tell_slowed
from nanohost.clock import Clock
from nanohost.delivery.addresses import address_book, as_told
from nanohost.delivery.budget import MOST_SCHEDULED, MOST_WAITING, Budget, Rates, Weight, rates_of
from nanohost.delivery.examine import AddressBook, concerns, examine, refuse
from nanohost.delivery.settings import DeliverySettings
from nanohost.guard.guard import record
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import Session, SessionId
from nanohost.remembered import Remembered
from nanohost.store import actions, deliveries, moved_chats, questions, sessions
from nanohost.store.actions import ActionRow, ActionStatus
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Store, Transaction
from nanohost.store.deliveries import Delivery, DeliveryStatus
from nanohost.store.domain_events import RequestsWaiting
from nanohost.store.events import ChatKey
from nanohost_protocol.crash_points import reach
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.outbound import Malformed
from nanohost_protocol.rows import ChatId, Destination, MessageOut, Origin, OutKind
from nanohost_protocol.sequence import HIGHEST

BATCH = 32
TOO_MANY_LATER = f"{MOST_SCHEDULED} messages wait for a later time already; wait until one of them is sent"

_log = structlog.get_logger()


async def _later(_: float) -> bool:
    return False


class Collector:
    """`pause` waits so many seconds before a session that is over its budget is looked at again; False: not now. Emits
    RequestsWaiting for a session that asked for something."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        pause: Callable[[float], Awaitable[bool]] = _later,
        rates: Rates | None = None,
        outbox: OutboxReader | None = None,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._outbox = outbox or OutboxReader(store=store, mailboxes=mailboxes)
        self._clock = clock
        self._pause = pause
        self._rates = rates or rates_of(DeliverySettings())
        self._budgets = Remembered[SessionId, Budget](lambda budget: budget.is_full(self._clock.monotonic()))
        self._takes = True
        self._skipped: set[SessionId] = set()

    async def collect(self, id: SessionId) -> None:
        """Take over all that is new in the session's outbound.db, as fast as its budget allows. Raises MailboxError,
        StoreError."""
        budget = self._budgets.get(id) or Budget(self._rates, self._clock.monotonic())
        while True:
            if not self._takes:
                self._skipped.add(id)
                return
            read = await self._outbox.rows(id, limit=BATCH)
            if read.news is None or not read.news.rows:
                budget.rest()
                return
            self._budgets.put(id, budget)  # only now: there are many who say nothing
            if await self._enter_within(budget, read.session, read.news.rows) and not read.news.more:
                budget.rest()
                return
            if budget.over and not await self._slow_down(read.session, budget):
                return

    def slowed(self) -> dict[SessionId, str]:
        """The sessions that are over their budget, and what they have too much of."""
        return {id: budget.over for id, budget in self._budgets.items() if budget.is_slowed}

    def stop_taking(self) -> None:
        """Enter nothing until `take_again`."""
        self._takes = False

    def take_again(self) -> list[SessionId]:
        """Enter again. Returns whom nobody looked at meanwhile."""
        self._takes = True
        skipped, self._skipped = list(self._skipped), set()
        return skipped

    async def _enter_within(self, budget: Budget, session: Session, rows: Sequence[MessageOut | Malformed]) -> bool:
        """Enter what the budget allows. Returns whether that was all of it."""
        room, later = await self._room(budget, session)
        return room > 0 and await self._enter(session, rows[:room], budget, later=later) == len(rows)

    async def _room(self, budget: Budget, session: Session) -> tuple[int, int]:
        """How many more of the session's messages and requests may be under way, and how many of them wait for a later
        time."""
        now = self._clock.now()
        waiting = await deliveries.count_waiting(self._store, session.id, now=now, most=MOST_WAITING)
        room = MOST_WAITING - waiting.messages - waiting.requests
        if room <= 0:
            budget.over = f"{MOST_WAITING:,} of its messages and requests wait already"
        return room, waiting.later

    async def _slow_down(self, session: Session, budget: Budget) -> bool:
        """Wait before the next look. False: not now."""
        pause_s = budget.pause_s()
        if budget.pauses == 1:
            _log.warning("session_over_budget", session=session.id, over=budget.over, next_look_in_s=pause_s)
        if budget.is_to_be_told:
            await tell_slowed(self._store, session, budget.over, self._clock.now())
        return await self._pause(pause_s)

    async def _enter(
        self, session: Session, rows: Sequence[MessageOut | Malformed], budget: Budget, *, later: int
    ) -> int:
        """As many of the rows as the budget allows, by what each comes to. Returns how many that were. `later`: how
        many of its messages wait for a later time."""
        answered = {row.in_reply_to for row in rows if isinstance(row, MessageOut) and row.in_reply_to}
        named = {concerns(row) for row in rows if isinstance(row, MessageOut)}
        about = {number for number in named if number is not None and 0 < number <= HIGHEST}
        origins, numbered, told = await self._mailboxes.inbound(
            session, lambda box: (_origins(box, answered), _numbered(box, about), box.destinations())
        )
        now = self._clock.now()
        async with self._store.transaction() as tx:
            for number in about - numbered.keys():
                if (ours := await deliveries.find(tx, session.id, number)) is not None:
                    numbered[number] = _place(ours)
            book = as_told(await address_book(tx, session), await _told_now(tx, told))
            origins = await moved_chats.places_now(tx, origins)
            context = _Context(session=session.id, book=book, origins=origins, about=about, numbered=numbered)
            entries = _entries(rows, context, now, later)
            entries = entries[: budget.take(list(map(_weight, rows, entries)), self._clock.monotonic())]
            if not entries:
                return 0
            last = rows[len(entries) - 1].seq
            if not await sessions.advance_out_cursor(tx, session.id, seen=session.out_cursor, cursor=last, now=now):
                return 0  # entered by somebody else; some of it may be forgotten again by now
            await deliveries.add_all(tx, [entry for entry in entries if isinstance(entry, Delivery)])
            for entry in entries:
                await self._put(tx, entry, now)
            if any(isinstance(entry, ActionRow) for entry in entries):
                tx.emit(RequestsWaiting(session.id))
            reach("collector.open")
        reach("collector.committed")
        self._announce(session, [entry for entry in entries if isinstance(entry, Delivery)])
        return len(entries)

    async def _put(self, tx: Transaction, entry: Delivery | ActionRow, now: datetime) -> None:
        """A request, and what belongs to a message beside its entry."""
        if isinstance(entry, ActionRow):
            if await actions.add(tx, entry) and entry.status is ActionStatus.REFUSED:
                await record(tx, entry, AuditOutcome.REFUSED, reason=entry.reason or "", now=now)
        elif entry.kind == OutKind.QUESTION and entry.status is DeliveryStatus.PENDING:
            await questions.add(tx, entry, now)

    def _announce(self, session: Session, entries: Sequence[Delivery]) -> None:
        for entry in entries:
            if entry.status is DeliveryStatus.DROPPED:
                hint = f"nanohost deliveries show {session.id} {entry.seq}"
                _log.warning("outbound_dropped", session=session.id, seq=entry.seq, hint=hint)
                _log.debug("outbound_dropped", session=session.id, seq=entry.seq, reason=entry.reason)
                continue
            _log.info(
                "message_answered",
                session=session.id,
                seq=entry.seq,
                kind=entry.kind,
                turn=entry.turn_id,
                channel=entry.lane.channel_type,
                chat=entry.platform_id,
            )
            _log.debug("message_answered", session=session.id, seq=entry.seq, content=entry.content)


async def _told_now(tx: Transaction, told: Sequence[Destination]) -> list[Destination]:
    """The names that the agent knows, for the chats as they are called now."""
    chats = {one.chat: _key(one.chat) for one in told if one.chat is not None}
    now = await moved_chats.current_of(tx, chats.values())
    return [one if one.chat is None else replace(one, chat=_chat_id(now[chats[one.chat]])) for one in told]


def _key(chat: ChatId) -> ChatKey:
    return ChatKey(chat.channel_type, chat.instance, chat.platform_id)


def _chat_id(chat: ChatKey) -> ChatId:
    return ChatId(chat.channel_type, chat.instance, chat.platform_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What rows are examined with. `about`: the numbers of what is changed or reacted to, `numbered`: where that is."""

    session: SessionId
    book: AddressBook
    origins: Mapping[str, Origin]
    about: Collection[int]
    numbered: dict[int, Origin]


def _entries(
    rows: Sequence[MessageOut | Malformed], known: _Context, now: datetime, later: int
) -> list[Delivery | ActionRow]:
    """What each row is entered as. `later`: how many of the session's messages wait for a later time."""
    entries = []
    session, book, origins = known.session, known.book, known.origins
    for row in rows:
        entry = examine(row, session=session, book=book, origins=origins, now=now, numbered=known.numbered)
        if isinstance(row, MessageOut) and _waits_for_later(entry, now):
            later += 1
            if later > MOST_SCHEDULED:
                entry = refuse(row, TOO_MANY_LATER, session=session, book=book, origins=origins, now=now)
        entries.append(entry)
        if isinstance(entry, Delivery) and entry.seq in known.about and entry.lane.platform_id:
            known.numbered[entry.seq] = _place(entry)  # changed later in the same breath
    return entries


def _weight(row: MessageOut | Malformed, entry: Delivery | ActionRow) -> Weight:
    """By what the row makes the host write."""
    as_request = isinstance(entry, ActionRow) or entry.status is DeliveryStatus.DROPPED
    if isinstance(row, Malformed):
        return Weight(len(row.problem), as_request=as_request)
    others = (row.id, row.turn_id, row.kind, row.destination or "", row.recurrence or "", row.in_reply_to or "")
    return Weight(len(row.content.encode("utf-8", "replace")) + sum(map(len, others)), as_request=as_request)


def _waits_for_later(entry: Delivery | ActionRow, now: datetime) -> bool:
    return (
        isinstance(entry, Delivery)
        and entry.status is DeliveryStatus.PENDING
        and entry.not_before is not None
        and entry.not_before > now
    )


def _origins(box: InboundReader, message_ids: set[str]) -> dict[str, Origin]:
    found = {}
    for message_id in message_ids:
        message = box.find(message_id)
        if message is not None and message.origin is not None:
            found[message_id] = message.origin
    return found


def _numbered(box: InboundReader, numbers: set[int]) -> dict[int, Origin]:
    """Where the messages of people with these numbers came from."""
    found = {}
    for number in numbers:
        message = box.numbered(number) if number % 2 == 0 else None
        if message is not None and message.origin is not None and message.origin.platform_message_id is not None:
            found[number] = message.origin
    return found


def _place(delivery: Delivery) -> Origin:
    """Where a message of ours went. It answers nothing from there, so it names no message."""
    lane = delivery.lane
    return Origin(
        channel_type=lane.channel_type,
        instance=lane.instance,
        platform_id=lane.platform_id,
        thread_id=delivery.thread_id,
    )
