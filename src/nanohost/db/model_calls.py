"""Stores model calls: one row for each answer that passed the gateway, with its cost.

The costs of a session are counted here and not from its runner's reports: a runner may be killed, and its container may
report false numbers. A call belongs to the first turn that ends after it; until then it belongs to none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import ReportReader, Transaction
from nanohost.db.rows import from_row
from nanohost.model import SessionId
from nanohost_protocol.times import from_text, to_text

ADD = """
INSERT INTO model_calls
    (session_id, model, started_at, duration_ms, status, tokens_in, tokens_out, tokens_cached, tokens_cache_written,
     tokens_cache_written_1h, cost_usd, error, agent_group)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ifnull((
    SELECT g.folder FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id WHERE s.id = ?), ''))
"""
COUNT = """
SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(tokens_in), 0) AS tokens_in,
    coalesce(sum(tokens_out), 0) AS tokens_out, total(cost_usd) AS cost_usd, coalesce(sum(unpriced), 0) AS unpriced
FROM (
    SELECT count(*) AS calls, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out, total(cost_usd) AS cost_usd,
        sum(cost_usd IS NULL) AS unpriced
    FROM model_calls
    UNION ALL SELECT sum(calls), sum(tokens_in), sum(tokens_out), sum(cost_usd), sum(unpriced) FROM model_calls_by_day
)
"""
_SUMS = """
    count(*) AS calls, CAST(total(tokens_in + tokens_cache_written) AS INTEGER) AS tokens_in,
    CAST(total(tokens_out) AS INTEGER) AS tokens_out, CAST(total(tokens_cached) AS INTEGER) AS tokens_cached,
    total(cost_usd) AS cost_usd, ifnull(sum(cost_usd IS NULL), 0) AS unpriced
"""
TOTALS_SINCE = f"""
SELECT agent_group, {_SUMS} FROM model_calls
WHERE started_at >= ? AND (turn_id IS NULL OR turn_id != '') GROUP BY agent_group
"""  # noqa: S608
ASSIGN_TO_TURN = """
UPDATE model_calls SET turn_id = ? WHERE session_id = ? AND turn_id IS NULL AND (started_at <= ? OR ?)
"""
TOTALS_OF_TURN = f"SELECT {_SUMS} FROM model_calls WHERE session_id = ? AND turn_id = ?"  # noqa: S608
FIRST_AT = "SELECT min(started_at) AS at FROM model_calls WHERE turn_id IS NULL OR turn_id != ''"
# Status 0 without an error: whoever asked hung up before the service answered, which nobody has to mend.
FAILURES = """
WITH latest AS (
    SELECT id, session_id, model, started_at, status, error FROM model_calls
    WHERE id > (SELECT max(id) FROM model_calls) - 1000 AND started_at >= ?
), good AS (SELECT id, session_id, model FROM latest WHERE status BETWEEN 200 AND 299 AND error IS NULL)
SELECT ifnull(error, 'status ' || status) AS error, status, count(*) AS calls, max(started_at) AS latest
FROM latest f
WHERE ((status = 0 AND error IS NOT NULL) OR status >= 400) AND (status IN (400, 413, 422) OR error = ? OR NOT EXISTS (
    SELECT 1 FROM good g WHERE g.id > f.id AND (
        f.status NOT IN (403, 404) OR g.session_id = f.session_id OR g.model = f.model)))
GROUP BY 1, 2 ORDER BY latest DESC LIMIT 5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTotals:
    """A sum over calls. `tokens_in` includes tokens written to the service's cache, but not those read from it.
    `cost_usd`: dollars of the calls with a known price; `unpriced`: the number of other calls."""

    calls: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost_usd: float
    unpriced: int

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.tokens_in + self.tokens_out + self.tokens_cached


async def add(
    tx: Transaction,
    *,
    session: SessionId,
    model: str | None,
    started_at: datetime,
    duration_ms: int,
    status: int,
    tokens_in: int,
    tokens_out: int,
    tokens_cached: int,
    tokens_cache_written: int,
    error: str | None,
    tokens_cache_written_1h: int = 0,
    cost_usd: float | None = None,
) -> None:
    """Add a call. `status`: the HTTP status, 0 if the service gave no answer. `cost_usd`: None if the price is not
    known."""
    values = (
        session,
        model,
        to_text(started_at),
        duration_ms,
        status,
        tokens_in,
        tokens_out,
        tokens_cached,
        tokens_cache_written,
        tokens_cache_written_1h,
        cost_usd,
        error,
        session,
    )
    await tx.execute(ADD, values)


async def assign_to_turns(tx: Transaction, session: SessionId, ends: Mapping[str, datetime]) -> dict[str, CallTotals]:
    """Assign the session's open calls to turns that ended: each to the first turn that ended after the call began, else
    to the last one. Returns each turn's totals, all its attempts together. Can be repeated."""
    order = sorted(ends, key=lambda turn: (ends[turn], turn))
    for turn in order:
        await tx.execute(ASSIGN_TO_TURN, (turn, session, to_text(ends[turn]), turn == order[-1]))
    return {turn: _totals(await tx.fetch_one(TOTALS_OF_TURN, (session, turn))) for turn in order}


async def totals_since(db: ReportReader, start: datetime) -> dict[str, CallTotals]:
    """Returns the totals since that time by agent group's folder, without calls from before costs were recorded."""
    return {row["agent_group"]: _totals(row) for row in await db.fetch_all(TOTALS_SINCE, (to_text(start),))}


async def first_at(db: ReportReader) -> datetime | None:
    """Returns since when costs are recorded."""
    row = await db.fetch_one(FIRST_AT)
    return None if row is None or row["at"] is None else from_text(row["at"])


async def totals(db: ReportReader) -> dict[str, int | float]:
    """Returns all calls, tokens and dollars, for the status. `unpriced`: the number of calls without a price."""
    row = await db.fetch_one(COUNT)
    assert row is not None
    return {name: row[name] for name in ("calls", "tokens_in", "tokens_out", "cost_usd", "unpriced")}


async def list_failures(db: ReportReader, since: datetime, *, too_large: str) -> list[dict[str, str | int | None]]:
    """Returns the errors of calls since that time, latest first, without errors that a later success has resolved. A
    refused model is resolved by a success of that model or of the session; errors about a request's content (and
    `too_large`, the error of requests that are too large to send) are never resolved; other errors by any success."""
    return [dict(row) for row in await db.fetch_all(FAILURES, (to_text(since), too_large))]


def _totals(row: sqlite3.Row | None) -> CallTotals:
    assert row is not None, "a sum has a row"
    return from_row(CallTotals, row)
