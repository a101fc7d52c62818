"""What a runner was told to do, from the host's side: who gave the order is told when it is done.

A /stop is a row that its runner acks. Where there is no runner to do so, the host says by itself that it is done: what
the order is about was closed when the row was written. Saying it twice is saying it once: one place in the ledger.

"Stopped." goes before what the agent had said by then and is still on its way, as all that the host says does: behind a
slow chat it would come too late to be believed, and what was said before is not taken back by a /stop.
"""

from __future__ import annotations

from datetime import datetime

from nanohost.chat_commands.stop import STOPPED_TEXT
from nanohost.clock import Clock
from nanohost.containers.notices import Notice, notice_delivery
from nanohost.db import deliveries
from nanohost.db.database import Store
from nanohost.db.deliveries import Delivery
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import STOP, ControlIn, decode_in
from nanohost_protocol.rows import InKind, MessageIn

CONTROL_TIMEOUT_S = 1.3
"""A runner sees its orders within milliseconds; one that does not is stopped."""
UNRESPONSIVE_GRACE_S = 0.3
"""Its turn is not wanted any more, so there is nothing to give back. The two together stay below two seconds."""


class ControlMessages:
    """One per container manager."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock

    async def has_open(self, session: Session) -> bool:
        """Whether the runner still has to obey. Raises MailboxError."""
        return await self._mailboxes.update(session, lambda box: any(_open_messages(box)))

    async def close_open(self, session: Session) -> None:
        """Nobody will ack them any more: tell who wants to know, then close them. A /clear stays for the next runner.

        Raises MailboxError.
        """
        stops = await self._mailboxes.update(
            session, lambda box: [row for row in _open_messages(box) if deferred_answer(row)]
        )
        if not stops:
            return
        now = self._clock.now()
        answers = [command_answer(session, row, STOPPED_TEXT, now) for row in stops if row.origin is not None]
        async with self._store.transaction() as tx:
            for answer in answers:
                await deliveries.add(tx, answer)
        await self._mailboxes.update(session, lambda box: [box.close(row.id, "completed") for row in stops])


def deferred_answer(row: MessageIn) -> str | None:
    """What is said when the runner has obeyed; None: it was answered at once, or nobody wants to know."""
    if row.kind is not InKind.CONTROL:
        return None
    try:
        payload = decode_in(row.kind, row.content)
    except PayloadError:
        return None
    return (
        STOPPED_TEXT if isinstance(payload, ControlIn) and payload.command == STOP and payload.answer is None else None
    )


def command_answer(session: Session, row: MessageIn, text: str, now: datetime) -> Delivery:
    """The answer to a command, as the one entry in the ledger that it has."""
    return notice_delivery(session, Notice(message=row, number=0, text=text), now)


def _open_messages(box: InboundWriter) -> list[MessageIn]:
    return list(box.control_messages())
