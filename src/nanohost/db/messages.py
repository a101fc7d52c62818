"""Reads, for the operator, the outcome of people's messages: each with its routes, its turns, their costs and the
messages that they sent. Read-only; uses the connections of reports.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import ReportReader, Value
from nanohost.db.deliveries import DeliveryDecision, DeliveryStatus
from nanohost.db.events import ChatKey
from nanohost.db.message_turns import TurnOutcome
from nanohost.db.routes import RouteOutcome
from nanohost.db.rows import from_row
from nanohost.model import HOST_SESSION_ID, ApprovalId, EventId, SessionId, WiringId
from nanohost_protocol.times import to_text

MAX_SENT = 200
"""The most outgoing messages that are read for the messages of one report."""
MAX_CHATS = 100

# Nobody waits for an answer to a reaction or a deletion. Messages of a moved chat are also found by its old id.
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
# The gateway's totals count, whatever the runner reports: see containers/turn_usage.py.
TURN_COSTS = """
SELECT t.session_id, t.turn_id, c.cost_usd AS told_usd, total(m.cost_usd) AS seen_usd,
    sum(m.cost_usd IS NULL) AS unpriced,
    total(m.tokens_in + m.tokens_cache_written + m.tokens_out + m.tokens_cached) AS seen_tokens
FROM (
    SELECT json_extract(value, '$[0]') AS session_id, json_extract(value, '$[1]') AS turn_id FROM json_each(:json)) t
LEFT JOIN turn_costs c ON c.session_id = t.session_id AND c.turn_id = t.turn_id
LEFT JOIN model_calls m INDEXED BY model_calls_turn ON m.session_id = t.session_id AND m.turn_id = t.turn_id
GROUP BY t.session_id, t.turn_id
"""
SENT_IN_TURNS = """
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
SENT_BY_HOST = """
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
LATE_REASON = """
SELECT cause, sentence FROM late_messages WHERE name IN (SELECT value FROM json_each(:json)) LIMIT 1
"""

TurnKey = tuple[SessionId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event to which somebody may expect an answer. `status`, `reason` and `approval_id`: the result of routing."""

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
class MessageTurn:
    """An agent's last turn over a message. `ended_at` is None while it runs."""

    id: str
    began_at: datetime | None
    ended_at: datetime | None
    outcome: TurnOutcome | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """An outgoing message. `changed_at`: when its status last changed. `is_dropped_by_operator`: an operator dropped
    it, and can undo that."""

    session_id: SessionId
    turn_id: str | None
    out_id: str
    seq: int
    kind: str
    status: DeliveryStatus
    reason: str | None
    created_at: datetime
    changed_at: datetime
    is_dropped_by_operator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRoute:
    """The route of a message by one agent's wiring. `is_at_rest`: its session has no work. `decided_at`: None for
    routes from before this was recorded, whose turns are not known either."""

    event_id: EventId
    wiring_id: WiringId
    agent_folder: str
    outcome: RouteOutcome
    reason: str
    session_id: SessionId | None
    message_id: str | None
    approval_id: ApprovalId | None
    decided_at: datetime | None
    turn: MessageTurn | None
    is_at_rest: bool

    @property
    def turn_key(self) -> TurnKey | None:
        return None if self.turn is None or self.session_id is None else (self.session_id, self.turn.id)


async def latest(db: ReportReader, *, chat: ChatKey | None, since: datetime | None, limit: int) -> list[Message]:
    """Returns the latest messages, newest first."""
    values: dict[str, Value] = {
        "channel_type": chat.channel_type if chat else None,
        "instance": chat.instance if chat else None,
        "platform_id": chat.platform_id if chat else None,
        "since": "" if since is None else to_text(since),
        "limit": limit,
    }
    return [_message(row) for row in await db.fetch_all(LATEST, values)]


async def find(db: ReportReader, id: EventId) -> Message | None:
    """Returns the message with a number that somebody typed; None if there is none."""
    row = await db.fetch_one(BY_ID, (id,))
    return None if row is None else _message(row)


