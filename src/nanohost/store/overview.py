"""Counts for the status screen: what waits, what failed, what was turned away."""

from __future__ import annotations

from nanohost.store.database import Queries

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
    (SELECT count(*) FROM deliveries WHERE status = 'dead') AS deliveries_dead
"""
MAILBOXES_REFUSING = """
SELECT session_id AS session, reason, count(*) AS messages FROM routes
WHERE outcome = 'waiting' GROUP BY session_id, reason ORDER BY messages DESC LIMIT 20
"""
DELIVERIES_WAITING = """
SELECT channel_type || ':' || instance AS channel, coalesce(reason, 'in turn') AS reason, count(*) AS messages
FROM deliveries WHERE status IN ('pending', 'sending') GROUP BY 1, 2 ORDER BY messages DESC LIMIT 20
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
FROM inbound_events WHERE status = 'dropped' GROUP BY 1, 2, 3 ORDER BY latest DESC LIMIT 20
"""
EVENTS_SET_ASIDE = """
SELECT id AS event, channel_type || ':' || instance AS channel, platform_id AS chat, reason, received_at
FROM inbound_events WHERE status = 'set_aside' ORDER BY id DESC LIMIT 20
"""
SENDERS_DENIED = """
SELECT e.channel_type || ':' || e.sender_handle AS user, e.sender_name AS name, e.platform_id AS chat, r.reason,
       count(*) AS events, max(e.received_at) AS latest
FROM routes r JOIN inbound_events e ON e.id = r.event_id
WHERE r.outcome = 'denied' GROUP BY 1, 2, 3, 4 ORDER BY latest DESC LIMIT 20
"""

LISTS = {
    "mailboxes_refusing": MAILBOXES_REFUSING,
    "deliveries_waiting": DELIVERIES_WAITING,
    "deliveries_unknown": DELIVERIES_UNKNOWN,
    "deliveries_dead": DELIVERIES_DEAD,
    "events_set_aside": EVENTS_SET_ASIDE,
    "events_dropped": EVENTS_DROPPED,
    "senders_denied": SENDERS_DENIED,
}


async def counts(db: Queries) -> dict[str, int]:
    """How much there is of what, by name."""
    row = await db.one(COUNTS)
    assert row is not None
    return dict(row)


async def lists(db: Queries) -> dict[str, list[dict[str, str | int | None]]]:
    """What needs a look, by name; at most twenty lines each, latest or most first."""
    return {name: [dict(row) for row in await db.all(sql)] for name, sql in LISTS.items()}
