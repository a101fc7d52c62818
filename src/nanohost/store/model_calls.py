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
SELECT count(*) AS calls, coalesce(sum(tokens_in), 0) AS tokens_in, coalesce(sum(tokens_out), 0) AS tokens_out
FROM model_calls
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
