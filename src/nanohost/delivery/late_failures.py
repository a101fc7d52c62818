"""Records messages that the platform accepted and later reported as failed, and those that failed before.

Promises: the failure is recorded before the channel gets its answer, the message is marked failed with the reason, and
its author is notified. An agent gets a row in its mailbox, which does not wake it and is read with the person's next
message; the host's own parts get DeliveryFailedLater. Notices that a kill prevented are sent at the next start.
Reporting a failure again changes nothing.
"""

from __future__ import annotations

import asyncio

import structlog

from nanohost.channel_api import Ambiguous
from nanohost.clock import Clock
from nanohost.db import deliveries, late_failures, sessions
from nanohost.db.database import Store
from nanohost.db.deliveries import Delivery
from nanohost.db.domain_events import DeliveryFailedLater
from nanohost.db.late_failures import LateFailure
from nanohost.delivery.outcome_writer import DeliveryProjection
from nanohost.errors import NanohostError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import HOST_SESSION_ID, SessionId
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import CardOut, ChatOut, FileOut, QuestionOut, SystemIn, decode_out, encode
from nanohost_protocol.rows import InKind, NewMessageIn

MAX_REASON_CHARS = 1_000
MAX_EXCERPT_CHARS = 200
"""Characters of the message that the notice quotes, so that its agent recognizes it."""

_log = structlog.get_logger()


class LateFailureHandler:
    """Records and reports failures. One per host.

    The sender itself records messages that the platform did not accept, and calls `notify_pending`.
    """

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock, projection: DeliveryProjection) -> None:
        self._store = store
        self._projection = projection
        self._mailboxes = mailboxes
        self._clock = clock
        self._notify_lock = asyncio.Lock()
        self._is_notify_requested = False

    async def record(self, channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str) -> None:
        """Records the platform's report and notifies the author. Raises StoreError when it cannot be committed."""
        async with self._store.transaction() as tx:
            is_new = await late_failures.add(
                tx,
                channel,
                key=key,
                platform_message_id=platform_message_id,
                reason=reason[:MAX_REASON_CHARS],
                now=self._clock.now(),
            )
        if is_new:
            await self.notify_pending()

    async def notify_pending(self) -> None:
        """Sends all pending notices. A call during another one makes that one look again.

        Raises StoreError. A notice that a mailbox refuses is retried with the next call.
        """
        self._is_notify_requested = True
        if self._notify_lock.locked():
            return
        async with self._notify_lock:
            while self._is_notify_requested:
                self._is_notify_requested = False
                await self._notify_all()

    async def _notify_all(self) -> None:
        refusing = set[SessionId]()
        found = await late_failures.list_unnotified(self._store)
        while found:
            for failure in found:
                session = failure.delivery.queue.session_id
                if session in refusing:
                    continue
                try:
                    await self._notify(failure)
                except NanohostError as error:
                    refusing.add(session)
                    _log.warning("late_failure_notify_failed", session=session, error=str(error))
            found = await late_failures.list_unnotified(self._store, after=found[-1].key)

    async def _notify(self, failure: LateFailure) -> None:
        delivery = failure.delivery
        if delivery.queue.session_id != HOST_SESSION_ID:
            session = await sessions.get(self._store, delivery.queue.session_id)
            if delivery.is_from_agent:  # else it is a notice of the host, which the agent does not know
                sent, of = await deliveries.part_progress(self._store, delivery)
                await self._mailboxes.put(session, [failure_notice(failure, sent=sent, of=of)])
            await self._projection.refresh(session.id)
        async with self._store.transaction() as tx:
            await late_failures.mark_notified(tx, failure)
            if failure.was_accepted:  # else the sender has logged it
                tx.emit(DeliveryFailedLater(delivery))
        if not failure.was_accepted:
            return
        _log.warning(
            "delivery_failed",
            session=delivery.queue.session_id,
            channel=delivery.queue.channel_type,
            message=delivery.out_id,
            status=delivery.status,
            reason=delivery.reason,
        )


def failure_notice(failure: LateFailure, *, sent: int = 0, of: int = 0) -> NewMessageIn:
    """Returns the row for the agent. Built again, it has the same id. `sent`: its parts that arrived, of `of`."""
    delivery = failure.delivery
    what = "did not arrive" if failure.was_accepted else "could not be sent"
    text = (
        f"A message of yours {what}: {failure.reason}. {_read_status(failure, sent, of)} Say again what of it still"
        f" matters when they write. It was: {_excerpt(delivery)}"
    )
    return NewMessageIn(
        id=derive_id("l", delivery.queue.session_id, delivery.out_id, failure.platform_message_id),
        kind=InKind.SYSTEM,
        timestamp=delivery.created_at,
        content=encode(SystemIn(text=text, about=delivery.out_id)),
        trigger=False,
    )


def _read_status(failure: LateFailure, sent: int, of: int) -> str:
    if sent:
        return f"Only the first {sent} of its {of} parts have arrived."
    may_be_there = not failure.was_accepted and (failure.delivery.reason or "").startswith(f"{Ambiguous.reason}: ")
    return "It is not known whether anybody has read it." if may_be_there else "Nobody has read it."


def _excerpt(delivery: Delivery) -> str:
    try:
        match decode_out(delivery.kind, delivery.content):
            case ChatOut(text=text) | QuestionOut(text=text):
                excerpt = text
            case CardOut(title=title, body=body):
                excerpt = f"{title} {body}".strip()
            case FileOut(name=name, caption=caption):
                excerpt = f"{name} {caption}".strip()
            case _:
                excerpt = f"({delivery.kind})"
    except PayloadError:
        excerpt = f"({delivery.kind})"
    return excerpt if len(excerpt) <= MAX_EXCERPT_CHARS else excerpt[: MAX_EXCERPT_CHARS - 1] + "…"
