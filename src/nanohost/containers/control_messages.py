"""Tracks control messages to runners, and tells the person who sent the command when it was carried out.

A /stop is a row that the runner acks. If there is no runner, the host answers by itself: the messages that the command
stops were closed when the row was written. An answer has one place in the ledger, so a repeat changes nothing.

"Stopped." is sent before messages of the agent that are still queued, like everything that the host itself sends:
behind the queue of a slow chat it would come too late. A /stop does not withdraw messages that are queued already.
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
"""A runner sees a control message within milliseconds; one that does not is stopped."""
UNRESPONSIVE_GRACE_S = 0.3
"""For a runner that ignores control messages: its turn is cancelled, so it has nothing to give back. Both times
together are below two seconds."""


class ControlMessages:
    """One per container manager."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock

    async def has_open(self, session: Session) -> bool:
        """Whether the runner still has to carry out a control message. Raises MailboxError."""
        return await self._mailboxes.update(session, lambda box: any(_open_messages(box)))

    async def close_open(self, session: Session) -> None:
        """Answer and close the stop messages that no runner will ack any more. A /clear stays for the next runner.

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
    """Returns the answer to send when the runner has carried out the message; None if it was answered at once, or
    needs no answer."""
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
    """Returns the ledger entry of the answer to a command; a command has only one."""
    return notice_delivery(session, Notice(message=row, number=0, text=text), now)


def _open_messages(box: InboundWriter) -> list[MessageIn]:
    return list(box.control_messages())
