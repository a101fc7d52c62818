"""Invariants of the files once everything is settled, whatever happened before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nanohost.clock import SystemClock
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.model import Session
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.verify.checks import verify
from nanohost_protocol.inbound import inbound_snapshot
from nanohost_protocol.rows import Ack
from tests.support.flow import RunningHost

IDLE_TIMEOUT_S = 10.0
IGNORED_CHECK = "outbound numbers are odd"
"""Checks that a hostile runner can break in its own file, without harm to the host."""

UNFINISHED_WORK_QUERIES = {
    "events not routed": "SELECT platform_message_id FROM inbound_events WHERE status = 'new'",
    "rows that wait for their mailbox": "SELECT message_id, reason FROM routes WHERE outcome = 'waiting'",
    "messages on their way": "SELECT seq, status, reason FROM deliveries WHERE status IN ('pending', 'sending')",
    "sent without an attempt that says so": """
        SELECT seq FROM deliveries d WHERE status = 'sent' AND NOT EXISTS
        (SELECT 1 FROM delivery_attempts a WHERE a.session_id = d.session_id AND a.seq = d.seq AND outcome = 'sent')""",
    "requests on their way": "SELECT seq, name, status FROM actions WHERE status = 'pending' OR notified = 0",
    "drops without a reason": "SELECT seq FROM deliveries WHERE status IN ('dropped', 'dead') AND reason IS NULL",
    "sessions with work": "SELECT id, due_at FROM sessions WHERE due_at IS NOT NULL",
}


async def assert_clean(flow: RunningHost) -> None:
    """Wait until the host is settled, then verify; raises AssertionError with the findings."""
    problems: list[str] = []
    try:
        async with asyncio.timeout(scaled_timeout(IDLE_TIMEOUT_S)):
            while problems := await _collect_problems(flow):  # noqa: ASYNC110 - files and processes announce nothing
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError("; ".join(problems)) from None
    findings = await verify(flow.host.store, flow.home, clock=SystemClock(), is_host_running=True)
    assert not [finding for finding in findings if finding.check != IGNORED_CHECK], findings


async def wait_until(condition: Callable[[], bool], *, timeout_s: float = HANG_TIMEOUT_S) -> None:
    """Poll for a condition without an event."""
    async with asyncio.timeout(scaled_timeout(timeout_s)):
        while not condition():  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)


async def read_open_claims(flow: RunningHost, session: Session) -> list[Ack]:
    """The open claims of a runner; empty as long as its file cannot be read."""
    try:
        return await flow.host.mailboxes.read_outbound(session, queries.open_claims()) or []
    except MailboxError:
        return []


async def wait_for_claims(
    flow: RunningHost, count: int = 1, *, folder: str = "main", timeout_s: float = HANG_TIMEOUT_S
) -> list[Ack]:
    """Wait until the runner of a group's session works on so many messages."""
    async with asyncio.timeout(scaled_timeout(timeout_s)):
        while True:
            claims = [
                claim for session in await flow.sessions(folder) for claim in await read_open_claims(flow, session)
            ]
            if len(claims) >= count:
                return claims
            await asyncio.sleep(0.01)


async def _collect_problems(flow: RunningHost) -> list[str]:
    found = []
    for what, query in UNFINISHED_WORK_QUERIES.items():
        if rows := await flow.host.store.fetch_all(query):
            found.append(f"{what}: {[tuple(row) for row in rows]}")
    for session in await flow.sessions():
        found += await _mailbox_problems(flow, session)
    return found


async def _mailbox_problems(flow: RunningHost, session: Session) -> list[str]:
    found = []
    written = await flow.host.store.fetch_all(
        "SELECT message_id FROM routes WHERE session_id = ? AND outcome = 'written'", (session.id,)
    )
    with inbound_snapshot(flow.layout(session).inbound_db) as box:
        rows = {row["message_id"]: box.find(row["message_id"]) for row in written}
    if left := [row.id for row in rows.values() if row is not None and row.trigger and row.status == "pending"]:
        found.append(f"never answered: {left}")
    if claims := await read_open_claims(flow, session):
        found.append(f"open claims: {[claim.message_id for claim in claims]}")
    return found
