"""Checks the invariants of people, approvals and open requests."""

from __future__ import annotations

from nanohost.approvals.card import compute_digest
from nanohost.model import HOST_SESSION_ID
from nanohost.verify.finding import MAX_ROWS, VerifyContext

# A role of one identity counts for all identities with the same number.
WRONG_PERSON_NUMBER = """
SELECT u.user_id, u.person, l.id AS lowest FROM users u
JOIN (SELECT person, min(id) AS id FROM users GROUP BY person) l ON l.person = u.person
WHERE u.person != l.id LIMIT ?
"""
# An approved request that is not carried out yet must still match its card.
OPEN_APPROVALS = """
SELECT id, rendered_text, payload, digest FROM approvals a
WHERE a.status = 'pending' OR EXISTS (SELECT 1 FROM actions x WHERE x.approval_id = a.id AND x.status = 'pending')
"""
WRONG_END_TIME = """
SELECT 'approval ' || id AS what, status, decided_at AS at FROM approvals
WHERE (status = 'pending') != (decided_at IS NULL)
UNION ALL
SELECT 'code ' || id, status, closed_at FROM codes WHERE (status = 'open') != (closed_at IS NULL)
LIMIT ?
"""
APPROVALS_WITHOUT_REQUEST = """
SELECT a.id, a.session_id, a.seq FROM approvals a
WHERE a.status = 'pending' AND a.session_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM actions x
    WHERE x.approval_id = a.id AND x.status = 'held' AND x.session_id = a.session_id AND x.seq = a.seq)
LIMIT ?
"""
CARDS_WITHOUT_MESSAGE = """
SELECT c.approval_id, c.number, c.user_id FROM approval_cards c
WHERE c.seq IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.session_id = ? AND d.seq = c.seq)
LIMIT ?
"""
QUESTIONS_WITHOUT_MESSAGE = """
SELECT q.session_id, q.seq FROM questions q
WHERE q.status = 'open' AND NOT EXISTS (
    SELECT 1 FROM deliveries d WHERE d.session_id = q.session_id AND d.seq = q.seq)
LIMIT ?
"""


async def linked_identities_share_a_person_number(install: VerifyContext) -> list[str]:
    """Linked users share a person number, the lowest of their own: a role of one counts for all of them."""
    return [
        f"user {row['user_id']} is counted as person {row['person']}, whose first identity is number {row['lowest']}"
        for row in await install.store.fetch_all(WRONG_PERSON_NUMBER, (MAX_ROWS,))
    ]


async def approvals_match_their_digest(install: VerifyContext) -> list[str]:
    """An approval that is open, or whose request is not carried out yet, has not changed since it was requested."""
    return [
        f"approval {row['id']}: its card or what it would do was changed after it was asked for"
        for row in await install.store.fetch_all(OPEN_APPROVALS)
        if compute_digest(row["rendered_text"], row["payload"]) != row["digest"]
    ][:MAX_ROWS]


async def closed_items_have_an_end_time(install: VerifyContext) -> list[str]:
    """A closed approval or code has an end time, or it would never be deleted; an open one has none."""
    return [
        f"{row['what']} is {row['status']}, and {'does not say since when' if row['at'] is None else 'says since when'}"
        for row in await install.store.fetch_all(WRONG_END_TIME, (MAX_ROWS,))
    ]


async def open_approvals_have_their_request(install: VerifyContext) -> list[str]:
    """An open approval of an agent's request names a request that waits for it, or an approval would do nothing."""
    return [
        f"approval {row['id']} is open, and request {row['seq']} of session {row['session_id']} does not wait for it"
        for row in await install.store.fetch_all(APPROVALS_WITHOUT_REQUEST, (MAX_ROWS,))
    ]


async def cards_have_their_message(install: VerifyContext) -> list[str]:
    """A card that was sent to a person is a message of the host, which is edited after the decision."""
    return [
        f"card {row['number']} of approval {row['approval_id']}, to {row['user_id']}, has no message"
        for row in await install.store.fetch_all(CARDS_WITHOUT_MESSAGE, (HOST_SESSION_ID, MAX_ROWS))
    ]


async def open_questions_have_their_message(install: VerifyContext) -> list[str]:
    """An open question has the message that asks it, or nobody could answer it."""
    return [
        f"question {row['seq']} of session {row['session_id']} is open, and its message is not there"
        for row in await install.store.fetch_all(QUESTIONS_WITHOUT_MESSAGE, (MAX_ROWS,))
    ]
