"""Cleans up after a container that is gone: finds out why it ended, processes its last acks, notifies those who wait.

Everything here can be repeated. The container manager decides whether the end counts as a failure, and what follows.
"""

from __future__ import annotations

import asyncio

import structlog

from nanohost.clock import Clock
from nanohost.containers.ack_processor import AckProcessor
from nanohost.containers.control_messages import ControlMessages
from nanohost.containers.pool import Slot
from nanohost.db import sessions
from nanohost.db.database import Store
from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId
from nanohost.runtimes.container_log import truncate_log
from nanohost.runtimes.session_folders import log_tail

LOG_TAIL_LINES = 5
"""The last lines of a dead container's output that go to the host's log."""

_log = structlog.get_logger()


class Reaper:
    """One per container manager."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        ack_processor: AckProcessor,
        control_messages: ControlMessages,
        clock: Clock,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._ack_processor = ack_processor
        self._control_messages = control_messages
        self._clock = clock

    async def exit_cause(self, slot: Slot) -> str:
        """Returns why a container failed: the slot's failure reason, or that it died, and its last line of output."""
        session = await sessions.get(self._store, slot.session_id)
        tail = await asyncio.to_thread(log_tail, self._mailboxes.layout(session).root, lines=LOG_TAIL_LINES)
        cause = slot.failure_reason or "its container died"
        hint = f"nanohost logs {slot.session_id}"
        _log.error("container_failed", session=slot.session_id, group=session.group_folder, cause=cause, hint=hint)
        _log.debug("container_failed", session=slot.session_id, last_words=tail)
        return f"{cause}; it last wrote: {tail[-1]}" if tail else cause

    async def collect_final_acks(self, id: SessionId) -> None:
        """Process the last acks of the session's container. Raises StoreError."""
        try:
            await self._process_final_acks(await sessions.get(self._store, id))
        except MailboxError as error:
            _log.error("final_acks_unreadable", session=id, error=str(error), hint=error.hint)

    async def truncate_log(self, id: SessionId) -> None:
        """Truncate the container's log to its end. Raises StoreError."""
        await asyncio.to_thread(truncate_log, self._mailboxes.layout(await sessions.get(self._store, id)).root)

    async def notify_waiting(self, id: SessionId, text: str) -> None:
        """Notify those who wait for the session's agent, if its mailbox can be read."""
        try:
            await self._ack_processor.notify_waiting(await sessions.get(self._store, id), text)
        except MailboxError as error:
            _log.error("notify_failed", session=id, error=str(error), hint=error.hint)

    async def _process_final_acks(self, session: Session) -> None:
        await self._control_messages.close_open(session)
        state = await self._ack_processor.process(session.id)
        if state is None and await self._mailboxes.needs_rollback(session):
            # outbound.db cannot be read before its journal is rolled back, and only a runner may write it: start one.
            now = self._clock.now()
            async with self._store.transaction() as tx:
                await sessions.make_due(tx, session.id, at=now, now=now)
