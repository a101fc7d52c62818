"""Approvals: what waits for an approval, whom it was shown to, and its outcome."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.rows import from_row, origin_columns
from nanohost.model import AgentGroupId, ApprovalId, SessionId
from nanohost_protocol.rows import Origin, origin_from_row
from nanohost_protocol.times import to_text

BY_ID = "SELECT * FROM approvals WHERE id = ?"
OPEN = "SELECT * FROM approvals WHERE status = 'pending' AND kind = ? AND subject = ?"
LAST = "SELECT * FROM approvals WHERE kind = ? AND subject = ? ORDER BY created_at DESC, rowid DESC LIMIT 1"
ALL_OPEN = "SELECT * FROM approvals INDEXED BY approvals_waiting WHERE status = 'pending' ORDER BY created_at, rowid"
COUNT_OPEN = """
SELECT count(*) AS found FROM approvals
WHERE status = 'pending' AND kind = :kind AND (:by IS NULL OR requested_by = :by)
"""
# Of several kinds: those that have a card, and those that were there before this one and have none yet.
COUNT_AHEAD = """
SELECT count(*) AS found FROM approvals a
WHERE status = 'pending' AND kind IN (SELECT value FROM json_each(:kinds)) AND id != :id
    AND (rowid < (SELECT rowid FROM approvals WHERE id = :id)
        OR EXISTS (SELECT 1 FROM approval_cards c WHERE c.approval_id = a.id))
"""
OLDEST_WITHOUT_CARD = """
SELECT * FROM approvals a INDEXED BY approvals_waiting
WHERE status = 'pending' AND kind = ? AND NOT EXISTS (SELECT 1 FROM approval_cards c WHERE c.approval_id = a.id)
ORDER BY created_at, rowid LIMIT 1
"""
LATEST = """
SELECT * FROM approvals WHERE (:status IS NULL OR status = :status) AND (:kind IS NULL OR kind = :kind)
ORDER BY created_at DESC, rowid DESC LIMIT :limit
"""
ADD = """
INSERT INTO approvals
    (id, kind, subject, agent_group_id, rendered_text, options, payload, requested_by, channel_type, instance,
     platform_id, thread_id, session_id, seq, created_at, expires_at, digest)
VALUES
    (:id, :kind, :subject, :agent_group_id, :rendered_text, :options, :payload, :requested_by, :channel_type, :instance,
     :platform_id, :thread_id, :session_id, :seq, :created_at, :expires_at, :digest)
ON CONFLICT (id) DO NOTHING
"""
# The claim: whoever changes the row decides, everybody else finds it decided.
CLOSE = """
UPDATE approvals SET status = :status, choice = :choice, decided_by = :by, decided_at = :now, reason = :reason
WHERE id = :id AND status = 'pending'
"""
SET_OUTCOME = "UPDATE approvals SET outcome = ? WHERE id = ?"
MARK_FAILED = "UPDATE approvals SET status = 'failed', reason = ?, outcome = ? WHERE id = ?"
# What was allowed is carried out with its approval in hand.
DELETE_OLD = """
DELETE FROM approvals WHERE id IN (
    SELECT id FROM approvals a INDEXED BY approvals_decided WHERE a.status != 'pending' AND a.decided_at < ?
        AND NOT EXISTS (SELECT 1 FROM actions x WHERE x.approval_id = a.id AND x.status IN ('held', 'pending'))
    LIMIT ?)
"""
COUNT_HELD_MESSAGES = """
SELECT (SELECT count(*) FROM inbound_events WHERE status = 'held' AND approval_id = :id)
    + (SELECT count(*) FROM routes WHERE outcome = 'held' AND approval_id = :id) AS held
