"""Writes rows into a session's inbound.db, and says what follows from them.

Promises: rows of one call are written in one transaction, all of them or none; a row that is there already is not
written again, so a step that is done again changes nothing; the runner is woken only when they are on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.paths import ring
from nanohost.model import Session
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import NewMessageIn

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Written:
    """What follows from rows that were written. `work`: an agent has something to do; `obey`: a runner has. `due`: the
    session is due now."""

    work: bool = False
    obey: bool = False
    due: bool = False


class MailboxWriter:
    """One per host."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    async def put(self, session: Session, messages: Sequence[NewMessageIn]) -> Written:
        """Write messages for the session's agent. Raises MailboxError, and then none of them is there."""
        await self._mailboxes.put(session, messages)
        wakes = any(message.trigger for message in messages)
        return Written(work=wakes, due=wakes)

    async def change(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        """Do this in one transaction and wake the runner. `change` may be called again; see Mailboxes.update. Raises
        MailboxError, and then nothing of it is there."""
        changed = await self._mailboxes.update(session, change)
        ring(self._mailboxes.layout(session))
        return changed
