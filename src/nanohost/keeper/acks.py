"""Takes over what a runner said of its messages: closes them, or makes them due again, and says so to people.

Everything here can be done twice: closing a closed message or raising tries that are raised changes nothing, so a
crash between the two files only repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nanohost.clock import Clock
from nanohost.keeper.verdict import Close, Retry, Verdict, lost, verdict
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId, Session
from nanohost.store import deliveries, sessions
from nanohost.store.database import Store
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
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
    """What one update of inbound.db found: when work is due next, and which notices to send about which message."""

    due_at: datetime | None
    notices: Sequence[tuple[MessageIn, str]]


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
        verdicts = self._verdicts(session, acks, claims, now)
        living = sum(1 for claim in claims if self._alive(session, LeaseId(claim.container_id)))
        cursor = max((ack.change for ack in acks), default=session.ack_cursor)
        if not acks and not verdicts:
            due_at = session.due_at if living else await self._checked_due(session, now)
            return Standing(open_claims=living, due_at=due_at)
        taken = await self._mailboxes.update(session, lambda box: _apply(box, verdicts, cursor, now))
        await self._record(session, taken, cursor, now)
        return Standing(open_claims=living, due_at=taken.due_at)

    async def _checked_due(self, session: Session, now: datetime) -> datetime | None:
        """When work is due, looked up. due_at outlives its work when a runner was done before routing had written it
        down, or when a host was killed between a mailbox and the database."""
        if session.due_at is None:
            return None
        due_at = await self._mailboxes.update(session, lambda box: _next_due(box, now))
        if due_at is not None and due_at <= now:
            return session.due_at
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

    def _verdicts(
        self, session: Session, acks: Sequence[Ack], claims: Sequence[Ack], now: datetime
    ) -> list[tuple[Ack, Verdict]]:
        found = []
        for ack in acks:
            orderly = self._ended_by_us(LeaseId(ack.container_id))
            if (judged := verdict(ack, now, orderly=orderly)) is not None:
                found.append((ack, judged))
        for claim in claims:
            lease = LeaseId(claim.container_id)
            if not self._alive(session, lease):
                found.append((claim, lost(claim, now, orderly=self._ended_by_us(lease))))
        return found

    async def _record(self, session: Session, taken: _Taken, cursor: int, now: datetime) -> None:
        notices = [_notice(session, message, message.tries, sentence, now) for message, sentence in taken.notices]
        async with self._store.transaction() as tx:
            await sessions.set_ack_cursor(tx, session.id, cursor)
            await sessions.replace_due(tx, session.id, seen=session.due_at, due=taken.due_at)
            for notice in notices:
                await deliveries.add(tx, notice)
        for notice in notices:
            self._on_notice(notice.lane)


def _read(box: OutboundReader, cursor: int) -> tuple[list[Ack], list[Ack]]:
    return box.acks_after(cursor), box.open_claims()


def _apply(box: InboundWriter, verdicts: Sequence[tuple[Ack, Verdict]], cursor: int, now: datetime) -> _Taken:
    """Carry the verdicts out. One notice a turn is enough: it answers the turn's last message."""
    notices: dict[str, tuple[MessageIn, str]] = {}
    for ack, judged in verdicts:
        match judged:
            case Close():
                changed = box.close(ack.message_id, judged.status)
            case Retry():
                changed = box.retry(ack.message_id, tries=ack.tries, process_after=judged.at)
        message = box.find(ack.message_id) if changed and judged.notice else None
        if message is not None and message.origin is not None and judged.notice:
            earlier = notices.get(ack.turn_id)
            if earlier is None or earlier[0].seq < message.seq:
                notices[ack.turn_id] = (message, judged.notice)
    box.set_meta({"ack_cursor": str(cursor)})
    return _Taken(due_at=_next_due(box, now), notices=list(notices.values()))


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
