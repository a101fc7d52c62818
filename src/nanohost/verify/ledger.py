"""Checks that every event has an outcome and every attempt is accounted for."""

from __future__ import annotations

from nanohost.verify.finding import MAX_ROWS, VerifyContext

# After a kill it is the same: the next start finds the delivery by its open attempt, and records its outcome.
SENDING_WITHOUT_ATTEMPT = """
SELECT d.session_id, d.seq FROM deliveries d WHERE d.status = 'sending' AND NOT EXISTS (
    SELECT 1 FROM delivery_attempts a WHERE a.session_id = d.session_id AND a.seq = d.seq AND a.ended_at IS NULL)
LIMIT ?
"""
SENT_WITHOUT_ATTEMPT = """
SELECT d.session_id, d.seq FROM deliveries d WHERE d.status = 'sent' AND NOT EXISTS (
    SELECT 1 FROM delivery_attempts a WHERE a.session_id = d.session_id AND a.seq = d.seq AND a.outcome = 'sent')
LIMIT ?
"""
ROUTES_WITHOUT_MESSAGE = """
SELECT event_id, wiring_id, outcome FROM routes
WHERE outcome IN ('written', 'context', 'waiting') AND (session_id IS NULL OR message_id IS NULL) LIMIT ?
"""
DELETED_BEYOND_CURSOR = """
SELECT s.id, f.up_to_seq, s.out_cursor FROM retention_watermarks f JOIN sessions s ON s.id = f.session_id
WHERE f.up_to_seq > s.out_cursor LIMIT ?
"""
WRONG_ATTEMPT_COUNT = """
SELECT d.session_id, d.seq, d.attempts, count(a.number) AS found
FROM deliveries d LEFT JOIN delivery_attempts a USING (session_id, seq)
GROUP BY d.session_id, d.seq HAVING found != d.attempts LIMIT ?
"""
OPEN_ATTEMPTS = """
SELECT a.session_id, a.seq, a.number, d.status
FROM delivery_attempts a JOIN deliveries d USING (session_id, seq)
WHERE a.ended_at IS NULL AND d.status != 'sending' LIMIT ?
"""
# Only wirings that are older than the event count, because a deleted wiring's routes are deleted too. Events that were
# handled in another way have a reason: for the host itself, joined with another message, a deletion.
EVENTS_WITHOUT_ROUTE = """
SELECT e.id, e.channel_type, e.platform_id, e.platform_message_id FROM inbound_events e
WHERE e.status = 'routed' AND e.reason IS NULL
AND NOT EXISTS (SELECT 1 FROM routes r WHERE r.event_id = e.id)
AND EXISTS (
    SELECT 1 FROM wirings w JOIN messaging_groups m ON m.id = w.messaging_group_id
    WHERE m.channel_type = e.channel_type AND m.instance = e.instance AND m.platform_id = e.platform_id
    AND w.created_at <= e.received_at)
LIMIT ?
"""


async def sending_deliveries_have_an_open_attempt(install: VerifyContext) -> list[str]:
    """A delivery that is `sending`, now or when its host was killed, has an attempt without an end."""
    return [
        f"delivery {row['seq']} of session {row['session_id']} is being sent, and no attempt is under way"
        for row in await install.store.fetch_all(SENDING_WITHOUT_ATTEMPT, (MAX_ROWS,))
    ]


async def sent_deliveries_have_a_sent_attempt(install: VerifyContext) -> list[str]:
    """A delivery that is `sent` has an attempt that ended with it."""
    return [
        f"delivery {row['seq']} of session {row['session_id']} is sent, and no attempt says so"
        for row in await install.store.fetch_all(SENT_WITHOUT_ATTEMPT, (MAX_ROWS,))
    ]


async def attempt_counts_match(install: VerifyContext) -> list[str]:
    """A delivery's attempt count is the number of its recorded attempts."""
    return [
        f"delivery {row['seq']} of session {row['session_id']} counts {row['attempts']} attempts, and {row['found']}"
        " are on record"
        for row in await install.store.fetch_all(WRONG_ATTEMPT_COUNT, (MAX_ROWS,))
    ]


async def ended_deliveries_have_no_open_attempt(install: VerifyContext) -> list[str]:
    """Only a delivery that is `sending` has an attempt without an end."""
    return [
        f"attempt {row['number']} of delivery {row['seq']} of session {row['session_id']} has no end, and the delivery"
        f" is {row['status']}"
        for row in await install.store.fetch_all(OPEN_ATTEMPTS, (MAX_ROWS,))
    ]


async def routed_events_have_routes(install: VerifyContext) -> list[str]:
    """A routed event of a chat that was wired when it was received has a route."""
    return [
        f"event {row['id']} ({row['platform_message_id']} of {row['channel_type']}:{row['platform_id']}) is routed, and"
        " no wiring says what it made of it"
        for row in await install.store.fetch_all(EVENTS_WITHOUT_ROUTE, (MAX_ROWS,))
    ]


async def routes_name_their_message(install: VerifyContext) -> list[str]:
    """A route that reached a session, or waits for its mailbox, names the session and the message."""
    return [
        f"the route of event {row['event_id']} by wiring {row['wiring_id']} is {row['outcome']}, and names no message"
        for row in await install.store.fetch_all(ROUTES_WITHOUT_MESSAGE, (MAX_ROWS,))
    ]


async def only_collected_rows_are_deleted(install: VerifyContext) -> list[str]:
    """No outbound row beyond the cursor has been deleted."""
    return [
        f"session {row['id']} has forgotten rows up to {row['up_to_seq']}, and has taken over up to {row['out_cursor']}"
        for row in await install.store.fetch_all(DELETED_BEYOND_CURSOR, (MAX_ROWS,))
    ]
