"""Reads the counts and lists of the status: what waits, what failed, what was rejected."""

from __future__ import annotations

from datetime import datetime, timedelta

from nanohost.db.database import ReportReader
from nanohost.model import SessionId
from nanohost_protocol.times import to_text

OVERDUE_AFTER = timedelta(minutes=2)
"""A due task is run within a second if a host runs."""
DOWN_AFTER = timedelta(minutes=8)
"""As long as the attempts of a message take that its platform does not accept: shorter outages resolve by themselves.
"""

COUNTS = """
SELECT
    (SELECT count(*) FROM agent_groups) AS agent_groups,
    (SELECT count(*) FROM wirings) AS wirings,
    (SELECT count(*) FROM sessions) AS sessions,
    (SELECT count(*) FROM sessions WHERE due_at IS NOT NULL) AS sessions_with_work,
    (SELECT count(*) FROM inbound_events WHERE status = 'new') AS events_not_routed,
    (SELECT count(*) FROM inbound_events WHERE status = 'set_aside') AS events_set_aside,
    (SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending')) AS deliveries_waiting,
    (SELECT count(*) FROM deliveries WHERE status = 'unknown') AS deliveries_unknown,
    (SELECT count(*) FROM deliveries WHERE status = 'dead') AS deliveries_dead,
    (SELECT count(*) FROM approvals WHERE status = 'pending') AS approvals_open,
    (SELECT count(*) FROM tasks WHERE status = 'active') AS tasks,
    (SELECT count(*) FROM tasks WHERE status = 'paused') AS tasks_paused
"""
MAILBOXES_DAMAGED = """
SELECT session_id AS session, reason, count(*) AS messages FROM routes
WHERE outcome = 'waiting' GROUP BY session_id, reason ORDER BY messages DESC LIMIT 20
"""
DELIVERIES_WAITING = """
SELECT channel_type || ':' || instance AS channel, count(*) AS messages, coalesce(reason, 'in turn') AS reason
FROM deliveries WHERE status IN ('pending', 'sending') GROUP BY 1, 3 ORDER BY messages DESC LIMIT 20
"""
# Messages that wait for a platform that accepts nothing, and since when: the first failed attempt of the message that
# waits longest. Attempts before an operator had it sent again do not count. The reason beside min() is that of its row.
PLATFORMS_DOWN = """
SELECT channel_type || ':' || instance AS channel, min(since) AS since, count(*) AS messages, reason
FROM (
    SELECT d.channel_type, d.instance, d.reason, (
        SELECT min(a.started_at) FROM delivery_attempts a
        WHERE a.session_id = d.session_id AND a.seq = d.seq AND a.number > d.attempts_before_resend
            AND a.outcome IN ('down', 'failing') AND (d.reason LIKE 'down: %' OR d.reason LIKE 'failing: %')
    ) AS since
    FROM deliveries d WHERE d.status IN ('pending', 'sending')
)
GROUP BY channel_type, instance HAVING min(since) <= :before ORDER BY since LIMIT 20
"""
DELIVERIES_UNKNOWN = """
SELECT session_id AS session, seq, channel_type || ':' || instance AS channel, platform_id AS chat, reason, changed_at
FROM deliveries WHERE status = 'unknown' ORDER BY changed_at DESC LIMIT 20
"""
DELIVERIES_DEAD = """
SELECT session_id AS session, seq, channel_type || ':' || instance AS channel, platform_id AS chat, reason, changed_at
FROM deliveries WHERE status = 'dead' ORDER BY changed_at DESC LIMIT 20
"""
EVENTS_DROPPED = """
SELECT channel_type || ':' || instance AS channel, platform_id AS chat, reason, count(*) AS events,
       max(received_at) AS latest
FROM inbound_events e WHERE status = 'dropped' AND NOT EXISTS (
    SELECT 1 FROM messaging_groups m JOIN wirings w ON w.messaging_group_id = m.id
    WHERE (m.channel_type, m.instance, m.platform_id) = (e.channel_type, e.instance, e.platform_id)
        AND w.created_at >= e.received_at)
GROUP BY 1, 2, 3 ORDER BY latest DESC LIMIT 20
"""
"""Without events of a chat that was wired since: nothing is left to do about them."""
EVENTS_QUARANTINED = """
SELECT id AS event, channel_type || ':' || instance AS channel, platform_id AS chat, reason, received_at
FROM inbound_events WHERE status = 'set_aside' ORDER BY id DESC LIMIT 20
"""
SENDERS_DENIED = """
SELECT e.channel_type || ':' || e.sender_handle AS user, e.sender_name AS name,
       e.channel_type || ':' || e.instance AS channel, e.platform_id AS chat, r.reason, count(*) AS events,
       max(e.received_at) AS latest
FROM routes r JOIN inbound_events e ON e.id = r.event_id JOIN wirings w ON w.id = r.wiring_id
WHERE r.outcome = 'denied' AND NOT EXISTS (
    SELECT 1 FROM roles g WHERE (g.agent_group_id IS NULL OR g.agent_group_id = w.agent_group_id) AND (
        g.user_id = e.channel_type || ':' || e.sender_handle OR g.user_id IN (
            SELECT o.user_id FROM users u JOIN users o ON o.person = u.person
            WHERE u.user_id = e.channel_type || ':' || e.sender_handle)))
GROUP BY 1, 2, 3, 4, 5 ORDER BY latest DESC LIMIT 20
"""
"""Without senders who have a role there, by any identity: only a command of theirs was refused."""
SESSIONS_WAITING = """
SELECT s.id AS session, g.folder AS agent_group, s.due_at AS due, t.held_until AS held_until, t.error_class AS held_by
FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
LEFT JOIN turn_failures t ON t.session_id = s.id AND t.held_until > :now
WHERE s.lease IS NULL AND s.due_at <= :now OR s.lease IS NULL AND s.due_at IS NOT NULL AND t.held_until IS NOT NULL
ORDER BY s.due_at LIMIT 20
"""
SESSION_WAIT = """
SELECT s.id AS session, g.folder AS agent_group, s.due_at AS due, s.lease IS NOT NULL AS has_container,
    t.held_until AS held_until, t.error_class AS held_by
FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
LEFT JOIN turn_failures t ON t.session_id = s.id AND t.held_until > :now WHERE s.id = :session
"""
TURNS_FAILING = """
SELECT t.session_id AS session, g.folder AS agent_group, t.error_class AS class, t.failures, t.latest_at AS latest,
    t.held_until AS held_until,
    CASE t.error_class
        WHEN 'auth' THEN 'nanohost model check says what is wrong; nanohost model set mends it'
        WHEN 'budget' THEN 'top the account up, then write again'
        WHEN 'rate_limited' THEN 'nothing to do: tried again by itself'
        WHEN 'overloaded' THEN 'tried again by itself; is the network up, and base_url under [agent] right?'
        WHEN 'permanent' THEN '/clear in the chat begins a new conversation; why: nanohost logs ' || t.session_id
        WHEN 'context_full' THEN 'send less at once, or /clear in the chat'
        ELSE 'nanohost logs ' || t.session_id
    END AS do
FROM turn_failures t JOIN sessions s ON s.id = t.session_id JOIN agent_groups g ON g.id = s.agent_group_id
WHERE t.error_class NOT IN ('auth', 'budget') OR NOT EXISTS (
    SELECT 1 FROM model_calls c WHERE c.id > (SELECT max(id) FROM model_calls) - 1000
        AND c.started_at > t.latest_at AND c.status BETWEEN 200 AND 299 AND c.error IS NULL)
ORDER BY t.latest_at DESC LIMIT 20
"""
MESSAGES_LATE = """
SELECT name AS thing, session_id AS session, channel, platform_id AS chat, since, cause, sentence
FROM late_messages ORDER BY since LIMIT 20
"""
TASKS_PAUSED = """
SELECT t.id AS task, t.session_id AS session, t.reason, t.changed_at AS since
FROM tasks t WHERE t.status = 'paused' ORDER BY t.changed_at DESC LIMIT 20
"""
TASKS_OVERDUE = """
SELECT t.id AS task, t.session_id AS session, t.next_due AS due
FROM tasks t WHERE t.status = 'active' AND t.next_due <= :overdue ORDER BY t.next_due LIMIT 20
"""
APPROVALS_OPEN = """
SELECT a.id AS approval, a.kind AS about, a.requested_by AS by, a.created_at AS since, a.expires_at AS until,
    coalesce((
        SELECT group_concat(c.user_id || iif(c.problem IS NULL, '', ' (' || c.problem || ')'), ', ')
        FROM approval_cards c WHERE c.approval_id = a.id), 'nobody yet') AS asked
FROM approvals a WHERE a.status = 'pending' ORDER BY a.created_at LIMIT 20
"""

