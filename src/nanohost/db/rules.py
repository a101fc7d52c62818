"""Rules: what somebody decided for next time, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.rows import from_row
from nanohost.model import AgentGroupId
from nanohost_protocol.times import from_text, to_text

# One look for a rule about just this, and one for those about anything.
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
# The newest stays: its number is no other rule's.
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
    """`subject` None: whatever it is about; `agent_group_id` None: for all agents; `expires_at` None: until revoked."""

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
    """The live rule that is closest to the case."""
    values: dict[str, Value] = {"kind": kind, "subject": subject, "group": agent_group, "now": to_text(now)}
    found = [from_row(Rule, row) for row in await db.fetch_all(APPLICABLE, values)]
    return min(found, key=_rank, default=None)


def _rank(rule: Rule) -> tuple[bool, bool, bool, int]:
    """A rule about just this comes before one about anything, one about just this agent before one about all, a no
    before a yes, and the oldest of what is left."""
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
    """It decided something."""
    await tx.execute(RECORD_USE, (to_text(now), rule.id))


async def end(tx: Transaction, rule: int, *, ended_by: str, now: datetime) -> bool:
    """It decides nothing any more. False if that was so, or there is no such rule."""
    return await tx.execute(END, (to_text(now), ended_by, rule)) == 1


async def list_all(db: ReportReader, *, limit: int, include_ended: bool = False) -> list[Rule]:
    """Newest first; with those that have ended, if asked."""
    return [from_row(Rule, row) for row in await db.fetch_all(ALL, {"ended": int(include_ended), "limit": limit})]


async def find(db: Queries, rule: int) -> Rule | None:
    row = await db.fetch_one(BY_ID, (rule,))
    return None if row is None else from_row(Rule, row)


async def list_expired(db: Queries, now: datetime) -> list[Rule]:
    """Those whose time is up and that are not ended yet."""
    return [from_row(Rule, row) for row in await db.fetch_all(EXPIRED, (to_text(now),))]


async def next_expiry(db: Queries) -> datetime | None:
    """When the first of them is over."""
    row = await db.fetch_one(NEXT_EXPIRY)
    return None if row is None or row["at"] is None else from_text(row["at"])


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Those that ended before that moment. Returns how many; there may be more while it is `limit`."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))
