"""Once a day: what was settled long ago is deleted, so that nothing grows for ever.

Promises: nothing open is touched, nor anything that an open row refers to; a platform's repeat of an event is known
for thirty days at least, the audit log reaches back a year; the sums of model calls stay. Work is done in small batches
that nobody waits for, and a crash between two of them only leaves the rest for the next day.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NoReturn, Protocol

import structlog

from nanohost.clock import Clock
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.paths import inbox_of
from nanohost.model import Session
from nanohost.removal import remove
from nanohost.runtimes.folders import container_log
from nanohost.store import aged, approvals, audit, codes, dropped, message_turns, questions, rules, sessions, turn_costs
from nanohost.store.database import Store, Transaction
from nanohost_protocol.inbound import InboundReader, InboundWriter
from nanohost_protocol.layout import SessionLayout

FIRST_S = 600.0
"""After a start there is other work."""
INTERVAL_S = 86400.0
REPEATS_KEPT = timedelta(days=30)
"""At least: for so long a platform may deliver an event again, and people press a button that is done with."""
COSTS_KEPT = timedelta(days=32)
"""At least: /cost tells of the last thirty days."""
AUDIT_KEPT = timedelta(days=366)
"""At least: what was decided about people is asked for late."""
QUESTIONS_OPEN = timedelta(days=7)
"""Who answers later than that answers nothing."""


class _Forgets(Protocol):
    async def __call__(self, tx: Transaction, *, before: datetime, limit: int) -> int: ...


_BY_AGE: tuple[tuple[str, _Forgets, timedelta], ...] = (
    ("questions", questions.forget, timedelta()),
    ("rules", rules.forget, timedelta()),
    ("dropped", dropped.forget, timedelta()),
    ("costs", turn_costs.forget, COSTS_KEPT),
    ("turns", message_turns.forget, REPEATS_KEPT),
    ("audit", audit.forget, AUDIT_KEPT),
    ("approvals", approvals.forget, REPEATS_KEPT),
    ("said", aged.delete_said, REPEATS_KEPT),  # after the approvals: a card stays for as long as there is its own
)
"""With how long it is kept at least."""

_log = structlog.get_logger()


class Upkeep:
    """Deletes what was settled more than `keep_days` ago; with 0, nothing but one-time codes."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock, keep_days: int) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._keep = timedelta(days=keep_days)

    async def serve(self) -> NoReturn:
        """For ever, once a day. Raises StoreError."""
        await self._clock.sleep(FIRST_S)
        while True:
            await self.tidy()
            await self._clock.sleep(INTERVAL_S)

    async def tidy(self) -> None:
        """Delete all that is to be deleted now. Raises StoreError."""
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await questions.close_old(tx, before=now - QUESTIONS_OPEN)
            await codes.expire(tx, now)
        for forget in (codes.forget, codes.forget_guesses):
            await self._forget(forget, now - codes.KEPT)
        if not self._keep:
            return
        before = now - self._keep
        deleted = {
            "events": await self._events(now - max(self._keep, REPEATS_KEPT)),
            "calls": await self._calls(now - max(self._keep, COSTS_KEPT)),
            "runs": await self._runs(before),
            "tasks": await self._in_batches(lambda tx: aged.delete_tasks(tx, before=before)),
            **{name: await self._forget(forget, now - max(self._keep, kept)) for name, forget, kept in _BY_AGE},
            "mailbox_rows": 0,
            "deliveries": 0,
        }
        async for session in sessions.every(self._store.reports):
            try:
                rows, entries = await self._session(session, before)
            except (MailboxError, OSError) as error:
                _log.warning("upkeep_skipped", session=session.id, error=str(error))
                continue
            deleted["mailbox_rows"] += rows
            deleted["deliveries"] += entries
        _log.info("upkeep_done", before=before.isoformat(timespec="seconds"), **deleted)

    async def _events(self, before: datetime) -> int:
        below = await aged.first_young_event(self._store.reports, before)
        after, count = 0, 0
        while True:
            async with self._store.transaction() as tx:
                ids = await aged.delete_events(tx, after=after, below=below)
            if not ids:
                return count
            after, count = ids[-1], count + len(ids)

    async def _runs(self, before: datetime) -> int:
        after: aged.RunKey | None = aged.BEFORE_ALL_RUNS
        count = 0
        while after is not None:
            async with self._store.transaction() as tx:
                done, after = await aged.delete_runs(tx, before=before, after=after)
            count += done
        return count

    async def _calls(self, before: datetime) -> int:
        below = await aged.first_young_call(self._store.reports, before)
        return await self._in_batches(lambda tx: aged.sum_up_calls(tx, below=below))

    async def _forget(self, forget: _Forgets, before: datetime) -> int:
        return await self._in_batches(lambda tx: forget(tx, before=before, limit=aged.BATCH))

    async def _in_batches(self, delete: Callable[[Transaction], Awaitable[int]]) -> int:
        """One batch a transaction, until one is not full. Returns how many rows."""
        count = 0
        while True:
            async with self._store.transaction() as tx:
                done = await delete(tx)
            count += done
            if done < aged.BATCH:
                return count

    async def _session(self, session: Session, before: datetime) -> tuple[int, int]:
        """Rows of its mailbox and entries of its ledger that were deleted. Raises MailboxError, StoreError."""
        layout = self._mailboxes.layout(session)
        if not await asyncio.to_thread(layout.inbound_db.exists):
            return 0, 0
        open_claims = await self._mailboxes.outbound(session, queries.open_claims())
        claims = None if open_claims is None else {claim.message_id for claim in open_claims}
        rows = 0 if claims is None else await self._mailbox(session, before, claims)
        entries = await self._ledger(session, before, no_claims=claims == set())
        if session.lease is None:
            await asyncio.to_thread(_empty_log, container_log(layout.root), before)
        return rows, entries

    async def _mailbox(self, session: Session, before: datetime, claims: set[str]) -> int:
        """Closed messages that nothing refers to, and what the runner was told of old answers."""
        after, count, told = 0, 0, True
        while True:
            aging = await self._mailboxes.inbound(session, partial(_aging, before, after))
            kept = claims | await aged.referred_to(self._store, session.id, list(aging.closed.values()))
            gone = [id for id in aging.closed.values() if id not in kept]
            if gone or (told and aging.has_delivered):
                await self._mailboxes.update(session, partial(_forget, before, gone))
                await asyncio.to_thread(_remove_files, self._mailboxes.layout(session), gone)
            count, told = count + len(gone), False
            if not aging.closed:
                return count
            after = max(aging.closed)

    async def _ledger(self, session: Session, before: datetime, *, no_claims: bool) -> int:
        count = 0
        while True:
            async with self._store.transaction() as tx:
                done = await aged.delete_deliveries(tx, session.id, before=before, no_claims=no_claims)
            if not done:
                return count
            count += done


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aging:
    """What of a mailbox is old: closed messages by number, and whether there are rows about old answers."""

    closed: Mapping[int, str]
    has_delivered: bool


def _aging(before: datetime, after: int, box: InboundReader) -> _Aging:
    return _Aging(
        closed=box.closed_before(before, after=after, limit=aged.BATCH), has_delivered=box.has_delivered_before(before)
    )


def _forget(before: datetime, messages: Sequence[str], box: InboundWriter) -> None:
    box.forget_closed(messages)
    box.forget_delivered(before)


def _remove_files(layout: SessionLayout, messages: Sequence[str]) -> None:
    """What people sent with these. The folder is ours alone: a container can only read it."""
    for message in messages:
        remove(inbox_of(layout, message))


def _empty_log(path: os.PathLike[str], before: datetime) -> None:
    """What a container said long ago. Emptied and not removed: a container that starts now may have it open."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_mtime < before.timestamp():
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
