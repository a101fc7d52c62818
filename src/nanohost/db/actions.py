"""Stores actions: the requests of agents to the host. Every request has a row, whatever its outcome."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.domain_events import RequestsWaiting
from nanohost.db.rows import from_row, origin_columns
from nanohost.db.sessions import IN_CHAT
from nanohost.model import ApprovalId, MessagingGroupId, SessionId
from nanohost_protocol.ids import notice_id as notice_id_of
from nanohost_protocol.rows import Origin, origin_from_row
from nanohost_protocol.times import to_text

ADD = """
INSERT INTO actions
    (session_id, seq, out_id, name, arguments, channel_type, instance, platform_id, thread_id, requested_at,
     status, reason, notice_id, notified, created_at, done_at, approval_id)
VALUES
    (:session_id, :seq, :out_id, :name, :arguments, :channel_type, :instance, :platform_id, :thread_id, :requested_at,
     :status, :reason, :notice_id, 0, :created_at, :done_at, :approval_id)
ON CONFLICT (session_id, seq) DO NOTHING
"""
NEXT = """
SELECT * FROM actions INDEXED BY actions_open
WHERE status != 'held' AND (status = 'pending' OR notified = 0) AND session_id = ? ORDER BY seq LIMIT 1
"""
BY_KEY = "SELECT * FROM actions WHERE session_id = ? AND seq = ?"
OPEN_SESSIONS = (
    "SELECT DISTINCT session_id FROM actions WHERE status != 'held' AND (status = 'pending' OR notified = 0)"
)
MAX_REJECTED_ARGUMENT_CHARS = 2_000
"""Characters of the arguments that are kept of a request that was not carried out: enough to see its intent."""
_TRUNCATED_ARGUMENTS = f"substr(arguments, 1, {MAX_REJECTED_ARGUMENT_CHARS})"
SETTLE = f"""
UPDATE actions SET status = :status, arguments = iif(:status = 'done', arguments, {_TRUNCATED_ARGUMENTS}),
    reason = :reason, notice_id = :notice_id, done_at = :now,
    notified = CASE WHEN :notice_id IS NULL THEN 1 ELSE 0 END
WHERE session_id = :session_id AND seq = :seq AND status = 'pending'
"""  # noqa: S608
HOLD = "UPDATE actions SET status = 'held', approval_id = ? WHERE session_id = ? AND seq = ? AND status = 'pending'"
HELD_FOR = "SELECT * FROM actions WHERE approval_id = ? AND status = 'held' ORDER BY session_id, seq"
RELEASE = "UPDATE actions SET status = 'pending' WHERE session_id = ? AND seq = ? AND status = 'held'"
# The agent is notified as of a request that is refused at once: by the session's worker.
REJECT_HELD = f"""
UPDATE actions SET status = 'refused', arguments = {_TRUNCATED_ARGUMENTS}, reason = :reason, notice_id = :notice_id,
    done_at = :now, notified = 0
WHERE session_id = :session_id AND seq = :seq AND status = 'held'
"""  # noqa: S608
COUNT_UNSUCCESSFUL_APPROVALS = """
SELECT count(*) AS times FROM actions
WHERE status IN ('refused', 'failed') AND session_id = :session_id AND name = :name AND approval_id IS NOT NULL
    AND done_at > :since AND done_at <= :until
"""
MARK_NOTIFIED = "UPDATE actions SET notified = 1 WHERE session_id = ? AND seq = ?"
# A request that failed later than now failed before the clock was set back: it is old.
COUNT_FAILED_BEFORE = """
SELECT count(*) AS bad FROM (
    SELECT 1 FROM actions
    WHERE status IN ('refused', 'failed') AND session_id = :session_id AND seq < :seq
        AND done_at > :since AND done_at <= :until
    LIMIT :most)
"""
LATEST = f"""
SELECT * FROM actions WHERE (:status IS NULL OR status = :status) AND (:session IS NULL OR session_id = :session)
    AND (:chat IS NULL OR session_id IN {IN_CHAT})
