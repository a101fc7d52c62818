"""A session with a long history beside an empty one, in one host: a warm trip must not cost more for what was said."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Measurement, median
from benchmarks.round_trips import host, trip
from nanohost.db.database import Value
from nanohost.model import Session
from nanohost_protocol.inbound import InboundWriter
from tests.support.flow import RunningHost

SENT = 50_000
SAMPLES = 120
WARM_UP = 10
LAST_SEQ = 2 * SENT + 1
"""A runner's rows have odd numbers."""
NUMBERS = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {SENT})"
MOMENT = "strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + 60 * i, 'unixepoch')"
PLACE = "channel_type, instance, platform_id"
HISTORY = (
    f"""INSERT INTO inbound_events (id, {PLACE}, platform_message_id, event_kind, is_group, mentions_bot, sender_handle,
        sender_name, sender_is_bot, chat_name, text, sent_at, received_at, status)
    {NUMBERS} SELECT 1000 + i, {PLACE}, 'old' || i, 'message', 0, 0, 'ada', 'Ada', 0, '', 'hello', {MOMENT}, {MOMENT},
        'routed' FROM n, messaging_groups m WHERE m.id = :chat""",
    f"""INSERT INTO routes (event_id, wiring_id, outcome, reason, session_id, message_id)
    {NUMBERS} SELECT 1000 + i, w.id, 'written', '', :session, 'old' || i FROM n, wirings w
    WHERE w.messaging_group_id = :chat""",
    f"""INSERT INTO deliveries (session_id, seq, out_id, kind, {PLACE}, content, status, attempts, receipt, created_at,
        changed_at)
    {NUMBERS} SELECT :session, 2 * i + 1, 'old' || i, 'chat', {PLACE}, '{{"text": "echo: hello"}}', 'sent', 1,
        '["1"]', {MOMENT}, {MOMENT} FROM n, messaging_groups m WHERE m.id = :chat AND i > :said""",
    f"""INSERT INTO delivery_attempts (session_id, seq, number, started_at, ended_at, outcome)
    {NUMBERS} SELECT :session, 2 * i + 1, 1, {MOMENT}, {MOMENT}, 'sent' FROM n WHERE i > :said""",
    f"""INSERT INTO turn_costs
        (session_id, turn_id, agent_group, ended_at, tokens_in, tokens_out, tokens_cached, cost_usd)
    {NUMBERS} SELECT :session, 'old' || i, 'main', {MOMENT}, 9, 9, 9, 0.01 FROM n""",
)


async def measure(root: Path, image: str) -> list[Measurement]:
    """One host, two warm containers, a trip in each chat by turns."""
    async with host(root, image) as flow:
        return await compare(flow, samples=SAMPLES)


async def compare(flow: RunningHost, *, samples: int) -> list[Measurement]:
    """Give one of two sessions a history and make `samples` trips in each."""
    for chat in ("old", "new"):
        await flow.wire(chat)
        await trip(flow, "first", chat)
    await _grow(flow, (await flow.sessions())[0])
    for number in range(WARM_UP):
        for chat in ("old", "new"):
            await trip(flow, f"warm up {number}", chat)
    took: dict[str, list[float]] = {"old": [], "new": []}
    for number in range(samples):
        for chat in ("old", "new") if number % 2 else ("new", "old"):
            took[chat].append(await trip(flow, f"warm {number}", chat))
    old, new = median(took["old"]), median(took["new"])
    what = f"warm round trip in a session with {SENT} sent rows"
    return [
        Measurement(key="history50k_ms_median", what=what, value=old, unit="ms"),
        Measurement(key="history50k_ratio", what="… against an empty one", value=round(old / new, 2), target=1.15),
    ]


async def _grow(flow: RunningHost, session: Session) -> None:
    """Enter the history as if all of it had been said before the first trip's answer."""
    assert session.messaging_group_id is not None
    asked: dict[str, Value] = {
        "session": session.id,
        "chat": session.messaging_group_id,
        "said": session.out_cursor // 2,
    }
    async with flow.host.store.transaction() as tx:
        for sql in HISTORY:
            await tx.execute(sql, {name: value for name, value in asked.items() if f":{name}" in sql})
        await tx.execute("UPDATE sessions SET out_cursor = ? WHERE id = ?", (LAST_SEQ, session.id))
    await flow.host.mailboxes.update(session, _pass_over)


def _pass_over(box: InboundWriter) -> None:
    box.set_meta({"out_cursor": str(LAST_SEQ)})
