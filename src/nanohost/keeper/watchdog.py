"""Nobody is left in silence: looks once a minute for what is older than its deadline and has come to nothing.

Whatever the cause, a message of a person ends as an answer, as silence that was meant, as a drop on record, or in what
is found here: it is on the status screen as long as it lasts, in the log once, and the person is told once, as far as
they can be reached. Nothing is ever given up here. Looks only at what is open: sessions that rest cost nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from nanohost.clock import Clock
from nanohost.errors import MailboxError
from nanohost.keeper.lateness import Waiting, late
from nanohost.keeper.notices import Notice, about_delivery, about_event, delivery_of, notice_seqs
from nanohost.keeper.pauses import Trouble
from nanohost.keeper.slots import Slot
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId
from nanohost.store import deliveries, events, holds, paused, sessions, turn_failures
from nanohost.store import late as late_messages
from nanohost.store.database import Store
from nanohost.store.deliveries import CHAT_CLOSED, Delivery
from nanohost.store.events import StoredEvent
from nanohost.store.late import Late, LateDelivery, LateEvent
from nanohost.store.late_failures import FAILED_LATER
from nanohost.store.notice_numbers import LATE
from nanohost_protocol.rows import Ack, ChatId, MessageIn, Origin

LOOK_EVERY_S = 60.0
TOLD_FOR = timedelta(days=1)
"""A message that was given up longer ago is on the status screen only."""

NOT_YET = "I have not managed to work on this yet. I keep it and go on trying; the operator can see why."
SET_ASIDE = "I could not take in this message. The operator can see why, and can let me try again."
NOT_SENT = "I had something to say here and could not send it. The operator can see what and why."

_log = structlog.get_logger()


class Containers(Protocol):
    """What is known of them: the keeper."""

    def containers(self) -> list[Slot]: ...

    def is_waiting(self, session: SessionId) -> bool: ...

    def troubles(self) -> dict[SessionId, Trouble]: ...

    def quiet_s(self, session: SessionId) -> float:
        """For how long the session's turn has shown nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Something late, and the notice that is still to be sent about it."""

    late: Late
    notice: Delivery | None = None


