"""What became of what people wrote, for an operator: each message with its routes, the turns over it, what those cost
and what they sent. All of it is read in reports; nothing is changed here.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nanohost.model import HOST, ApprovalId, EventId, SessionId, WiringId
from nanohost.store.database import Reports, Value
from nanohost.store.deliveries import Decision, DeliveryStatus
from nanohost.store.events import ChatKey
from nanohost.store.message_turns import TurnOutcome
from nanohost.store.routes import RouteOutcome
from nanohost.store.rows import from_row
from nanohost_protocol.times import from_text, to_text

MOST_SENT = 200
"""Of what went out for the messages of one look."""
MOST_CHATS = 100

# Reactions and deletions say nothing, and nobody waits for an answer. What came in a chat that has moved is found under
# what it was called, too.
LATEST = """
SELECT * FROM inbound_events
WHERE event_kind NOT IN ('reaction', 'deletion') AND received_at >= :since AND (:platform_id IS NULL OR (
    channel_type = :channel_type AND instance = :instance AND platform_id IN (
        SELECT :platform_id UNION ALL SELECT platform_id FROM moved_chats
        WHERE channel_type = :channel_type AND instance = :instance AND moved_to = :platform_id)))
ORDER BY id DESC LIMIT :limit
"""
BY_ID = "SELECT * FROM inbound_events WHERE id = ?"
ROUTES = """
SELECT r.event_id, r.wiring_id, r.outcome, r.reason, r.session_id, r.message_id, r.approval_id, r.decided_at, g.folder,
    t.turn_id, t.began_at, t.ended_at, t.outcome AS turn_outcome, t.error,
    s.due_at IS NULL AND s.lease IS NULL AS is_at_rest
FROM routes r JOIN wirings w ON w.id = r.wiring_id JOIN agent_groups g ON g.id = w.agent_group_id
LEFT JOIN sessions s ON s.id = r.session_id
LEFT JOIN message_turns t ON t.session_id = r.session_id AND t.message_id = r.message_id
WHERE r.event_id IN (SELECT value FROM json_each(:ids)) ORDER BY r.event_id, w.priority, w.id LIMIT :limit
"""
# What passed the gateway counts, whatever the runner told of it: see keeper/spending.py.
TOOK = """
SELECT t.session_id, t.turn_id, c.cost_usd AS told_usd, total(m.cost_usd) AS seen_usd,
    sum(m.cost_usd IS NULL) AS unpriced,
    total(m.tokens_in + m.tokens_cache_written + m.tokens_out + m.tokens_cached) AS seen_tokens
FROM (
    SELECT json_extract(value, '$[0]') AS session_id, json_extract(value, '$[1]') AS turn_id FROM json_each(:json)) t
LEFT JOIN turn_costs c ON c.session_id = t.session_id AND c.turn_id = t.turn_id
LEFT JOIN model_calls m INDEXED BY model_calls_turn ON m.session_id = t.session_id AND m.turn_id = t.turn_id
GROUP BY t.session_id, t.turn_id
"""
OF_TURNS = """
SELECT d.session_id, d.turn_id, d.out_id, d.seq, d.kind, d.status, d.reason, d.decision, d.created_at, d.changed_at
FROM json_each(:json) t CROSS JOIN deliveries d INDEXED BY deliveries_turn
    ON d.turn_id IS NOT NULL AND d.session_id = json_extract(t.value, '$[0]')
    AND d.turn_id = json_extract(t.value, '$[1]')
ORDER BY d.session_id, d.seq LIMIT :limit
"""
BY_OUT_IDS = """
SELECT d.session_id, d.turn_id, d.out_id, d.seq, d.kind, d.status, d.reason, d.decision, d.created_at, d.changed_at
FROM json_each(:json) t CROSS JOIN deliveries d INDEXED BY deliveries_by_out_id
    ON d.session_id = json_extract(t.value, '$[0]') AND d.out_id = json_extract(t.value, '$[1]')
ORDER BY d.session_id, d.seq LIMIT :limit
"""
SAID_BY_HOST = """
SELECT session_id, turn_id, out_id, seq, kind, status, reason, decision, created_at, changed_at FROM deliveries
WHERE session_id = :host AND channel_type = :channel_type AND instance = :instance AND platform_id = :platform_id
    AND reply_to = :message
ORDER BY seq LIMIT :limit
"""
CHATS = """
SELECT channel_type, instance, platform_id, max(chat_name) AS chat_name FROM inbound_events
WHERE platform_id != '' AND :text IN (platform_id, chat_name, channel_type || ':' || platform_id,
    channel_type || ':' || instance || ':' || platform_id, channel_type || ' ' || chat_name)
