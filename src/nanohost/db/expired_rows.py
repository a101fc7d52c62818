"""Deletes expired rows of the central database, in small batches.

Never: deletes a row that an open item refers to, or that prevents a repeated event from having an effect.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.model import HOST_SESSION_ID, SessionId
from nanohost_protocol.times import to_text

BATCH_SIZE = 200
RunKey = tuple[str, int]
"""When a run ended, and its number: the order in which runs are processed."""
FIRST_RUN_KEY: RunKey = ("", 0)

FIRST_RECENT_EVENT = "SELECT id FROM inbound_events WHERE received_at >= ? ORDER BY id LIMIT 1"
FIRST_RECENT_CALL = "SELECT id FROM model_calls WHERE started_at >= ? ORDER BY id LIMIT 1"
# Never the last event: its number would be used again, and the ids of notices and messages are derived from it.
LAST_EVENT = "SELECT max(id) AS id FROM inbound_events"
LAST_CALL = "SELECT max(id) + 1 AS id FROM model_calls"
# The latest event with which a wiring triggered a session stays: it records that the wiring has reached the session.
OLD_EVENTS = """
SELECT e.id FROM inbound_events e
WHERE e.id > :after AND e.id < :below AND e.status IN ('routed', 'dropped') AND NOT EXISTS (
    SELECT 1 FROM routes r WHERE r.event_id = e.id AND (r.outcome IN ('waiting', 'held') OR (
        r.session_id IS NOT NULL AND r.trigger = 1 AND NOT EXISTS (
            SELECT 1 FROM routes later WHERE later.session_id = r.session_id AND later.wiring_id = r.wiring_id
            AND later.trigger = 1 AND later.event_id > r.event_id))))
ORDER BY e.id LIMIT :limit
"""
DELETE_ROUTES = "DELETE FROM routes WHERE event_id IN (SELECT value FROM json_each(?))"
DELETE_EVENTS = "DELETE FROM inbound_events WHERE id IN (SELECT value FROM json_each(?))"

OLD_CALLS = "SELECT id FROM model_calls WHERE id < ? ORDER BY id LIMIT ?"
AGGREGATE_CALLS = """
INSERT INTO model_calls_by_day
    (day, agent_group, model, calls, failed, tokens_in, tokens_out, tokens_cached, tokens_cache_written, cost_usd,
     unpriced)
SELECT substr(c.started_at, 1, 10), c.agent_group, ifnull(c.model, ''), count(*),
    sum((c.status = 0 AND c.error IS NOT NULL) OR c.status >= 400),
    sum(c.tokens_in), sum(c.tokens_out), sum(c.tokens_cached),
    sum(c.tokens_cache_written), total(c.cost_usd), sum(c.cost_usd IS NULL)
FROM model_calls c
WHERE c.id IN (SELECT value FROM json_each(?))
GROUP BY 1, 2, 3
ON CONFLICT (day, agent_group, model) DO UPDATE SET
    calls = calls + excluded.calls, failed = failed + excluded.failed,
    tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out,
    tokens_cached = tokens_cached + excluded.tokens_cached,
    tokens_cache_written = tokens_cache_written + excluded.tokens_cache_written,
    cost_usd = cost_usd + excluded.cost_usd, unpriced = unpriced + excluded.unpriced
"""
DELETE_CALLS = "DELETE FROM model_calls WHERE id IN (SELECT value FROM json_each(?))"

REFERENCED_MESSAGES = """
SELECT message_id FROM routes WHERE message_id IN (SELECT value FROM json_each(:ids))
UNION ALL SELECT message_id FROM task_runs WHERE session_id = :session AND ended_at IS NULL
"""
# In an idle session no item is left that could cause a notice, so a deleted notice cannot be sent again.
IS_IDLE = """
SELECT 1 FROM sessions WHERE id = :session AND due_at IS NULL
AND NOT EXISTS (
    SELECT 1 FROM deliveries INDEXED BY deliveries_open
    WHERE session_id = :session AND status IN ('pending', 'sending'))
AND NOT EXISTS (
    SELECT 1 FROM deliveries INDEXED BY deliveries_unknown WHERE session_id = :session AND status = 'unknown')
