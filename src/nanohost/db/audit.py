"""Stores the audit log. Entries are added in the transaction of the change that they describe, are never changed, and
are deleted by age."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.db.database import ReportReader, Transaction, Value
from nanohost.db.events import ChatKey
from nanohost.db.rows import from_row
from nanohost.model import MessagingGroup, SessionId
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text

ADD = "INSERT INTO audit_log (at, actor, action, target, origin, outcome, details) VALUES (?, ?, ?, ?, ?, ?, ?)"
# Further targets are in the details: the second user of a link, the user whom a rule denies. Python's NaN is no JSON.
LATEST = """
SELECT * FROM audit_log
WHERE (:actor IS NULL OR actor = :actor)
    AND (:actions IS NULL OR EXISTS (
        SELECT 1 FROM json_each(:actions) WHERE action = value OR substr(action, 1, length(value) + 1) = value || '.'))
    AND (:target IS NULL OR target = :target OR CASE WHEN json_valid(details) THEN EXISTS (
        SELECT 1 FROM json_tree(details) WHERE type = 'text' AND atom = :target) END)
    AND (:since IS NULL OR at >= :since)
ORDER BY id DESC LIMIT :limit
"""
# The latest entry stays, so that its number is not used again.
DELETE_OLD = """
DELETE FROM audit_log WHERE id IN (
    SELECT id FROM audit_log WHERE at < ? AND id < (SELECT max(id) FROM audit_log) ORDER BY at LIMIT ?)
"""

LOCAL = "local"
"""The origin of commands that were typed on the machine itself."""
_LOCAL_PREFIX = "local:"
MAX_DETAILS_CHARS = 4_000
"""Characters; an agent's complete request is in the table actions."""


class AuditOutcome(StrEnum):
    DONE = "done"
    ALLOWED = "allowed"
    HELD = "held"
    DENIED = "denied"
    """A person or a rule denied it."""
    REFUSED = "refused"
    """It was not possible, or the actor may not request it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One entry. `actor`: a user, `agent:SESSION`, `local:NAME` or `host`. `action`: the action; it begins with a noun.
    `about`: the target."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    origin: str
    outcome: AuditOutcome
    details: Mapping[str, object]


def chat_origin(origin: Origin | ChatKey | None) -> str:
    """Returns a chat as the origin of an entry; empty if there is none."""
    return "" if origin is None else f"{origin.channel_type}:{origin.platform_id}"


def chat_target(place: Origin | ChatKey | MessagingGroup) -> str:
    """Returns a chat as the target of an entry, named as in cards and rules."""
    return f"{place.channel_type}:{place.instance}:{place.platform_id}"


def local_actor(name: str) -> str:
    """Returns the actor for a person at the machine, who needs no role."""
    return f"{_LOCAL_PREFIX}{name}"


def local_name(who: str) -> str | None:
    """Returns the name of the person at the machine; None for any other actor."""
    return who.removeprefix(_LOCAL_PREFIX) if who.startswith(_LOCAL_PREFIX) else None


def agent_actor(session: SessionId) -> str:
    """Returns the actor for the agent of a session."""
    return f"agent:{session}"


async def record(
    tx: Transaction,
    *,
    actor: str,
    action: str,
    outcome: AuditOutcome,
    now: datetime,
    target: str = "",
    origin: str = "",
    details: Mapping[str, object] | None = None,
) -> None:
    """Add an entry. `details`: plain JSON without secrets; it is cut after MAX_DETAILS_CHARS."""
    text = json.dumps(details or {}, sort_keys=True, default=str)
    if len(text) > MAX_DETAILS_CHARS:
        text = json.dumps({"cut": text[:MAX_DETAILS_CHARS]})
    await tx.execute(ADD, (to_text(now), actor, action, target, origin, outcome, text))


async def latest(
    db: ReportReader,
    *,
    limit: int,
    actor: str | None = None,
    action: str | None = None,
    also: Sequence[str] = (),
    target: str | None = None,
    since: datetime | None = None,
) -> list[AuditEntry]:
    """Returns the latest entries, newest first. `action`: a whole action or its first word; `also`: other names of it.
    `target`: the entry's target, or a text in its details."""
    values: dict[str, Value] = {
        "actor": actor,
        "actions": None if action is None else json.dumps([action, *also]),
        "target": target,
        "since": None if since is None else to_text(since),
        "limit": limit,
    }
    return [_from_row(row) for row in await db.fetch_all(LATEST, values)]


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete entries from before that time. Returns how many; if it is `limit`, there may be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


def _from_row(row: sqlite3.Row) -> AuditEntry:
    return from_row(AuditEntry, row, details=json.loads(row["details"]))