async def list_routes(
    db: ReportReader, messages: Sequence[EventId], *, limit: int
) -> dict[EventId, list[MessageRoute]]:
    """Returns the routes of each message, at most `limit` in all."""
    found: dict[EventId, list[MessageRoute]] = defaultdict(list)
    for row in await db.fetch_all(ROUTES, {"ids": json.dumps(list(messages)), "limit": limit}):
        found[EventId(row["event_id"])].append(_route(row))
    return found


async def turn_costs(db: ReportReader, turns: Iterable[TurnKey]) -> dict[TurnKey, float | None]:
    """Returns the cost of each turn in dollars, all attempts together. None if the price of a call is not known. A turn
    without usage is left out."""
    found: dict[TurnKey, float | None] = {}
    for row in await db.fetch_all(TURN_COSTS, {"json": json.dumps(sorted(set(turns)))}):
        key = (SessionId(row["session_id"]), str(row["turn_id"]))
        if row["seen_tokens"]:
            found[key] = None if row["unpriced"] else row["seen_usd"]
        elif row["told_usd"] is not None:
            found[key] = row["told_usd"]
    return found


async def list_sent_in_turns(db: ReportReader, turns: Iterable[TurnKey], *, limit: int = MAX_SENT) -> list[SentMessage]:
    """Returns the messages that these turns sent, at most `limit`."""
    return [
        _sent(row)
        for row in await db.fetch_all(SENT_IN_TURNS, {"json": json.dumps(sorted(set(turns))), "limit": limit})
    ]


async def find_sent_by_ids(
    db: ReportReader, out_ids: Iterable[tuple[SessionId, str]], *, limit: int = MAX_SENT
) -> list[SentMessage]:
    """Returns the messages that these sessions sent with these ids, if they exist."""
    return [_sent(row) for row in await db.fetch_all(BY_OUT_IDS, {"json": json.dumps(list(out_ids)), "limit": limit})]


async def list_sent_by_host(db: ReportReader, message: Message) -> list[SentMessage]:
    """Returns the host's own answers to a message."""
    values: dict[str, Value] = {
        "host": HOST_SESSION_ID,
        "channel_type": message.chat.channel_type,
        "instance": message.chat.instance,
        "platform_id": message.chat.platform_id,
        "message": message.platform_message_id,
        "limit": MAX_SENT,
    }
    return [_sent(row) for row in await db.fetch_all(SENT_BY_HOST, values)]


async def find_chats(db: ReportReader, text: str) -> dict[ChatKey, str]:
    """Returns the chats with this name or id from which an event came, each with its name."""
    rows = await db.fetch_all(CHATS, {"text": text, "limit": MAX_CHATS})
    return {ChatKey(row["channel_type"], row["instance"], row["platform_id"]): row["chat_name"] for row in rows}


async def late_reason(db: ReportReader, message: EventId, in_mailboxes: Iterable[str]) -> str | None:
    """Returns why a message is late, as the status shows it; None if it is not. `in_mailboxes`: its ids in
    mailboxes."""
    names = [f"event {message}", *(f"message {id}" for id in in_mailboxes)]
    row = await db.fetch_one(LATE_REASON, {"json": json.dumps(names)})
    return None if row is None else f"{row['cause']}: {row['sentence']}"


def _message(row: sqlite3.Row) -> Message:
    return from_row(
        Message,
        row,
        chat=from_row(ChatKey, row),
        kind=row["event_kind"],
        files=len(json.loads(row["attachments"])),
    )


def _route(row: sqlite3.Row) -> MessageRoute:
    turn = None
    if row["turn_id"] is not None:
        turn = from_row(
            MessageTurn,
            row,
            id=row["turn_id"],
            outcome=None if row["turn_outcome"] is None else TurnOutcome(row["turn_outcome"]),
        )
    return from_row(MessageRoute, row, agent_folder=row["folder"], turn=turn)


def _sent(row: sqlite3.Row) -> SentMessage:
    return from_row(
        SentMessage,
        row,
        is_dropped_by_operator=row["status"] == DeliveryStatus.DROPPED and row["decision"] == DeliveryDecision.DROP,
    )
