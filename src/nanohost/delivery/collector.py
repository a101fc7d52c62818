"""From outbound.db into the ledger: every row once, in order, checked. What is no message but a request of the agent is
entered as an action.

The rows and the cursor that says how far we are go into the database in one transaction, so a crash repeats the step
or does not; the entry's key (session, number) makes a repetition harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from nanohost.clock import Clock
from nanohost.delivery.addresses import address_book, as_told
from nanohost.delivery.examine import concerns, examine
from nanohost.guard.guard import record
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId
from nanohost.store import actions, deliveries, questions, sessions
from nanohost.store.actions import ActionRow, ActionStatus
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Store
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey
from nanohost_protocol.crash_points import reach
from nanohost_protocol.inbound import InboundReader
from nanohost_protocol.outbound import Malformed
from nanohost_protocol.rows import MessageOut, Origin, OutKind
from nanohost_protocol.sequence import HIGHEST

BATCH = 32

_log = structlog.get_logger()


class Collector:
    """`on_entry` is called for each lane that got something to send, `on_request` for a session that asked for
    something; both after it is on record."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        on_entry: Callable[[LaneKey], None],
        on_request: Callable[[SessionId], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._on_entry = on_entry
        self._on_request = on_request

    async def collect(self, id: SessionId) -> None:
        """Take over all that is new in the session's outbound.db. Raises MailboxError, StoreError."""
        while True:
            session = await sessions.get(self._store, id)
            rows = await self._mailboxes.outbound(session, queries.messages_after(session.out_cursor, limit=BATCH))
            if not rows:
                return
            await self._enter(session, rows)

    async def _enter(self, session: Session, rows: Sequence[MessageOut | Malformed]) -> None:
        answered = {row.in_reply_to for row in rows if isinstance(row, MessageOut) and row.in_reply_to}
        named = {concerns(row) for row in rows if isinstance(row, MessageOut)}
        about = {number for number in named if number is not None and 0 < number <= HIGHEST}
        origins, numbered, told = await self._mailboxes.inbound(
            session, lambda box: (_origins(box, answered), _numbered(box, about), box.destinations())
        )
        for number in about - numbered.keys():
            if (ours := await deliveries.find(self._store, session.id, number)) is not None:
                numbered[number] = _place(ours)
        book = as_told(await address_book(self._store, session), told)
        now = self._clock.now()
        entries = []
        for row in rows:
            entry = examine(row, session=session.id, book=book, origins=origins, now=now, numbered=numbered)
            entries.append(entry)
            if isinstance(entry, Delivery) and entry.seq in about and entry.lane.platform_id:
                numbered[entry.seq] = _place(entry)  # changed later in the same breath
        async with self._store.transaction() as tx:
            await deliveries.add_all(tx, [entry for entry in entries if isinstance(entry, Delivery)])
            for entry in entries:
                if isinstance(entry, ActionRow):
                    is_new = await actions.add(tx, entry)
                    if is_new and entry.status is ActionStatus.REFUSED:
                        await record(tx, entry, AuditOutcome.REFUSED, reason=entry.reason or "", now=now)
                elif entry.kind == OutKind.QUESTION and entry.status is DeliveryStatus.PENDING:
                    await questions.add(tx, entry, now)
            await sessions.set_out_cursor(tx, session.id, rows[-1].seq, now)
            reach("collector.open")
        reach("collector.committed")
        if any(isinstance(entry, ActionRow) for entry in entries):
            self._on_request(session.id)
        self._announce(session, [entry for entry in entries if isinstance(entry, Delivery)])

    def _announce(self, session: Session, entries: Sequence[Delivery]) -> None:
        for entry in entries:
            if entry.status is DeliveryStatus.DROPPED:
                _log.warning("outbound_dropped", session=session.id, message=entry.out_id, reason=entry.reason)
        for lane in dict.fromkeys(entry.lane for entry in entries if entry.status is DeliveryStatus.PENDING):
            self._on_entry(lane)


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
