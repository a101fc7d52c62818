"""Finds messages that are overdue, once a minute, and notifies their senders: every message gets an answer or an error.

Each message of a person ends with an answer, with an intended silence, recorded as dropped, or overdue here: the
status shows it for as long as it lasts, it is logged once, and the person is notified once if they can be reached.
Never: closes or drops a message. It reads only open messages and deliveries, so idle sessions cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from nanohost.clock import Clock
from nanohost.containers.notices import Notice, delivery_notice, event_notice, notice_delivery, notice_seqs
from nanohost.containers.pool import FailureInfo, Slot, SlotState
from nanohost.db import deliveries, events, holds, overdue_messages, paused, sessions, turn_failures
from nanohost.db.database import Store
from nanohost.db.deliveries import CHAT_CLOSED, Delivery
from nanohost.db.events import StoredEvent
from nanohost.db.late_failures import FAILED_LATER
from nanohost.db.notice_numbers import OVERDUE_NOTICE
from nanohost.db.overdue_messages import LateDelivery, LateEvent, LateMessage
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId
from nanohost.text.translation import gettext_noop
from nanohost_protocol.rows import Ack, ChatId, MessageIn, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMessage:
    """The state of a waiting message in a mailbox. Ages in seconds."""

    age_s: float
    is_claimed: bool = False
    """Whether a living container works on it."""
    stalled_s: float = 0.0
    """Since that turn last showed progress."""
    container_state: SlotState | None = None
    is_queued: bool = False
    """Whether its session waits for a free container."""
    failure: str = ""
    """Why the session's containers fail."""
    is_between_attempts: bool = False
    is_explained: bool = False
    """Whether its chat was notified why it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueCause:
    """`reason` is a stable word for counters, `detail` is for the operator."""

    reason: str
    detail: str


def overdue_cause(pending: PendingMessage, deadline_s: float) -> OverdueCause | None:
    """Returns why a message is overdue; None if it is in time, is being worked on, or its wait was explained."""
    if pending.age_s <= deadline_s or pending.is_explained:
        return None
    if pending.is_claimed:
        if pending.stalled_s <= deadline_s:
            return None
        return OverdueCause(reason="silent turn", detail=f"its turn has shown nothing for {pending.stalled_s:.0f} s")
    if pending.failure:
        return OverdueCause(reason="no container", detail=pending.failure)
    if pending.is_queued:
        return OverdueCause(
            reason="queued", detail="it waits for a free container: all of [host] max_containers are at work"
        )
    if pending.is_between_attempts:
        return OverdueCause(reason="failing", detail="its tries fail, and it waits for the next one")
    if pending.container_state is not None:
        return OverdueCause(
            reason="not taken", detail=f"its container is {pending.container_state} and does not take it"
        )
    return OverdueCause(reason="not started", detail="no container was started for it")


CHECK_INTERVAL_S = 60.0
NOTIFY_WINDOW = timedelta(days=1)
"""A message that failed longer ago is only shown in the status."""

PENDING_NOTICE = gettext_noop(
    "I have not managed to work on this yet. I keep it and go on trying; the operator can see why."
)
QUARANTINED_NOTICE = gettext_noop(
    "I could not take in this message. The operator can see why, and can let me try again."
)
UNDELIVERED_NOTICE = gettext_noop(
    "I had something to say here and could not send it. The operator can see what and why."
)

_log = structlog.get_logger()


class ContainerInfo(Protocol):
    """Reports the state of containers; implemented by the container manager."""

    def containers(self) -> list[Slot]: ...

    def is_queued(self, session: SessionId) -> bool: ...

    def failures(self) -> dict[SessionId, FailureInfo]: ...

    def stalled_s(self, session: SessionId) -> float:
        """Returns the seconds since the session's turn last showed progress."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _OverdueItem:
    """An overdue message or delivery, and the notice to send about it, if any."""

    overdue: LateMessage
    notice: Delivery | None = None


