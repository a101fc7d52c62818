"""Checks the invariants of held messages and requests, and of context."""

from __future__ import annotations

from nanohost.verify.finding import MAX_ROWS, VerifyContext

HELD_WITHOUT_APPROVAL = """
SELECT 'message ' || r.event_id AS what, r.approval_id FROM routes r WHERE r.outcome = 'held' AND NOT EXISTS (
    SELECT 1 FROM approvals a WHERE a.id = r.approval_id AND a.status = 'pending')
UNION ALL
SELECT 'event ' || e.id, e.approval_id FROM inbound_events e WHERE e.status = 'held' AND NOT EXISTS (
    SELECT 1 FROM approvals a WHERE a.id = e.approval_id AND a.status = 'pending')
UNION ALL
SELECT 'request ' || x.out_id || ' of ' || x.session_id, x.approval_id FROM actions x
WHERE x.status = 'held' AND NOT EXISTS (
    SELECT 1 FROM approvals a
    WHERE a.id = x.approval_id AND a.status = 'pending' AND a.session_id = x.session_id AND a.seq = x.seq)
LIMIT ?
"""
WRONG_TRIGGER = """
SELECT event_id, wiring_id, outcome, trigger FROM routes
WHERE outcome = 'context' AND trigger = 1 OR outcome = 'written' AND trigger = 0 LIMIT ?
"""


async def held_items_have_an_open_approval(install: VerifyContext) -> list[str]:
    """A held message or request names an open approval, or it would never be released."""
    return [
        f"{row['what']} is held, and approval {row['approval_id']} is not open"
        for row in await install.store.fetch_all(HELD_WITHOUT_APPROVAL, (MAX_ROWS,))
    ]


async def context_routes_do_not_trigger(install: VerifyContext) -> list[str]:
    """A route is `context` if its message triggers no turn, and `written` if it does."""
    return [
        f"the route of event {row['event_id']} by wiring {row['wiring_id']} is {row['outcome']}, and its message"
        f" {'wakes the agent' if row['trigger'] else 'wakes nobody'}"
        for row in await install.store.fetch_all(WRONG_TRIGGER, (MAX_ROWS,))
    ]