ORDER BY created_at DESC, seq DESC LIMIT :limit
"""  # noqa: S608


class ActionStatus(StrEnum):
    PENDING = "pending"
    HELD = "held"
    """It waits for a person's decision."""
    DONE = "done"
    REFUSED = "refused"
    """It is invalid or not allowed; nothing was done."""
    FAILED = "failed"
    """It should have worked and did not; nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow:
    """One request. `notice_id`: the id of the row in inbound.db that tells the agent; None: the agent is not told.
    `approval_id`: the approval that it waits for or waited for, if it needed one."""

    session_id: SessionId
    seq: int
    out_id: str
    name: str
    arguments: str
    origin: Origin | None
    requested_at: datetime
    created_at: datetime
    status: ActionStatus = ActionStatus.PENDING
    reason: str | None = None
    notice_id: str | None = None
    done_at: datetime | None = None
    approval_id: ApprovalId | None = None


async def add(tx: Transaction, action: ActionRow) -> bool:
    """Add a request. Returns False if it exists already."""
    values: dict[str, Value] = {
        "session_id": action.session_id,
        "seq": action.seq,
        "out_id": action.out_id,
        "name": action.name,
        "arguments": action.arguments,
        **origin_columns(action.origin),
        "requested_at": to_text(action.requested_at),
        "status": action.status,
        "reason": action.reason,
        "notice_id": action.notice_id,
        "created_at": to_text(action.created_at),
        "done_at": None if action.done_at is None else to_text(action.done_at),
        "approval_id": action.approval_id,
    }
    return await tx.execute(ADD, values) == 1


async def next_open(db: Queries, session: SessionId) -> ActionRow | None:
    """Returns the session's first request that is not carried out, or of whose outcome the agent is not notified yet.
    Later requests wait for it."""
    row = await db.fetch_one(NEXT, (session,))
    return None if row is None else _from_row(row)


async def find(db: Queries, session: SessionId, seq: int) -> ActionRow | None:
    row = await db.fetch_one(BY_KEY, (session, seq))
    return None if row is None else _from_row(row)


async def open_sessions(db: Queries) -> list[SessionId]:
    return [SessionId(row["session_id"]) for row in await db.fetch_all(OPEN_SESSIONS)]


async def settle(
    tx: Transaction,
    action: ActionRow,
    status: ActionStatus,
    *,
    reason: str | None,
    notice_id: str | None,
    now: datetime,
) -> None:
    """Record a request's outcome; with a `notice_id` the agent is to be notified."""
    values: dict[str, Value] = {
        "session_id": action.session_id,
        "seq": action.seq,
        "status": status,
        "reason": reason,
        "notice_id": notice_id,
        "now": to_text(now),
    }
    await tx.execute(SETTLE, values)


async def hold(tx: Transaction, action: ActionRow, approval: ApprovalId) -> None:
    """Hold a request for this approval; later requests do not wait for it."""
    await tx.execute(HOLD, (approval, action.session_id, action.seq))


async def release_held(tx: Transaction, approval: ApprovalId) -> None:
    """Make the requests that were held for this approval pending again. Emits RequestsWaiting."""
    for action in await _held_for(tx, approval):
        await tx.execute(RELEASE, (action.session_id, action.seq))
        tx.emit(RequestsWaiting(action.session_id))


async def reject_held(tx: Transaction, approval: ApprovalId, *, reason: str, now: datetime) -> None:
    """Refuse the requests that were held for this approval, and have their agents notified. `reason`: a sentence
    without its full stop. Emits RequestsWaiting."""
    for action in await _held_for(tx, approval):
        values: dict[str, Value] = {
            "session_id": action.session_id,
            "seq": action.seq,
            "reason": reason,
            "notice_id": notice_id_of(session=action.session_id, request=action.out_id),
            "now": to_text(now),
        }
        await tx.execute(REJECT_HELD, values)
        tx.emit(RequestsWaiting(action.session_id))


async def _held_for(db: Queries, approval: ApprovalId) -> list[ActionRow]:
    return [_from_row(row) for row in await db.fetch_all(HELD_FOR, (approval,))]


async def count_unsuccessful_approvals(db: Queries, action: ActionRow, *, since: datetime, until: datetime) -> int:
    """Returns how many requests of the session for the same action needed an approval in that time and were refused or
    failed."""
    values: dict[str, Value] = {
        "session_id": action.session_id,
        "name": action.name,
        "since": to_text(since),
        "until": to_text(until),
    }
    row = await db.fetch_one(COUNT_UNSUCCESSFUL_APPROVALS, values)
    return 0 if row is None else int(row["times"])


async def mark_notified(tx: Transaction, action: ActionRow) -> None:
    await tx.execute(MARK_NOTIFIED, (action.session_id, action.seq))


async def count_failed_before(db: Queries, action: ActionRow, *, since: datetime, until: datetime, limit: int) -> int:
    """Returns how many earlier requests of the session were refused or failed in that time, at most `limit`."""
    values: dict[str, Value] = {
        "session_id": action.session_id,
        "seq": action.seq,
        "since": to_text(since),
        "until": to_text(until),
        "most": limit,
    }
    row = await db.fetch_one(COUNT_FAILED_BEFORE, values)
    return 0 if row is None else int(row["bad"])


async def latest(
    db: ReportReader,
    *,
    status: ActionStatus | None,
    session: SessionId | None,
    limit: int,
    chat: MessagingGroupId | None = None,
) -> list[ActionRow]:
    """Returns the latest requests, newest first; of one status, session or chat, if given."""
    values: dict[str, Value] = {"status": status, "session": session, "chat": chat, "limit": limit}
    return [_from_row(row) for row in await db.fetch_all(LATEST, values)]


def _from_row(row: sqlite3.Row) -> ActionRow:
    return from_row(ActionRow, row, origin=origin_from_row(row))