AND NOT EXISTS (SELECT 1 FROM routes INDEXED BY routes_waiting WHERE session_id = :session AND outcome = 'waiting')
AND NOT EXISTS (SELECT 1 FROM task_runs INDEXED BY task_runs_open WHERE session_id = :session AND ended_at IS NULL)
AND NOT EXISTS (SELECT 1 FROM inbound_events WHERE status = 'new' AND received_at < :before)
AND NOT EXISTS (SELECT 1 FROM inbound_events WHERE status = 'set_aside')
"""
OLD_DELIVERIES = """
SELECT seq FROM deliveries d INDEXED BY deliveries_settled
WHERE session_id = :session AND status IN ('sent', 'dropped', 'dead') AND changed_at < :before AND (seq > 0 OR :rest)
    AND NOT EXISTS (
        SELECT 1 FROM questions q WHERE q.session_id = d.session_id AND q.seq = d.seq AND q.status = 'open')
LIMIT :limit
"""
# Never the last message, whose number would be used again; nor a card whose approval is stored; nor messages of a chat
# with open deliveries, one of which may be an edit of an earlier message.
OLD_HOST_MESSAGES = """
SELECT seq FROM deliveries d INDEXED BY deliveries_settled
WHERE session_id = :host AND status IN ('sent', 'dropped', 'dead') AND changed_at < :before
    AND seq < (SELECT max(seq) FROM deliveries WHERE session_id = :host)
    AND NOT EXISTS (SELECT 1 FROM approval_cards c WHERE c.seq = d.seq)
    AND NOT EXISTS (
        SELECT 1 FROM deliveries o INDEXED BY deliveries_open
        WHERE o.status IN ('pending', 'sending') AND o.session_id = d.session_id
        AND o.channel_type = d.channel_type AND o.instance = d.instance AND o.platform_id = d.platform_id)
    AND NOT EXISTS (
        SELECT 1 FROM deliveries o INDEXED BY deliveries_unknown
        WHERE o.status = 'unknown' AND o.session_id = d.session_id
        AND o.channel_type = d.channel_type AND o.instance = d.instance AND o.platform_id = d.platform_id)
LIMIT :limit
"""
OLD_ACTIONS = """
SELECT seq FROM actions INDEXED BY actions_settled
WHERE session_id = :session AND status != 'pending' AND notified = 1 AND ifnull(done_at, created_at) < :before
LIMIT :limit
"""
DELETE_ATTEMPTS = "DELETE FROM delivery_attempts WHERE session_id = ? AND seq IN (SELECT value FROM json_each(?))"
DELETE_DELIVERIES = "DELETE FROM deliveries WHERE session_id = ? AND seq IN (SELECT value FROM json_each(?))"
DELETE_ACTIONS = "DELETE FROM actions WHERE session_id = ? AND seq IN (SELECT value FROM json_each(?))"
RECORD_DELETED_UP_TO = """
INSERT INTO retention_watermarks (session_id, up_to_seq) VALUES (?, ?)
ON CONFLICT (session_id) DO UPDATE SET up_to_seq = max(up_to_seq, excluded.up_to_seq)
"""
OLD_RUNS = """
SELECT id, ended_at FROM task_runs INDEXED BY task_runs_ended
WHERE ended_at < :before AND (ended_at, id) > (:after_at, :after_id) ORDER BY ended_at, id LIMIT :limit
"""
ENDED_TASKS = """
SELECT t.id FROM tasks t
WHERE t.status IN ('done', 'cancelled') AND t.run_requested_at IS NULL AND t.changed_at < :before AND NOT EXISTS (
    SELECT 1 FROM task_runs r WHERE r.task_id = t.id AND (
        r.ended_at IS NULL OR r.ended_at >= :before OR r.id = (SELECT max(id) FROM task_runs)))
LIMIT :limit
"""
DELETE_RUNS_OF = "DELETE FROM task_runs WHERE task_id IN (SELECT value FROM json_each(?))"
DELETE_TASKS = "DELETE FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
# The latest run of a task stays with its task; and the last run of all, whose number would be used again.
DELETE_RUNS = """
DELETE FROM task_runs WHERE id IN (SELECT value FROM json_each(?)) AND id < (SELECT max(id) FROM task_runs)
    AND EXISTS (SELECT 1 FROM task_runs l WHERE l.task_id = task_runs.task_id AND l.due > task_runs.due)