GROUP BY 1, 2, 3 LIMIT :limit
"""
LATE = """
SELECT cause, sentence FROM late_messages WHERE name IN (SELECT value FROM json_each(:json)) LIMIT 1
"""

TurnKey = tuple[SessionId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event that somebody waits for an answer to. `status`, `reason` and `approval_id`: what routing made of it."""

    id: EventId
    chat: ChatKey
    platform_message_id: str
    kind: str
    chat_name: str
    thread_id: str | None
    sender_handle: str
    sender_name: str
    text: str
    files: int
    sent_at: datetime
    received_at: datetime
    status: str
    reason: str | None
    approval_id: ApprovalId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The last turn that an agent had over a message. `ended_at` None: it runs."""

    id: str
    began_at: datetime | None
    ended_at: datetime | None
    outcome: TurnOutcome | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Something on its way to people, or that was. `at`: when it last changed; `is_dropped_by_word`: by an operator's,
    who may take it back."""

    session_id: SessionId
    turn_id: str | None
    out_id: str
    seq: int
    kind: str
    status: DeliveryStatus
    reason: str | None
    created_at: datetime
    at: datetime
    is_dropped_by_word: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What one agent's wiring made of a message. `is_at_rest`: its session has nothing to do. `decided_at`: None
    for those from before this was kept, of whose turns nothing is known, either."""

    event_id: EventId
    wiring_id: WiringId
    group: str
    outcome: RouteOutcome
    reason: str
    session_id: SessionId | None
    message_id: str | None
    approval_id: ApprovalId | None
    decided_at: datetime | None
    turn: Turn | None
    is_at_rest: bool

    @property
    def turn_key(self) -> TurnKey | None:
        return None if self.turn is None or self.session_id is None else (self.session_id, self.turn.id)


async def latest(db: Reports, *, chat: ChatKey | None, since: datetime | None, limit: int) -> list[Message]:
    """Those that came last, latest first."""
    values: dict[str, Value] = {
        "channel_type": chat.channel_type if chat else None,
        "instance": chat.instance if chat else None,
        "platform_id": chat.platform_id if chat else None,
        "since": "" if since is None else to_text(since),
        "limit": limit,
    }
    return [_message(row) for row in await db.all(LATEST, values)]


async def find(db: Reports, id: EventId) -> Message | None:
    """For a number that somebody typed."""
    row = await db.one(BY_ID, (id,))
    return None if row is None else _message(row)


async def reached(db: Reports, messages: Sequence[EventId], *, most: int) -> dict[EventId, list[Reached]]:
    """By message, what each wiring made of it; at most so many in all."""
    found: dict[EventId, list[Reached]] = defaultdict(list)
    for row in await db.all(ROUTES, {"ids": json.dumps(list(messages)), "limit": most}):
        found[EventId(row["event_id"])].append(_reached(row))
    return found


async def took(db: Reports, turns: Iterable[TurnKey]) -> dict[TurnKey, float | None]:
    """In dollars, all tries together. None: the price of a call is not known. A turn that took nothing is left out."""
    found: dict[TurnKey, float | None] = {}
    for row in await db.all(TOOK, {"json": json.dumps(sorted(set(turns)))}):
        key = (SessionId(row["session_id"]), str(row["turn_id"]))
        if row["seen_tokens"]:
            found[key] = None if row["unpriced"] else row["seen_usd"]
        elif row["told_usd"] is not None:
            found[key] = row["told_usd"]
    return found


async def sent_in(db: Reports, turns: Iterable[TurnKey], *, most: int = MOST_SENT) -> list[Sent]:
    """What these turns sent, at most so many."""
    return [_sent(row) for row in await db.all(OF_TURNS, {"json": json.dumps(sorted(set(turns))), "limit": most})]


async def known_as(db: Reports, out_ids: Iterable[tuple[SessionId, str]], *, most: int = MOST_SENT) -> list[Sent]:
    """What these sessions sent under these ids, as far as they did."""
    return [_sent(row) for row in await db.all(BY_OUT_IDS, {"json": json.dumps(list(out_ids)), "limit": most})]


async def said_by_host(db: Reports, message: Message) -> list[Sent]:
    """What the host itself answered, outside of any conversation."""
    values: dict[str, Value] = {
        "host": HOST,
        "channel_type": message.chat.channel_type,
        "instance": message.chat.instance,
        "platform_id": message.chat.platform_id,
        "message": message.platform_message_id,
        "limit": MOST_SENT,
    }
    return [_sent(row) for row in await db.all(SAID_BY_HOST, values)]


async def chats(db: Reports, text: str) -> dict[ChatKey, str]:
    """The chats that anything came from and that are called so, by name or id; each with its name."""
    rows = await db.all(CHATS, {"text": text, "limit": MOST_CHATS})
    return {ChatKey(row["channel_type"], row["instance"], row["platform_id"]): row["chat_name"] for row in rows}


async def why_late(db: Reports, message: EventId, in_mailboxes: Iterable[str]) -> str | None:
    """Why it waits too long, in the words of status; None: it does not. `in_mailboxes`: its ids there."""
    names = [f"event {message}", *(f"message {id}" for id in in_mailboxes)]
    row = await db.one(LATE, {"json": json.dumps(names)})
    return None if row is None else f"{row['cause']}: {row['sentence']}"


def _message(row: sqlite3.Row) -> Message:
    return from_row(
        Message,
        row,
        chat=from_row(ChatKey, row),
        kind=row["event_kind"],
        files=len(json.loads(row["attachments"])),
    )


def _reached(row: sqlite3.Row) -> Reached:
    turn = None
    if row["turn_id"] is not None:
        turn = from_row(
            Turn,
            row,
            id=row["turn_id"],
            outcome=None if row["turn_outcome"] is None else TurnOutcome(row["turn_outcome"]),
        )
    return from_row(Reached, row, group=row["folder"], turn=turn)


def _sent(row: sqlite3.Row) -> Sent:
    return from_row(
        Sent,
        row,
        at=from_text(row["changed_at"]),
        is_dropped_by_word=row["status"] == DeliveryStatus.DROPPED and row["decision"] == Decision.DROP,
    )
