"""Takes over what a runner said of its messages: closes them, or makes them due again, and says so to people.

Everything here can be done twice: closing a closed message or raising tries that are raised changes nothing, and a
notice has one place in the ledger. So a crash between the two files only repeats it, notice included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nanohost.clock import Clock
from nanohost.keeper.verdict import Close, Retry, Verdict, lost, verdict
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId, Session
from nanohost.store import deliveries, sessions, spared_tries
from nanohost.store.database import Store
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import derive
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.outbound import OutboundReader
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import Ack, MessageIn

NOTICES_A_MESSAGE = 64
"""One for each try, orderly stops included, and the last for what is said when no try is possible."""
NO_TRY = NOTICES_A_MESSAGE - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a session stands after its acks were taken over. `open_claims`: messages a living container works on."""

    open_claims: int
    due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What one update of inbound.db found: when work is due next, which notices to send about which message, which
    tries (message, count) do not count, and which messages are closed."""

    due_at: datetime | None
    notices: Sequence[tuple[MessageIn, str]]
    spared: Sequence[tuple[str, int]]
    closed: Sequence[str]


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
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._alive = alive
        self._ended_by_us = ended_by_us
        self._on_notice = on_notice

    async def take(self, session: Session) -> Standing | None:
        """Take over what changed. None: outbound.db cannot be read now. Raises MailboxError, StoreError."""
        said = await self._mailboxes.outbound(session, lambda box: _read(box, session.ack_cursor))
        if said is None:
            return None
        acks, claims = said
        now = self._clock.now()
        verdicts = await self._verdicts(session, acks, claims, now)
        living = sum(1 for claim in claims if self._alive(session, LeaseId(claim.container_id)))
        cursor = max((ack.change for ack in acks), default=session.ack_cursor)
        if not acks and not verdicts:
            due_at = session.due_at if living else await self._checked_due(session, now)
            return Standing(open_claims=living, due_at=due_at)
        taken = await self._mailboxes.update(session, lambda box: _apply(box, verdicts, cursor, now))
        due_at = _still_due(session.due_at, taken.due_at, now)
        reach("acks.applied")
        await self._record(session, replace(taken, due_at=due_at), cursor, now)
        return Standing(open_claims=living, due_at=due_at)

    async def _checked_due(self, session: Session, now: datetime) -> datetime | None:
        """When work is due, looked up. due_at outlives its work when a runner was done before routing had written it
        down, or when a host was killed between a mailbox and the database."""
        if session.due_at is None:
            return None
        found = await self._mailboxes.update(session, lambda box: _next_due(box, now))
        due_at = _still_due(session.due_at, found, now)
        if due_at == session.due_at:
            return due_at
        async with self._store.transaction() as tx:
            await sessions.replace_due(tx, session.id, seen=session.due_at, due=due_at)
        return due_at

    async def tell_waiting(self, session: Session, sentence: str) -> None:
        """Say that nothing can be done now to whoever wrote the latest message that waits; once a message."""
        waiting = await self._mailboxes.update(
            session, lambda box: [m for m in box.pending() if m.trigger and m.origin]
        )
        if not waiting:
            return
        notice = _notice(session, waiting[-1], NO_TRY, sentence, self._clock.now())
        async with self._store.transaction() as tx:
            await deliveries.add(tx, notice)
        self._on_notice(notice.lane)

    async def _verdicts(
        self, session: Session, acks: Sequence[Ack], claims: Sequence[Ack], now: datetime
    ) -> list[tuple[Ack, Verdict]]:
        found = []
        spared = await spared_tries.of_session(self._store, session.id) if acks or claims else {}
        for ack in acks:
            orderly = self._ended_by_us(LeaseId(ack.container_id))
            if (judged := verdict(_counted(ack, spared), now, orderly=orderly)) is not None:
                found.append((ack, judged))
        for claim in claims:
            lease = LeaseId(claim.container_id)
            if not self._alive(session, lease):
                found.append((claim, lost(_counted(claim, spared), now, orderly=self._ended_by_us(lease))))
        return found

    async def _record(self, session: Session, taken: _Taken, cursor: int, now: datetime) -> None:
        notices = [_notice(session, message, message.tries, sentence, now) for message, sentence in taken.notices]
        async with self._store.transaction() as tx:
            await sessions.set_ack_cursor(tx, session.id, cursor)
            await sessions.replace_due(tx, session.id, seen=session.due_at, due=taken.due_at)
            await spared_tries.add(tx, session.id, taken.spared)
            await spared_tries.forget(tx, session.id, taken.closed)
            for notice in notices:
                await deliveries.add(tx, notice)
        for notice in notices:
            self._on_notice(notice.lane)


def _read(box: OutboundReader, cursor: int) -> tuple[list[Ack], list[Ack]]:
    return box.acks_after(cursor), box.open_claims()


def _counted(ack: Ack, spared: Mapping[str, Sequence[int]]) -> Ack:
    """The ack with the number of tries that count: `messages_in.tries` grows with every try, because that is what
    makes a message eligible again."""
    not_counting = sum(1 for tries in spared.get(ack.message_id, ()) if tries < ack.tries)
    return replace(ack, tries=ack.tries - not_counting)


def _apply(box: InboundWriter, verdicts: Sequence[tuple[Ack, Verdict]], cursor: int, now: datetime) -> _Taken:
    """Carry the verdicts out. One notice a turn is enough: it answers the turn's last message."""
    notices: dict[str, tuple[MessageIn, str]] = {}
    spared, closed = [], []
    for ack, judged in verdicts:
        message = _carry_out(box, ack, judged)
        if message is None:
            continue
        match judged:
            case Close():
                closed.append(message.id)
            case Retry(counts=False):
                spared.append((message.id, ack.tries))
        if message.origin is not None and judged.notice:
            earlier = notices.get(ack.turn_id)
            if earlier is None or earlier[0].seq < message.seq:
                notices[ack.turn_id] = (message, judged.notice)
    box.set_meta({"ack_cursor": str(cursor)})
    return _Taken(due_at=_next_due(box, now), notices=list(notices.values()), spared=spared, closed=closed)