class OverdueMonitor:
    """One per host. `session_for`: returns the session in which the sender of an event is answered, if there is one."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        containers: ContainerInfo,
        session_for: Callable[[StoredEvent], Awaitable[SessionId | None]],
        deadline_s: float,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._containers = containers
        self._session_for = session_for
        self._deadline_s = deadline_s
        self._paused_at: float | None = None
        """When a pause was last seen, on the monotonic clock."""

    async def run(self) -> None:
        """Run for ever: check for overdue messages."""
        while True:
            await self._clock.sleep(min(CHECK_INTERVAL_S, self._deadline_s / 4))
            await self.check()

    async def check(self) -> None:
        """Check all open messages and deliveries once. Does nothing during a pause and for a deadline after it: people
        know about it, and waiting messages get their full time again. Raises StoreError."""
        now = self._clock.now()
        if await paused.find(self._store) is not None:
            self._paused_at = self._clock.monotonic()
        if self._paused_at is not None and self._clock.monotonic() - self._paused_at < self._deadline_s:
            return
        known = await overdue_messages.list_known(self._store)
        overdue = [*await self._overdue_events(known, now), *await self._overdue_deliveries(known, now)]
        for session in await sessions.list_due(self._store, now + timedelta(seconds=CHECK_INTERVAL_S)):
            overdue += await self._overdue_messages(session, known, now)
        await self._record(overdue, known, now)

    async def _record(self, items: Sequence[_OverdueItem], known: Mapping[str, LateMessage], now: datetime) -> None:
        resolved = known.keys() - {one.overdue.name for one in items}
        changed = [one for one in items if known.get(one.overdue.name) != one.overdue]
        if resolved or changed:
            async with self._store.transaction() as tx:
                await overdue_messages.delete(tx, resolved)
                for one in changed:
                    await overdue_messages.save(tx, one.overdue, now)
                    if one.notice is not None:
                        await deliveries.add(tx, one.notice)
        for one in changed:
            if one.overdue.name not in known:
                _log_overdue(one.overdue)

    # --- events that did not reach a mailbox, and deliveries that did not reach people ---

    async def _overdue_events(self, known: Mapping[str, LateMessage], now: datetime) -> list[_OverdueItem]:
        before = now - timedelta(seconds=self._deadline_s)
        return [
            await self._overdue_event(one, known, now)
            for one in await overdue_messages.find_late_events(self._store, before=before)
        ]

    async def _overdue_event(
        self, late_event: LateEvent, known: Mapping[str, LateMessage], now: datetime
    ) -> _OverdueItem:
        """Returns the overdue event, with a notice to its sender in its session, if it has one."""
        cause, sentence, notice_text = _EVENT_CAUSES[late_event.status]
        stored = await events.get(self._store, late_event.id)
        name = f"event {late_event.id}"
        before = known.get(name)
        is_notified, session, notice = before is not None and before.notified, late_event.session_id, None
        if not is_notified:
            session = session or await self._session_for(stored)
            if session is not None:
                notice = event_notice(session, late_event.id, _origin_of(stored), notice_text, now)
        overdue = LateMessage(
            name=name,
            session_id=session if before is None else before.session_id,
            channel=f"{stored.chat.channel_type}:{stored.chat.instance}",
            platform_id=stored.chat.platform_id,
            cause=cause,
            sentence=late_event.reason or sentence,
            since=late_event.received_at,
            notified=is_notified or notice is not None,
        )
        return _OverdueItem(overdue=overdue, notice=notice)

    async def _overdue_deliveries(self, known: Mapping[str, LateMessage], now: datetime) -> list[_OverdueItem]:
        before = now - timedelta(seconds=self._deadline_s)
        rows = await overdue_messages.find_late_deliveries(self._store, before=before, lately=now - NOTIFY_WINDOW)
        return [await self._overdue_delivery(row, known, now) for row in rows]

    async def _overdue_delivery(
        self, row: LateDelivery, known: Mapping[str, LateMessage], now: datetime
    ) -> _OverdueItem:
        """Returns the overdue delivery, with a notice if it failed: behind a channel that is down none would arrive."""
        name = f"delivery {row.session_id} {row.seq}"
        before, is_dead, notice = known.get(name), row.status == "dead", None
        # The agent was told of these failures, and a notice would not arrive in that chat either.
        is_known = row.reason.startswith((FAILED_LATER, CHAT_CLOSED))
        if is_dead and row.seq > 0 and not is_known and (before is None or not before.notified):
            entry = await deliveries.find(self._store, row.session_id, row.seq)
            notice = delivery_notice(entry, UNDELIVERED_NOTICE, now) if entry is not None else None
        overdue = LateMessage(
            name=name,
            session_id=row.session_id,
            channel=row.channel,
            platform_id=row.platform_id,
            cause="not sent" if is_dead else "undelivered",
            sentence=row.reason or "it waits for its turn",
            since=row.since,
            notified=notice is not None or (before is not None and before.notified),
        )
        return _OverdueItem(overdue=overdue, notice=notice)

    # --- messages that wait in a mailbox ---

    async def _overdue_messages(
        self, session: Session, known: Mapping[str, LateMessage], now: datetime
    ) -> list[_OverdueItem]:
        """Returns the overdue messages of one mailbox."""
        try:
            old = await self._old_messages(session, now)
            claims = await self._open_claims(session) if old else []
        except MailboxError as error:
            return await self._unreadable_mailbox(session, error, known, now)
        claimed = {claim.message_id for claim in claims if claim.container_id == session.lease}
        failures = await turn_failures.find(self._store, session.id) if old else None
        hold = await holds.find(self._store, session.id) if old else None
        notified = failures.notified_chats if failures is not None and failures.is_holding(now) else frozenset[ChatId]()
        notified |= hold.notified_chats if hold is not None else frozenset()
        by_chat: dict[ChatId, list[_OverdueItem]] = defaultdict(list)
        for message, since in old:
            assert message.origin is not None
            pending = self._pending_message(session, message, since, now, is_claimed=message.id in claimed)
            pending = replace(pending, is_explained=message.origin.chat in notified)
            if (cause := overdue_cause(pending, self._deadline_s)) is not None:
                name = f"message {message.id}"
                is_notified = name in known or await overdue_messages.has_notice(
                    self._store, session.id, notice_seqs(message)
                )
                entry = _overdue_record(session, message, since, cause.reason, cause.detail)
                notice = (
                    None
                    if is_notified
                    else notice_delivery(
                        session, Notice(message=message, number=OVERDUE_NOTICE, text=PENDING_NOTICE), now
                    )
                )
                by_chat[message.origin.chat].append(_OverdueItem(overdue=entry, notice=notice))
        return [one for items in by_chat.values() for one in _keep_latest_notice(items)]

    async def _open_claims(self, session: Session) -> list[Ack]:
        return await self._mailboxes.read_outbound(session, queries.open_claims()) or []

    async def _old_messages(self, session: Session, now: datetime) -> list[tuple[MessageIn, datetime]]:
        """Returns the latest messages that came before the deadline, and when they came. Raises MailboxError."""
        before, due, limit = (
            now - timedelta(seconds=self._deadline_s),
            now + timedelta(days=1),
            overdue_messages.MAX_ROWS,
        )
        rows = await self._mailboxes.read_inbound(session, lambda box: box.overdue(before=before, due=due, limit=limit))
        found = []
        for row in rows:
            since = await overdue_messages.received_at(self._store, row.id) or row.timestamp
            if since < before:
                found.append((row, since))
        return found

    def _pending_message(
        self, session: Session, message: MessageIn, since: datetime, now: datetime, *, is_claimed: bool
    ) -> PendingMessage:
        slot = next((one for one in self._containers.containers() if one.session_id == session.id), None)
        failure = self._containers.failures().get(session.id)
        return PendingMessage(
            age_s=(now - since).total_seconds(),
            is_claimed=is_claimed,
            stalled_s=self._containers.stalled_s(session.id),
            container_state=None if slot is None else slot.state,
            is_queued=self._containers.is_queued(session.id),
            failure="" if failure is None else failure.reason,
            is_between_attempts=message.process_after is not None and message.process_after > now,
        )

    async def _unreadable_mailbox(
        self, session: Session, error: MailboxError, known: Mapping[str, LateMessage], now: datetime
    ) -> list[_OverdueItem]:
        """Returns an overdue item for the latest event of a session whose mailbox cannot be read."""
        if session.due_at is None or session.due_at > now - timedelta(seconds=self._deadline_s):
            return []
        latest = await overdue_messages.latest_event(self._store, session.id)
        if latest is None:
            return []
        event = LateEvent(
            id=latest, session_id=session.id, status="unreadable", reason=str(error), received_at=session.due_at
        )
        return [await self._overdue_event(event, known, now)]


_EVENT_CAUSES = {
    "new": ("not routed", "routing it fails, or has not got to it", PENDING_NOTICE),
    "set_aside": ("set aside", "routing it failed again and again", QUARANTINED_NOTICE),
    "waiting": ("mailbox", "its mailbox refuses", PENDING_NOTICE),
    "unreadable": ("mailbox", "its mailbox cannot be read", PENDING_NOTICE),
}
"""By an event's status: the cause, a sentence for the operator if the event has none, and one for the person."""