LISTS = {
    "messages_late": MESSAGES_LATE,
    "turns_failing": TURNS_FAILING,
    "tasks_paused": TASKS_PAUSED,
    "tasks_overdue": TASKS_OVERDUE,
    "approvals_open": APPROVALS_OPEN,
    "sessions_waiting": SESSIONS_WAITING,
    "mailboxes_refusing": MAILBOXES_DAMAGED,
    "deliveries_waiting": DELIVERIES_WAITING,
    "platforms_down": PLATFORMS_DOWN,
    "deliveries_unknown": DELIVERIES_UNKNOWN,
    "deliveries_dead": DELIVERIES_DEAD,
    "events_set_aside": EVENTS_QUARANTINED,
    "events_dropped": EVENTS_DROPPED,
    "senders_denied": SENDERS_DENIED,
}


async def counts(db: ReportReader) -> dict[str, int]:
    """Returns the counts by name."""
    row = await db.fetch_one(COUNTS)
    assert row is not None
    return dict(row)


async def find_session_wait(db: ReportReader, session: SessionId, now: datetime) -> dict[str, str | int | None] | None:
    """Returns the work and backoff of one session; None if it does not exist."""
    row = await db.fetch_one(SESSION_WAIT, {"session": session, "now": to_text(now)})
    return None if row is None else dict(row)


async def lists(
    db: ReportReader, now: datetime, *, is_host_running: bool = True
) -> dict[str, list[dict[str, str | int | None]]]:
    """Returns the lists by name, at most twenty lines each, latest or largest first. `is_host_running`: then a task
    that has just become due is not listed as overdue."""
    overdue = now - OVERDUE_AFTER if is_host_running else now
    times = {"now": to_text(now), "overdue": to_text(overdue), "before": to_text(now - DOWN_AFTER)}
    return {name: [dict(row) for row in await db.fetch_all(sql, times)] for name, sql in LISTS.items()}