"""


async def delete_events(tx: Transaction, *, after: int, below: int) -> list[int]:
    """Delete settled events with numbers between `after` and `below`, and their routes. Returns their numbers; call it
    again with the last one."""
    rows = await tx.fetch_all(OLD_EVENTS, {"after": after, "below": below, "limit": BATCH_SIZE})
    ids = [int(row["id"]) for row in rows]
    await tx.execute(DELETE_ROUTES, (json.dumps(ids),))
    await tx.execute(DELETE_EVENTS, (json.dumps(ids),))
    return ids


async def first_recent_event(db: ReportReader, before: datetime) -> int:
    """Returns a number below which all events came before that time."""
    return await _first_recent(db, FIRST_RECENT_EVENT, LAST_EVENT, before)


async def aggregate_calls(tx: Transaction, *, below: int) -> int:
    """Replace model calls with lower numbers by sums for each day. Returns how many; if it is BATCH_SIZE, there may be
    more."""
    ids = json.dumps([row["id"] for row in await tx.fetch_all(OLD_CALLS, (below, BATCH_SIZE))])
    await tx.execute(AGGREGATE_CALLS, (ids,))
    return await tx.execute(DELETE_CALLS, (ids,))


async def first_recent_call(db: ReportReader, before: datetime) -> int:
    return await _first_recent(db, FIRST_RECENT_CALL, LAST_CALL, before)


async def find_referenced(db: Queries, session: SessionId, messages: Sequence[str]) -> set[str]:
    """Returns messages that a route or an open run of a task refers to, including all such ones of `messages`."""
    rows = await db.fetch_all(REFERENCED_MESSAGES, {"ids": json.dumps(list(messages)), "session": session})
    return {str(row["message_id"]) for row in rows}


async def delete_deliveries(tx: Transaction, session: SessionId, *, before: datetime, has_no_claims: bool) -> int:
    """Delete deliveries and actions of a session that were settled before that time. Returns how many.

    Deletes notices only if the session is idle. `has_no_claims`: no message of the session is being worked on.
    """
    values: dict[str, Value] = {"session": session, "before": to_text(before), "limit": BATCH_SIZE}
    is_idle = has_no_claims and await tx.fetch_one(IS_IDLE, values) is not None
    sent = [int(row["seq"]) for row in await tx.fetch_all(OLD_DELIVERIES, {**values, "rest": int(is_idle)})]
    done = [int(row["seq"]) for row in await tx.fetch_all(OLD_ACTIONS, values)]
    if not sent and not done:
        return 0
    for sql, seqs in ((DELETE_ATTEMPTS, sent), (DELETE_DELIVERIES, sent), (DELETE_ACTIONS, done)):
        await tx.execute(sql, (session, json.dumps(seqs)))
    await tx.execute(RECORD_DELETED_UP_TO, (session, max(*sent, *done, 0)))
    return len(sent) + len(done)


async def delete_host_messages(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete messages of the host that were settled before that time. Returns how many; if it is `limit`, there may be
    more."""
    rows = await tx.fetch_all(OLD_HOST_MESSAGES, {"host": HOST_SESSION_ID, "before": to_text(before), "limit": limit})
    seqs = json.dumps([int(row["seq"]) for row in rows])
    await tx.execute(DELETE_ATTEMPTS, (HOST_SESSION_ID, seqs))
    return await tx.execute(DELETE_DELIVERIES, (HOST_SESSION_ID, seqs))


async def delete_runs(tx: Transaction, *, before: datetime, after: RunKey) -> tuple[int, RunKey | None]:
    """Delete runs of tasks that ended before that time, of the next batch after `after`, except those that must stay.
    Returns how many, and the key from which to continue; None if there are no more."""
    at, id = after
    values: dict[str, Value] = {"before": to_text(before), "after_at": at, "after_id": id, "limit": BATCH_SIZE}
    rows = await tx.fetch_all(OLD_RUNS, values)
    if not rows:
        return 0, None
    count = await tx.execute(DELETE_RUNS, (json.dumps([row["id"] for row in rows]),))
    return count, (rows[-1]["ended_at"], rows[-1]["id"])


async def delete_tasks(tx: Transaction, *, before: datetime) -> int:
    """Delete tasks that ended before that time, with their runs. Returns how many; if it is BATCH_SIZE, there may be
    more."""
    rows = await tx.fetch_all(ENDED_TASKS, {"before": to_text(before), "limit": BATCH_SIZE})
    ids = json.dumps([row["id"] for row in rows])
    await tx.execute(DELETE_RUNS_OF, (ids,))
    return await tx.execute(DELETE_TASKS, (ids,))


async def _first_recent(db: ReportReader, query: str, fallback_query: str, before: datetime) -> int:
    row = await db.fetch_one(query, (to_text(before),)) or await db.fetch_one(fallback_query)
    return int(row["id"] or 0) if row else 0