class Watchdog:
    """One per host. `session_for`: in which conversation the sender of an event is answered, if anybody answers."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        containers: Containers,
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
        """When it was last seen that all is paused."""

    async def watch(self) -> None:
        """For ever: look, and say what is late."""
        while True:
            await self._clock.sleep(min(LOOK_EVERY_S, self._deadline_s / 4))
            await self.look()

    async def look(self) -> None:
        """One look at everything that is open, unless all is paused, or was just now: people know that, and what waits
        has its time anew. Raises StoreError."""
        now = self._clock.now()
        if await paused.find(self._store) is not None:
            self._paused_at = self._clock.monotonic()
        if self._paused_at is not None and self._clock.monotonic() - self._paused_at < self._deadline_s:
            return
        known = await late_messages.known(self._store)
        found = [*await self._events(known, now), *await self._deliveries(known, now)]
        for session in await sessions.due(self._store, now + timedelta(seconds=LOOK_EVERY_S)):
            found += await self._session(session, known, now)
        await self._record(found, known, now)

    async def _record(self, found: Sequence[_Found], known: Mapping[str, Late], now: datetime) -> None:
        settled = known.keys() - {one.late.name for one in found}
        changed = [one for one in found if known.get(one.late.name) != one.late]
        if settled or changed:
            async with self._store.transaction() as tx:
                await late_messages.forget(tx, settled)
                for one in changed:
                    await late_messages.put(tx, one.late, now)
                    if one.notice is not None:
                        await deliveries.add(tx, one.notice)
        for one in changed:
            if one.late.name not in known:
                _say(one.late)

    # --- what has not come to a mailbox, and what has not come to people ---

    async def _events(self, known: Mapping[str, Late], now: datetime) -> list[_Found]:
        before = now - timedelta(seconds=self._deadline_s)
        return [await self._event(one, known, now) for one in await late_messages.events(self._store, before=before)]

    async def _event(self, one: LateEvent, known: Mapping[str, Late], now: datetime) -> _Found:
        """Its sender is told in the session it belongs to, if there is one for them."""
        cause, sentence, words = _EVENTS[one.status]
        stored = await events.get(self._store, one.id)
        name = f"event {one.id}"
        before = known.get(name)
        told, session, notice = before is not None and before.told, one.session_id, None
        if not told:
            session = session or await self._session_for(stored)
            notice = None if session is None else about_event(session, one.id, _origin(stored), words, now)
        found = Late(
            name=name,
            session_id=session if before is None else before.session_id,
            channel=f"{stored.chat.channel_type}:{stored.chat.instance}",
            platform_id=stored.chat.platform_id,
            cause=cause,
            sentence=one.reason or sentence,
            since=one.received_at,
            told=told or notice is not None,
        )
        return _Found(late=found, notice=notice)

    async def _deliveries(self, known: Mapping[str, Late], now: datetime) -> list[_Found]:
        before = now - timedelta(seconds=self._deadline_s)
        rows = await late_messages.deliveries(self._store, before=before, lately=now - TOLD_FOR)
        return [await self._delivery(row, known, now) for row in rows]

    async def _delivery(self, row: LateDelivery, known: Mapping[str, Late], now: datetime) -> _Found:
        """Who waits behind a channel that is down cannot be told; who misses a message that was refused perhaps can."""
        name = f"delivery {row.session_id} {row.seq}"
        before, dead, notice = known.get(name), row.status == "dead", None
        # Its agent knows, and a notice would not arrive there, either.
        is_known = row.reason.startswith((FAILED_LATER, CHAT_CLOSED))
        if dead and row.seq > 0 and not is_known and (before is None or not before.told):
            entry = await deliveries.find(self._store, row.session_id, row.seq)
            notice = about_delivery(entry, NOT_SENT, now) if entry is not None else None
        found = Late(
            name=name,
            session_id=row.session_id,
            channel=row.channel,
            platform_id=row.platform_id,
            cause="not sent" if dead else "undelivered",
            sentence=row.reason or "it waits for its turn",
            since=row.since,
            told=notice is not None or (before is not None and before.told),
        )
        return _Found(late=found, notice=notice)

    # --- what waits in a mailbox ---

    async def _session(self, session: Session, known: Mapping[str, Late], now: datetime) -> list[_Found]:
        """What is late of the messages that wait in one mailbox."""
        try:
            old = await self._old(session, now)
            claims = await self._claims(session) if old else []
        except MailboxError as error:
            return await self._unreadable(session, error, known, now)
        claimed = {claim.message_id for claim in claims if claim.container_id == session.lease}
        failures = await turn_failures.find(self._store, session.id) if old else None
        hold = await holds.find(self._store, session.id) if old else None
        knowing = failures.told if failures is not None and failures.holds(now) else frozenset[ChatId]()
        knowing |= hold.told if hold is not None else frozenset()
        by_chat: dict[ChatId, list[_Found]] = defaultdict(list)
        for message, since in old:
            assert message.origin is not None
            facts = self._facts(session, message, since, now, claimed=message.id in claimed)
            facts = replace(facts, explained=message.origin.chat in knowing)
            if (cause := late(facts, self._deadline_s)) is not None:
                name = f"message {message.id}"
                told = name in known or await late_messages.has_notice(self._store, session.id, notice_seqs(message))
                entry = _late(session, message, since, cause.reason, cause.sentence)
                notice = (
                    None if told else delivery_of(session, Notice(message=message, number=LATE, sentence=NOT_YET), now)
                )
                by_chat[message.origin.chat].append(_Found(late=entry, notice=notice))
        return [one for found in by_chat.values() for one in _one_notice(found)]

    async def _claims(self, session: Session) -> list[Ack]:
        return await self._mailboxes.outbound(session, queries.open_claims()) or []

    async def _old(self, session: Session, now: datetime) -> list[tuple[MessageIn, datetime]]:
        """The latest of the messages that came before the deadline, and when. Raises MailboxError."""
        before, due, most = now - timedelta(seconds=self._deadline_s), now + timedelta(days=1), late_messages.MOST
        rows = await self._mailboxes.inbound(session, lambda box: box.old(before=before, due=due, limit=most))
        found = []
        for row in rows:
            since = await late_messages.received(self._store, row.id) or row.timestamp
            if since < before:
                found.append((row, since))
        return found

    def _facts(self, session: Session, message: MessageIn, since: datetime, now: datetime, *, claimed: bool) -> Waiting:
        slot = next((one for one in self._containers.containers() if one.session_id == session.id), None)
        trouble = self._containers.troubles().get(session.id)
        return Waiting(
            age_s=(now - since).total_seconds(),
            claimed=claimed,
            quiet_s=self._containers.quiet_s(session.id),
            container=None if slot is None else slot.state,
            queued=self._containers.is_waiting(session.id),
            trouble="" if trouble is None else trouble.reason,
            between_tries=message.process_after is not None and message.process_after > now,
        )

    async def _unreadable(
        self, session: Session, error: MailboxError, known: Mapping[str, Late], now: datetime
    ) -> list[_Found]:
        """Our own file of the session cannot be read: who wrote last is told."""
        if session.due_at is None or session.due_at > now - timedelta(seconds=self._deadline_s):
            return []
        latest = await late_messages.latest_event(self._store, session.id)
        if latest is None:
            return []
        one = LateEvent(
            id=latest, session_id=session.id, status="unreadable", reason=str(error), received_at=session.due_at
        )
        return [await self._event(one, known, now)]


_EVENTS = {
    "new": ("not routed", "routing it fails, or has not got to it", NOT_YET),
    "set_aside": ("set aside", "routing it failed again and again", SET_ASIDE),
    "waiting": ("mailbox", "its mailbox refuses", NOT_YET),
    "unreadable": ("mailbox", "its mailbox cannot be read", NOT_YET),
}
"""By an event's status: the cause, a sentence for the operator where none is known, and one for the person."""


def _one_notice(found: Sequence[_Found]) -> list[_Found]:
    """One sentence a chat and look is enough: it answers the latest of the messages that nobody has spoken of."""
    latest = max((at for at, one in enumerate(found) if one.notice is not None), default=None)
    return [
        _Found(late=replace(one.late, told=True), notice=one.notice if at == latest else None)
        for at, one in enumerate(found)
    ]


def _late(session: Session, message: MessageIn, since: datetime, cause: str, sentence: str) -> Late:
    assert message.origin is not None
    return Late(
        name=f"message {message.id}",
        session_id=session.id,
        channel=f"{message.origin.channel_type}:{message.origin.instance}",
        platform_id=message.origin.platform_id,
        cause=cause,
        sentence=sentence,
        since=since,
    )


def _origin(stored: StoredEvent) -> Origin:
    return Origin(
        channel_type=stored.chat.channel_type,
        instance=stored.chat.instance,
        platform_id=stored.chat.platform_id,
        thread_id=stored.event.thread_id,
        platform_message_id=stored.event.platform_message_id,
    )


def _say(one: Late) -> None:
    _log.error(
        "message_late",
        what=one.name,
        session=one.session_id,
        channel=one.channel,
        chat=one.platform_id,
        cause=one.cause,
        sentence=one.sentence,
        since=one.since,
        told=one.told,
    )
