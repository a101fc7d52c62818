"""Writes rows into a session's inbound.db, and returns what work they cause.

Promises: the rows of one call are written in one transaction, all or none. A row that exists is not written again, so a
repeated step changes nothing. The runner is woken only when the rows are on disk.
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
    """The work that written rows cause. `has_agent_work`: for the agent. `has_runner_work`: for the runner. `is_due`:
    the session is due now. `ack_cursor`: the session's before the rows were written; None if that is not known."""

    has_agent_work: bool = False
    has_runner_work: bool = False
    is_due: bool = False
    ack_cursor: int | None = None


class MailboxWriter:
    """One per host."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes

    async def put(self, session: Session, messages: Sequence[NewMessageIn]) -> WriteResult:
        """Write messages for the session's agent. Raises MailboxError; then none of them is written."""
        await self._mailboxes.put(session, messages)
        wakes = any(message.trigger for message in messages)
        return WriteResult(has_agent_work=wakes, is_due=wakes, ack_cursor=session.ack_cursor)

    async def change(self, session: Session, change: Callable[[InboundWriter], T]) -> T:
        """Call `change` in one transaction, wake the runner and return the result. `change` may be called again; see
        Mailboxes.update. Raises MailboxError; then nothing is written."""
        result = await self._mailboxes.update(session, change)
        notify_runner(self._mailboxes.layout(session))
        return result
