"""Stores rules: decisions for the next time, and until when they apply."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.rows import from_row
from nanohost.model import AgentGroupId
from nanohost_protocol.times import from_text, to_text

# One look-up for rules about this subject, and one for rules about any subject.
APPLICABLE = """
SELECT * FROM rules INDEXED BY rules_live
WHERE ended_at IS NULL AND kind = :kind AND subject = :subject
    AND (agent_group_id IS NULL OR agent_group_id IS :group) AND (expires_at IS NULL OR expires_at > :now)
UNION ALL SELECT * FROM rules INDEXED BY rules_live
WHERE ended_at IS NULL AND kind = :kind AND subject IS NULL
    AND (agent_group_id IS NULL OR agent_group_id IS :group) AND (expires_at IS NULL OR expires_at > :now)
"""
ADD = """
INSERT INTO rules (kind, effect, agent_group_id, subject, created_by, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *
"""
RECORD_USE = "UPDATE rules SET uses = uses + 1, last_used_at = ? WHERE id = ?"
END = "UPDATE rules SET ended_at = ?, ended_by = ? WHERE id = ? AND ended_at IS NULL"
ALL = "SELECT * FROM rules WHERE :ended OR ended_at IS NULL ORDER BY id DESC LIMIT :limit"
BY_ID = "SELECT * FROM rules WHERE id = ?"
EXPIRED = "SELECT * FROM rules INDEXED BY rules_expires WHERE ended_at IS NULL AND expires_at <= ? ORDER BY expires_at"
# The newest rule stays, so that its number is not used again.
DELETE_OLD = """
DELETE FROM rules WHERE id IN (
    SELECT id FROM rules INDEXED BY rules_ended
    WHERE ended_at IS NOT NULL AND ended_at < ? AND id < (SELECT max(id) FROM rules) LIMIT ?)
"""
NEXT_EXPIRY = "SELECT min(expires_at) AS at FROM rules INDEXED BY rules_expires WHERE ended_at IS NULL"


class RuleEffect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule. `subject` None: for any subject. `agent_group_id` None: for all agents. `expires_at` None: until
    revoked."""

    id: int
    kind: str
    effect: RuleEffect
    agent_group_id: AgentGroupId | None
    subject: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    uses: int
    last_used_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None


async def find_applicable(
    db: Queries, *, kind: str, subject: str, agent_group: AgentGroupId | None, now: datetime
) -> Rule | None:
    """Returns the most specific live rule for the case."""
    values: dict[str, Value] = {"kind": kind, "subject": subject, "group": agent_group, "now": to_text(now)}
    found = [from_row(Rule, row) for row in await db.fetch_all(APPLICABLE, values)]
    return min(found, key=_rank, default=None)


def _rank(rule: Rule) -> tuple[bool, bool, bool, int]:
    """Order rules: one for this subject before one for any, one for this agent before one for all, a denial before an
    allowance, then the oldest first."""
    return rule.subject is None, rule.agent_group_id is None, rule.effect is RuleEffect.ALLOW, rule.id


async def add(
    tx: Transaction,
    *,
    kind: str,
    effect: RuleEffect,
    agent_group: AgentGroupId | None,
    subject: str | None,
    created_by: str,
    expires_at: datetime | None,
    now: datetime,
) -> Rule:
    end = None if expires_at is None else to_text(expires_at)
    row = await tx.fetch_one(ADD, (kind, effect, agent_group, subject, created_by, to_text(now), end))
    assert row is not None, "it was just added"
    return from_row(Rule, row)


async def record_use(tx: Transaction, rule: Rule, now: datetime) -> None:
    """Count a use of the rule."""
    await tx.execute(RECORD_USE, (to_text(now), rule.id))


async def end(tx: Transaction, rule: int, *, ended_by: str, now: datetime) -> bool:
    """End a rule. Returns False if it has ended already or does not exist."""
    return await tx.execute(END, (to_text(now), ended_by, rule)) == 1


async def list_all(db: ReportReader, *, limit: int, include_ended: bool = False) -> list[Rule]:
    """Returns rules, newest first. `include_ended`: also those that have ended."""
    return [from_row(Rule, row) for row in await db.fetch_all(ALL, {"ended": int(include_ended), "limit": limit})]


async def find(db: Queries, rule: int) -> Rule | None:
    row = await db.fetch_one(BY_ID, (rule,))
    return None if row is None else from_row(Rule, row)


async def list_expired(db: Queries, now: datetime) -> list[Rule]:
    """Returns the expired rules that are not ended yet."""
    return [from_row(Rule, row) for row in await db.fetch_all(EXPIRED, (to_text(now),))]


async def next_expiry(db: Queries) -> datetime | None:
    """Returns when the first live rule expires; None if none does."""
    row = await db.fetch_one(NEXT_EXPIRY)
    return None if row is None or row["at"] is None else from_text(row["at"])


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete rules that ended before that time. Returns how many; if it is `limit`, there may be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))
