"""Stores the costs of turns, and sums tokens and dollars by agent group.

If a turn's calls passed the gateway, its totals count (db/model_calls.py); otherwise the runner's report does. Both are
stored for each turn, so that they can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from nanohost.db import model_calls
from nanohost.db.database import ReportReader, Transaction
from nanohost.db.model_calls import CallTotals
from nanohost.model import SessionId
from nanohost_protocol.rows import Usage
from nanohost_protocol.times import from_text, to_text

SAVE = """
INSERT INTO turn_costs (session_id, turn_id, agent_group, ended_at, tokens_in, tokens_out, tokens_cached, cost_usd,
    gateway_calls, gateway_tokens)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (session_id, turn_id) DO UPDATE SET ended_at = excluded.ended_at, tokens_in = excluded.tokens_in,
    tokens_out = excluded.tokens_out, tokens_cached = excluded.tokens_cached, cost_usd = excluded.cost_usd,
    gateway_calls = excluded.gateway_calls, gateway_tokens = excluded.gateway_tokens
"""
# Containers report these numbers: total() accepts any sum, while sum() fails beyond 2**63.
COSTS_SINCE = """
SELECT agent_group, count(*) AS turns, CAST(total(iif(gateway_calls > 0, 0, tokens_in)) AS INTEGER) AS tokens_in,
    CAST(total(iif(gateway_calls > 0, 0, tokens_out)) AS INTEGER) AS tokens_out,
    CAST(total(iif(gateway_calls > 0, 0, tokens_cached)) AS INTEGER) AS tokens_cached,
    total(iif(gateway_calls > 0, 0, cost_usd)) AS cost_usd
FROM turn_costs WHERE ended_at >= ? GROUP BY agent_group
"""
FIRST_AT = "SELECT min(ended_at) AS at FROM turn_costs"
DELETE_OLD = """
DELETE FROM turn_costs WHERE (session_id, turn_id) IN (
    SELECT session_id, turn_id FROM turn_costs WHERE ended_at < ? LIMIT ?)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCosts:
    """A sum over turns. `cost_usd`: dollars of calls with a known price; `unpriced`: how many calls have none."""

    turns: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    def __add__(self, other: TurnCosts) -> TurnCosts:
        return TurnCosts(
            turns=self.turns + other.turns,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            tokens_cached=self.tokens_cached + other.tokens_cached,
            cost_usd=self.cost_usd + other.cost_usd,
            unpriced=self.unpriced + other.unpriced,
        )


async def save(
    tx: Transaction,
    session: SessionId,
    *,
    agent_group: str,
    usages: Mapping[str, Usage],
    now: datetime,
    gateway_totals: Mapping[str, CallTotals] = MappingProxyType({}),
) -> None:
    """Save the reported usage of turns, all their attempts together; a later call replaces it. `gateway_totals`: the
    gateway's totals of these turns."""
    for turn, usage in usages.items():
        reported = (usage.tokens_in, usage.tokens_out, usage.tokens_cached, usage.cost_usd or 0.0)
        metered = (gateway_totals[turn].calls, gateway_totals[turn].tokens) if turn in gateway_totals else (0, 0)
        await tx.execute(SAVE, (session, turn, agent_group, to_text(now), *reported, *metered))


async def costs_since(db: ReportReader, moment: datetime) -> dict[str, TurnCosts]:
    """Returns the costs since that time by agent group's folder."""
    costs = {
        row["agent_group"]: TurnCosts(
            turns=row["turns"],
            tokens_in=row["tokens_in"],
            tokens_out=row["tokens_out"],
            tokens_cached=row["tokens_cached"],
            cost_usd=row["cost_usd"],
        )
        for row in await db.fetch_all(COSTS_SINCE, (to_text(moment),))
    }
    for folder, totals in (await model_calls.totals_since(db, moment)).items():
        if totals.tokens or folder in costs:
            costs[folder] = costs.get(folder, TurnCosts()) + _from_call_totals(totals)
    return costs


def _from_call_totals(spent: CallTotals) -> TurnCosts:
    return TurnCosts(
        tokens_in=spent.tokens_in,
        tokens_out=spent.tokens_out,
        tokens_cached=spent.tokens_cached,
        cost_usd=spent.cost_usd,
        unpriced=spent.unpriced,
    )


async def first_at(db: ReportReader) -> datetime | None:
    """Returns since when costs are recorded; None if there are none."""
    row = await db.fetch_one(FIRST_AT)
    reported = None if row is None or row["at"] is None else from_text(row["at"])
    metered = await model_calls.first_at(db)
    return min((moment for moment in (reported, metered) if moment is not None), default=None)


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete the costs of turns that ended before that time. Returns how many; if it is `limit`, there may be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))