"""

CARDS = "SELECT * FROM approval_cards WHERE approval_id = ? ORDER BY number"
CARD_BY_SEQ = "SELECT approval_id FROM approval_cards WHERE seq = ?"
ADD_CARD = """
INSERT INTO approval_cards (approval_id, number, user_id, seq, asked_at, problem)
SELECT :id, ifnull(max(number), 0) + 1, :user_id, :seq, :now, :problem FROM approval_cards WHERE approval_id = :id
"""
SET_CARD_PROBLEM = "UPDATE approval_cards SET problem = ? WHERE approval_id = ? AND number = ?"
COUNT_UNAUTHORIZED = """
INSERT INTO unauthorized_decisions (approval_id, user_id, count) VALUES (?, ?, 1)
ON CONFLICT (approval_id, user_id) DO UPDATE SET count = count + 1 RETURNING count
"""


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    FAILED = "failed"
    """Nobody could be asked, or what was approved could not be done."""
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One request. `rendered_text` is what its card says, `payload` (JSON) what runs; `digest` is of both, made when it
    was asked. `requested_by`: a user, or agent:<session>. `origin`: where it was asked for. `session_id` and `seq` name
    the agent's request, if it is one."""

    id: ApprovalId
    kind: str
    subject: str
    agent_group_id: AgentGroupId | None
    rendered_text: str
    options: tuple[str, ...]
    payload: str
    requested_by: str
    origin: Origin | None
    session_id: SessionId | None
    seq: int | None
    created_at: datetime
    expires_at: datetime
    digest: str
    status: ApprovalStatus = ApprovalStatus.PENDING
    choice: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str | None = None
    outcome: str | None = None

    @property
    def denial_option(self) -> str:
        """The one option that is a no: its last, also on a card of an older version that called it otherwise."""
        return self.options[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalCard:
    """One person an approval was shown to. `seq`: the host's message; None: they could not be asked at all."""

    approval_id: ApprovalId
    number: int
    user_id: str
    seq: int | None
    asked_at: datetime
    problem: str | None


async def find(db: Queries, approval: ApprovalId) -> Approval | None:
    row = await db.fetch_one(BY_ID, (approval,))
    return None if row is None else _from_row(row)


async def find_open(db: Queries, kind: str, subject: str) -> Approval | None:
    """The one that waits for a decision on this."""
    row = await db.fetch_one(OPEN, (kind, subject))
    return None if row is None else _from_row(row)


async def find_latest(db: Queries, kind: str, subject: str) -> Approval | None:
    """The newest on this, whatever its outcome."""
    row = await db.fetch_one(LAST, (kind, subject))
    return None if row is None else _from_row(row)


async def list_open(db: Queries) -> list[Approval]:
    """Oldest first."""
    return [_from_row(row) for row in await db.fetch_all(ALL_OPEN)]


async def count_open(db: Queries, kind: str, *, requested_by: str | None = None) -> int:
    """How many of this kind wait for a decision; `requested_by`: only those that this user asked for."""
    row = await db.fetch_one(COUNT_OPEN, {"kind": kind, "by": requested_by})
    return 0 if row is None else int(row["found"])


async def count_ahead(db: Queries, approval: ApprovalId, kinds: Sequence[str]) -> int:
    """How many open ones of these kinds are shown, or are to be shown before this one."""
    row = await db.fetch_one(COUNT_AHEAD, {"kinds": json.dumps(list(kinds)), "id": approval})
    return 0 if row is None else int(row["found"])


async def find_oldest_without_card(db: Queries, kind: str) -> Approval | None:
    """Of the open ones of this kind that nobody was shown the one that has waited longest."""
    row = await db.fetch_one(OLDEST_WITHOUT_CARD, (kind,))
    return None if row is None else _from_row(row)


async def latest(
    db: ReportReader, *, limit: int, status: ApprovalStatus | None = None, kind: str | None = None
) -> list[Approval]:
    """Newest first."""
    values: dict[str, Value] = {"status": status, "kind": kind, "limit": limit}
    return [_from_row(row) for row in await db.fetch_all(LATEST, values)]


async def add(tx: Transaction, approval: Approval) -> bool:
    """Enter a request. False if its id is taken. Raises sqlite3.IntegrityError if one on the same is open."""
    values: dict[str, Value] = {
        "id": approval.id,
        "kind": approval.kind,
        "subject": approval.subject,
        "agent_group_id": approval.agent_group_id,
        "rendered_text": approval.rendered_text,
        "options": json.dumps(approval.options),
        "payload": approval.payload,
        "requested_by": approval.requested_by,
        **origin_columns(approval.origin),
        "session_id": approval.session_id,
        "seq": approval.seq,
        "created_at": to_text(approval.created_at),
        "expires_at": to_text(approval.expires_at),
        "digest": approval.digest,
    }
    return await tx.execute(ADD, values) == 1


async def close(
    tx: Transaction,
    approval: ApprovalId,
    status: ApprovalStatus,
    *,
    decided_by: str | None,
    choice: str | None,
    reason: str | None,
    now: datetime,
) -> bool:
    """Claim the decision. False if it is decided."""
    values: dict[str, Value] = {
        "id": approval,
        "status": status,
        "choice": choice,
        "by": decided_by,
        "now": to_text(now),
        "reason": reason,
    }
    return await tx.execute(CLOSE, values) == 1


async def set_outcome(tx: Transaction, approval: ApprovalId, outcome: str) -> None:
    """Keep its outcome, in a sentence."""
    await tx.execute(SET_OUTCOME, (outcome, approval))


async def mark_failed(tx: Transaction, approval: ApprovalId, *, reason: str, outcome: str) -> None:
    """It was claimed, and could not be done."""
    await tx.execute(MARK_FAILED, (reason, outcome, approval))


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Those that were decided before that moment, with their cards and refusals. Returns how many; there may be more
    while it is `limit`."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


async def count_held_messages(db: Queries, approval: ApprovalId) -> int:
    """How many messages wait for it."""
    row = await db.fetch_one(COUNT_HELD_MESSAGES, {"id": approval})
    return 0 if row is None else int(row["held"])


async def list_cards(db: Queries, approval: ApprovalId) -> list[ApprovalCard]:
    """In the order they were asked."""
    return [from_row(ApprovalCard, row) for row in await db.fetch_all(CARDS, (approval,))]


async def find_by_card(db: Queries, seq: int) -> ApprovalId | None:
    """The approval that this message of the host is a card of."""
    row = await db.fetch_one(CARD_BY_SEQ, (seq,))
    return None if row is None else ApprovalId(row["approval_id"])


async def add_card(
    tx: Transaction, approval: ApprovalId, user_id: str, *, seq: int | None, problem: str | None, now: datetime
) -> None:
    """This person was asked, or could not be."""
    values: dict[str, Value] = {
        "id": approval,
        "user_id": user_id,
        "seq": seq,
        "now": to_text(now),
        "problem": problem,
    }
    await tx.execute(ADD_CARD, values)


async def set_card_problem(tx: Transaction, card: ApprovalCard, problem: str) -> None:
    """It did not reach them, or not in time."""
    await tx.execute(SET_CARD_PROBLEM, (problem, card.approval_id, card.number))


async def count_unauthorized(tx: Transaction, approval: ApprovalId, user_id: str) -> int:
    """Somebody tried to decide who may not. How often they did, this time included."""
    row = await tx.fetch_one(COUNT_UNAUTHORIZED, (approval, user_id))
    assert row is not None, "it was just written"
    return int(row["count"])


def _from_row(row: sqlite3.Row) -> Approval:
    return from_row(Approval, row, options=tuple(json.loads(row["options"])), origin=origin_from_row(row))