def _keep_latest_notice(items: Sequence[_OverdueItem]) -> list[_OverdueItem]:
    """Keep one notice for each chat and check: that in reply to the latest message that has one."""
    latest = max((at for at, one in enumerate(items) if one.notice is not None), default=None)
    return [
        _OverdueItem(overdue=replace(one.overdue, notified=True), notice=one.notice if at == latest else None)
        for at, one in enumerate(items)
    ]


def _overdue_record(session: Session, message: MessageIn, since: datetime, cause: str, detail: str) -> LateMessage:
    assert message.origin is not None
    return LateMessage(
        name=f"message {message.id}",
        session_id=session.id,
        channel=f"{message.origin.channel_type}:{message.origin.instance}",
        platform_id=message.origin.platform_id,
        cause=cause,
        sentence=detail,
        since=since,
    )


def _origin_of(stored: StoredEvent) -> Origin:
    return Origin(
        channel_type=stored.chat.channel_type,
        instance=stored.chat.instance,
        platform_id=stored.chat.platform_id,
        thread_id=stored.event.thread_id,
        platform_message_id=stored.event.platform_message_id,
    )


def _log_overdue(overdue: LateMessage) -> None:
    _log.error(
        "message_overdue",
        what=overdue.name,
        session=overdue.session_id,
        channel=overdue.channel,
        chat=overdue.platform_id,
        cause=overdue.cause,
        sentence=overdue.sentence,
        since=overdue.since,
        notified=overdue.notified,
    )
