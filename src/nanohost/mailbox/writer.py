"""Writes rows into a session's inbound.db, and says what follows from them.

Promises: rows of one call are written in one transaction, all of them or none; a row that is there already is not
written again, so a step that is done again changes nothing; the runner is woken only when they are on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.session_dirs import notify_runner
from nanohost.model import Session
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import NewMessageIn

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class WriteResult:
    """What follows from rows that were written. `has_agent_work`: an agent has something to do; `has_runner_work`: a
    runner has. `is_due`: the session is due now."""

    has_agent_work: bool = False
    has_runner_work: bool = False
    is_due: bool = False


class MailboxWriter:
    """One per host."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    async def put(self, session: Session, messages: Sequence[NewMessageIn]) -> WriteResult:
        """Write messages for the session's agent. Raises MailboxError, and then none of them is there."""
        await self._mailboxes.put(session, messages)
        wakes = any(message.trigger for message in messages)
        return WriteResult(has_agent_work=wakes, is_due=wakes)

    async def change(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        """Do this in one transaction and wake the runner. `change` may be called again; see Mailboxes.update. Raises
        MailboxError, and then nothing of it is there."""
        changed = await self._mailboxes.update(session, change)
        notify_runner(self._mailboxes.layout(session))
        return changed
