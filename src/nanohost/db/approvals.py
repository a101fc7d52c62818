"""Stores approvals: the requests that a person decides, their cards, and their outcome."""

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
# Open approvals of several kinds that have a card, and older ones without a card.
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
# Claims the decision: only the first caller changes the row; for everybody else it is already decided.
CLOSE = """
UPDATE approvals SET status = :status, choice = :choice, decided_by = :by, decided_at = :now, reason = :reason
WHERE id = :id AND status = 'pending'
"""
SET_OUTCOME = "UPDATE approvals SET outcome = ? WHERE id = ?"
MARK_FAILED = "UPDATE approvals SET status = 'failed', reason = ?, outcome = ? WHERE id = ?"
# An approval is kept while an approved request is not carried out yet, since that reads it.
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
    """Nobody could be asked, or the approved request could not be carried out."""
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One approval. `rendered_text`: the text of its card. `payload`: what is carried out, as JSON. `digest`: of both,
    made when the approval was requested. `requested_by`: a user, or agent:<session>. `origin`: the chat of the request.
    `session_id` and `seq`: the agent's request, if it is one."""

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
        """The option that denies: the last one, also on cards of older versions that named it differently."""
        return self.options[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalCard:
    """A card: one person who was asked. `seq`: the host's message; None: the person could not be asked."""

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
    """Returns the open approval of this kind and subject."""
    row = await db.fetch_one(OPEN, (kind, subject))
    return None if row is None else _from_row(row)


async def find_latest(db: Queries, kind: str, subject: str) -> Approval | None:
    """Returns the newest approval of this kind and subject, whatever its outcome."""
    row = await db.fetch_one(LAST, (kind, subject))
    return None if row is None else _from_row(row)


async def list_open(db: Queries) -> list[Approval]:
    """Returns all open approvals, oldest first."""
    return [_from_row(row) for row in await db.fetch_all(ALL_OPEN)]


async def count_open(db: Queries, kind: str, *, requested_by: str | None = None) -> int:
    """Returns the number of open approvals of this kind. `requested_by`: count only requests of this user."""
    row = await db.fetch_one(COUNT_OPEN, {"kind": kind, "by": requested_by})
    return 0 if row is None else int(row["found"])


async def count_ahead(db: Queries, approval: ApprovalId, kinds: Sequence[str]) -> int:
    """Returns the number of open approvals of these kinds that have a card, or that get one before this one."""
    row = await db.fetch_one(COUNT_AHEAD, {"kinds": json.dumps(list(kinds)), "id": approval})
    return 0 if row is None else int(row["found"])


async def find_oldest_without_card(db: Queries, kind: str) -> Approval | None:
    """Returns the oldest open approval of this kind that has no card."""
    row = await db.fetch_one(OLDEST_WITHOUT_CARD, (kind,))
    return None if row is None else _from_row(row)


async def latest(
    db: ReportReader, *, limit: int, status: ApprovalStatus | None = None, kind: str | None = None
) -> list[Approval]:
    """Returns the latest approvals, newest first; of one status or kind, if given."""
    values: dict[str, Value] = {"status": status, "kind": kind, "limit": limit}
    return [_from_row(row) for row in await db.fetch_all(LATEST, values)]


async def add(tx: Transaction, approval: Approval) -> bool:
    """Add an approval. Returns False if its id exists. Raises sqlite3.IntegrityError if one of the same kind and
    subject is open."""
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
    """Claim the decision and record it. Returns False if the approval is already decided."""
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
    """Record the approval's outcome, a sentence."""
    await tx.execute(SET_OUTCOME, (outcome, approval))


async def mark_failed(tx: Transaction, approval: ApprovalId, *, reason: str, outcome: str) -> None:
    """Record that the approval was decided but could not be carried out."""
    await tx.execute(MARK_FAILED, (reason, outcome, approval))


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete approvals that were decided before that time, with their cards and refusals. Returns how many; if it is
    `limit`, there may be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


async def count_held_messages(db: Queries, approval: ApprovalId) -> int:
    """Returns the number of messages that wait for the approval."""
    row = await db.fetch_one(COUNT_HELD_MESSAGES, {"id": approval})
    return 0 if row is None else int(row["held"])


async def list_cards(db: Queries, approval: ApprovalId) -> list[ApprovalCard]:
    """Returns the approval's cards, in the order in which people were asked."""
    return [from_row(ApprovalCard, row) for row in await db.fetch_all(CARDS, (approval,))]


async def find_by_card(db: Queries, seq: int) -> ApprovalId | None:
    """Returns the approval whose card is this message of the host."""
    row = await db.fetch_one(CARD_BY_SEQ, (seq,))
    return None if row is None else ApprovalId(row["approval_id"])


async def add_card(
    tx: Transaction, approval: ApprovalId, user_id: str, *, seq: int | None, problem: str | None, now: datetime
) -> None:
    """Record that this person was asked, or could not be."""
    values: dict[str, Value] = {
        "id": approval,
        "user_id": user_id,
        "seq": seq,
        "now": to_text(now),
        "problem": problem,
    }
    await tx.execute(ADD_CARD, values)


async def set_card_problem(tx: Transaction, card: ApprovalCard, problem: str) -> None:
    """Record that the card did not reach the person, or not in time."""
    await tx.execute(SET_CARD_PROBLEM, (problem, card.approval_id, card.number))


async def count_unauthorized(tx: Transaction, approval: ApprovalId, user_id: str) -> int:
    """Count an attempt to decide by somebody who may not. Returns the number of their attempts, including this one."""
    row = await tx.fetch_one(COUNT_UNAUTHORIZED, (approval, user_id))
    assert row is not None, "it was just written"
    return int(row["count"])


def _from_row(row: sqlite3.Row) -> Approval:
    return from_row(Approval, row, options=tuple(json.loads(row["options"])), origin=origin_from_row(row))
