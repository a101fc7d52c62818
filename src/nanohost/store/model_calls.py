"""Model calls: one row for each answer that passed the gateway."""

from __future__ import annotations

from datetime import datetime

from nanohost.model import SessionId
from nanohost.store.database import Queries, Transaction
from nanohost_protocol.times import to_text

ADD = """
INSERT INTO model_calls
    (session_id, model, started_at, duration_ms, status, tokens_in, tokens_out, tokens_cached, tokens_cache_written,
     error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
COUNT = """
SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(tokens_in), 0) AS tokens_in,
    coalesce(sum(tokens_out), 0) AS tokens_out
FROM (
    SELECT count(*) AS calls, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out FROM model_calls
    UNION ALL SELECT sum(calls), sum(tokens_in), sum(tokens_out) FROM model_calls_by_day
)
"""
FAILING = """
SELECT ifnull(error, 'status ' || status) AS error, status, count(*) AS calls, max(started_at) AS latest
FROM model_calls WHERE id > (SELECT max(id) FROM model_calls) - 1000 AND started_at >= ?
    AND (status = 0 OR status >= 400)
GROUP BY 1, 2 ORDER BY latest DESC LIMIT 5
"""


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
) -> None:
    """`status` is the HTTP status, 0 when the service gave no answer."""
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
        error,
    )
    await tx.run(ADD, values)


async def totals(db: Queries) -> dict[str, int]:
    """Calls and tokens since the beginning, for the status screen."""
    row = await db.one(COUNT)
    assert row is not None
    return {"calls": row["calls"], "tokens_in": row["tokens_in"], "tokens_out": row["tokens_out"]}


async def failing(db: Queries, since: datetime) -> list[dict[str, str | int | None]]:
    """How calls since that moment failed, the latest first."""
    return [dict(row) for row in await db.all(FAILING, (to_text(since),))]
