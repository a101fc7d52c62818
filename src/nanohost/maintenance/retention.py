"""Deletes, once a day, rows that were settled long ago.

Promises: never deletes an open row, or a row that an open row refers to. A platform's repeat of an event is recognized
for at least thirty days; the audit log covers a year; the sums of model calls stay. Works in small batches that delay
nothing else; a crash between two of them leaves the rest for the next day.
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
from nanohost.db import (
    approvals,
    audit,
    codes,
    dropped,
    expired_rows,
    message_turns,
    questions,
    rules,
    sessions,
    turn_costs,
)
from nanohost.db.database import Store, Transaction
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.session_dirs import attachment_dir
from nanohost.model import Session
from nanohost.runtimes.session_folders import container_log_path
from nanohost.work.tree_removal import remove_tree
from nanohost_protocol.inbound import InboundReader, InboundWriter
from nanohost_protocol.layout import SessionLayout

INITIAL_DELAY_S = 600.0
"""The delay after a start, when there is other work."""
INTERVAL_S = 86400.0
MIN_EVENT_RETENTION = timedelta(days=30)
"""So long a platform may redeliver an event, and people may press a button of a closed card."""
MIN_COST_RETENTION = timedelta(days=32)
"""/cost shows the last thirty days."""
MIN_AUDIT_RETENTION = timedelta(days=366)
"""Decisions about people are asked for late."""
MAX_QUESTION_AGE = timedelta(days=7)
"""After that an open question is closed."""


class _DeleteOld(Protocol):
    async def __call__(self, tx: Transaction, *, before: datetime, limit: int) -> int: ...


_RETENTION_RULES: tuple[tuple[str, _DeleteOld, timedelta], ...] = (
    ("questions", questions.delete_old, timedelta()),
    ("rules", rules.delete_old, timedelta()),
    ("dropped", dropped.delete_old, timedelta()),
    ("costs", turn_costs.delete_old, MIN_COST_RETENTION),
    ("turns", message_turns.delete_old, MIN_EVENT_RETENTION),
    ("audit", audit.delete_old, MIN_AUDIT_RETENTION),
    ("approvals", approvals.delete_old, MIN_EVENT_RETENTION),
    (
        "said",
        expired_rows.delete_host_messages,
        MIN_EVENT_RETENTION,
    ),  # after the approvals: a card stays as long as its approval
)
"""Name in the log, function, and the shortest retention."""

_log = structlog.get_logger()


class Retention:
    """Deletes rows that were settled more than `keep_days` ago; with 0, only one-time codes."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock, keep_days: int) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._retention_period = timedelta(days=keep_days)

    async def run(self) -> NoReturn:
        """Run for ever, once a day. Raises StoreError."""
        await self._clock.sleep(INITIAL_DELAY_S)
        while True:
            await self.run_once()
            await self._clock.sleep(INTERVAL_S)

    async def run_once(self) -> None:
        """Delete everything that is old enough now. Raises StoreError."""
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await questions.close_old(tx, before=now - MAX_QUESTION_AGE)
            await codes.expire(tx, now)
        for delete_old in (codes.delete_old, codes.delete_old_guesses):
            await self._delete_old(delete_old, now - codes.RETENTION)
        if not self._retention_period:
            return
        before = now - self._retention_period
        deleted = {
            "events": await self._delete_events(now - max(self._retention_period, MIN_EVENT_RETENTION)),
            "calls": await self._aggregate_calls(now - max(self._retention_period, MIN_COST_RETENTION)),
            "runs": await self._delete_runs(before),
            "tasks": await self._delete_in_batches(lambda tx: expired_rows.delete_tasks(tx, before=before)),
            **{
                name: await self._delete_old(delete_old, now - max(self._retention_period, min_retention))
                for name, delete_old, min_retention in _RETENTION_RULES
            },
            "mailbox_rows": 0,
            "deliveries": 0,
        }
        async for session in sessions.iter_all(self._store.reports):
            try:
                rows, entries = await self._clean_session(session, before)
            except (MailboxError, OSError) as error:
                _log.warning("retention_skipped", session=session.id, error=str(error))
                continue
            deleted["mailbox_rows"] += rows
            deleted["deliveries"] += entries
        _log.info("retention_completed", before=before.isoformat(timespec="seconds"), **deleted)

    async def _delete_events(self, before: datetime) -> int:
        below = await expired_rows.first_recent_event(self._store.reports, before)
        after, count = 0, 0
        while True:
            async with self._store.transaction() as tx:
                ids = await expired_rows.delete_events(tx, after=after, below=below)
            if not ids:
                return count
            after, count = ids[-1], count + len(ids)

    async def _delete_runs(self, before: datetime) -> int:
        after: expired_rows.RunKey | None = expired_rows.FIRST_RUN_KEY
        count = 0
        while after is not None:
            async with self._store.transaction() as tx:
                done, after = await expired_rows.delete_runs(tx, before=before, after=after)
            count += done
        return count

    async def _aggregate_calls(self, before: datetime) -> int:
        below = await expired_rows.first_recent_call(self._store.reports, before)
        return await self._delete_in_batches(lambda tx: expired_rows.aggregate_calls(tx, below=below))

    async def _delete_old(self, delete_old: _DeleteOld, before: datetime) -> int:
        return await self._delete_in_batches(lambda tx: delete_old(tx, before=before, limit=expired_rows.BATCH_SIZE))

    async def _delete_in_batches(self, delete: Callable[[Transaction], Awaitable[int]]) -> int:
        """Delete one batch for each transaction, until one is not full. Returns how many rows."""
        count = 0
        while True:
            async with self._store.transaction() as tx:
                done = await delete(tx)
            count += done
            if done < expired_rows.BATCH_SIZE:
                return count

    async def _clean_session(self, session: Session, before: datetime) -> tuple[int, int]:
        """Clean a session's mailbox and ledger. Returns the deleted rows of each. Raises MailboxError, StoreError."""
        layout = self._mailboxes.layout(session)
        if not await asyncio.to_thread(layout.inbound_db.exists):
            return 0, 0
        open_claims = await self._mailboxes.read_outbound(session, queries.open_claims())
        claims = None if open_claims is None else {claim.message_id for claim in open_claims}
        rows = 0 if claims is None else await self._clean_mailbox(session, before, claims)
        entries = await self._clean_ledger(session, before, has_no_claims=claims == set())
        if session.lease is None:
            await asyncio.to_thread(_truncate_log, container_log_path(layout.root), before)
        return rows, entries

    async def _clean_mailbox(self, session: Session, before: datetime, claims: set[str]) -> int:
        """Delete closed messages to which nothing refers, and old delivery results. Returns how many messages."""
        after, count, is_first = 0, 0, True
        while True:
            old_rows = await self._mailboxes.read_inbound(session, partial(_find_old_rows, before, after))
            kept = claims | await expired_rows.find_referenced(
                self._store, session.id, list(old_rows.closed_messages.values())
            )
            deletable = [id for id in old_rows.closed_messages.values() if id not in kept]
            if deletable or (is_first and old_rows.has_delivered):
                await self._mailboxes.update(session, partial(_delete_old_rows, before, deletable))
                await asyncio.to_thread(_remove_files, self._mailboxes.layout(session), deletable)
            count, is_first = count + len(deletable), False
            if not old_rows.closed_messages:
                return count
            after = max(old_rows.closed_messages)

    async def _clean_ledger(self, session: Session, before: datetime, *, has_no_claims: bool) -> int:
        count = 0
        while True:
            async with self._store.transaction() as tx:
                done = await expired_rows.delete_deliveries(tx, session.id, before=before, has_no_claims=has_no_claims)
            if not done:
                return count
            count += done


@dataclass(frozen=True, slots=True, kw_only=True)
class _OldRows:
    """The old rows of a mailbox: closed messages by number, and whether there are old delivery results."""

    closed_messages: Mapping[int, str]
    has_delivered: bool


def _find_old_rows(before: datetime, after: int, box: InboundReader) -> _OldRows:
    return _OldRows(
        closed_messages=box.closed_before(before, after=after, limit=expired_rows.BATCH_SIZE),
        has_delivered=box.has_delivery_results_before(before),
    )


def _delete_old_rows(before: datetime, messages: Sequence[str], box: InboundWriter) -> None:
    box.delete_closed(messages)
    box.delete_delivery_results(before)


def _remove_files(layout: SessionLayout, messages: Sequence[str]) -> None:
    """Remove the files that people sent with these messages. Only the host writes the folder; a container reads it."""
    for message in messages:
        remove_tree(attachment_dir(layout, message))


def _truncate_log(path: os.PathLike[str], before: datetime) -> None:
    """Empty a log that was last written before that time. It is not removed: a starting container may have it open."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_mtime < before.timestamp():
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