def _carry_out(box: InboundWriter, ack: Ack, judged: Verdict) -> MessageIn | None:
    """The message if the verdict holds for it, be it since now or since a try that a crash cut short."""
    message = box.find(ack.message_id)
    if message is None:
        return None
    match judged:
        case Retry():
            box.retry(message.id, tries=ack.tries, process_after=judged.at)
            holds = message.status == "pending" and message.tries in (ack.tries, ack.tries + 1)
        case Close(status="completed"):
            holds = box.close(message.id, judged.status)
        case Close():
            # What is said of an earlier try does not end a later one: a claim of the dead is looked at more than once.
            holds = message.status in ("pending", judged.status) and message.tries == ack.tries
            if holds:
                box.close(message.id, judged.status)
    return box.find(message.id) if holds else None


def _still_due(seen: datetime | None, found: datetime | None, now: datetime) -> datetime | None:
    """`found`, but what was due and is due stays due since the same moment: a change would wake the sweep, which looks
    here again."""
    was_and_is = seen is not None and found is not None and seen <= now and found <= now
    return seen if was_and_is else found


def _next_due(box: InboundWriter, now: datetime) -> datetime | None:
    """When the first of the messages that wake an agent is due; None: nothing waits."""
    return min((message.process_after or now for message in box.pending() if message.trigger), default=None)


def notice_seq(message: MessageIn, number: int) -> int:
    """The number of a notice in the ledger: below zero, where no row of the agent is. `number`: the try, or NO_TRY."""
    return -(message.seq * NOTICES_A_MESSAGE + min(number, NO_TRY))


def _notice(session: Session, message: MessageIn, number: int, sentence: str, now: datetime) -> Delivery:
    """A sentence of the host's own, numbered by the message and the try it is about: it can be entered once only."""
    origin = message.origin
    assert origin is not None
    return Delivery(
        lane=LaneKey(session.id, origin.channel_type, origin.instance),
        seq=notice_seq(message, number),
        out_id=derive("n", session.id, message.id, str(number)),
        kind="chat",
        platform_id=origin.platform_id,
        thread_id=origin.thread_id,
        reply_to=origin.platform_message_id,
        content=encode(ChatOut(text=sentence)),
        status=DeliveryStatus.PENDING,
        created_at=now,
    )
