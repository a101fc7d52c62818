"""Invariants of what came in and what goes out: no event without an outcome, every attempt accounted for."""

from __future__ import annotations

from nanohost.verify.finding import MOST_ROWS, Install

SENDING = "SELECT session_id, seq, channel_type, platform_id FROM deliveries WHERE status = 'sending' LIMIT ?"
MISCOUNTED = """
SELECT d.session_id, d.seq, d.attempts, count(a.number) AS found
FROM deliveries d LEFT JOIN delivery_attempts a USING (session_id, seq)
GROUP BY d.session_id, d.seq HAVING found != d.attempts LIMIT ?
"""
UNENDED = """
SELECT a.session_id, a.seq, a.number, d.status
FROM delivery_attempts a JOIN deliveries d USING (session_id, seq)
WHERE a.ended_at IS NULL AND d.status != 'sending' LIMIT ?
"""
# A wiring takes its routes along when it is deleted, so only one that was there before the event says anything.
UNROUTED = """
SELECT e.id, e.channel_type, e.platform_id, e.platform_message_id FROM inbound_events e
WHERE e.status = 'routed' AND NOT EXISTS (SELECT 1 FROM routes r WHERE r.event_id = e.id)
AND EXISTS (
    SELECT 1 FROM wirings w JOIN messaging_groups m ON m.id = w.messaging_group_id
    WHERE m.channel_type = e.channel_type AND m.instance = e.instance AND m.platform_id = e.platform_id
    AND w.created_at <= e.received_at)
LIMIT ?
"""


async def nothing_is_sent_without_a_host(install: Install) -> list[str]:
    """While no host runs, no delivery is `sending`: one that is was cut off, and the next start sends it again."""
    if install.host_running:
        return []
    return [
        f"delivery {row['seq']} of session {row['session_id']} is being sent to {row['channel_type']}:"
        f"{row['platform_id']}, and no host runs: nobody knows whether it arrived"
        for row in await install.store.all(SENDING, (MOST_ROWS,))
    ]


async def attempts_are_counted(install: Install) -> list[str]:
    """A delivery has as many attempts on record as it counts."""
    return [
        f"delivery {row['seq']} of session {row['session_id']} counts {row['attempts']} attempts, and {row['found']}"
        " are on record"
        for row in await install.store.all(MISCOUNTED, (MOST_ROWS,))
    ]


async def attempts_have_an_end(install: Install) -> list[str]:
    """Only a delivery that is `sending` has an attempt without an end."""
    return [
        f"attempt {row['number']} of delivery {row['seq']} of session {row['session_id']} has no end, and the delivery"
        f" is {row['status']}"
        for row in await install.store.all(UNENDED, (MOST_ROWS,))
    ]


async def routed_events_have_routes(install: Install) -> list[str]:
    """A routed event of a chat that was wired when it came in has a route: what became of it is on record."""
    return [
        f"event {row['id']} ({row['platform_message_id']} of {row['channel_type']}:{row['platform_id']}) is routed, and"
        " no wiring says what it made of it"
        for row in await install.store.all(UNROUTED, (MOST_ROWS,))
    ]
