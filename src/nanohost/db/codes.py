"""Stores the hashes of one-time codes, never the codes, and counts wrong codes by user, to limit guessing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nanohost.db.database import Queries, ReportReader, Transaction, Value
from nanohost.db.rows import from_row
from nanohost_protocol.times import from_text, to_text

ADD = """
INSERT INTO codes (hash, purpose, channel_type, user_id, created_by, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
FIND = "SELECT * FROM codes WHERE hash = ?"
HAS_OPEN = "SELECT 1 FROM codes WHERE status = 'open' LIMIT 1"
ALL_OPEN = "SELECT * FROM codes WHERE status = 'open'"
CLOSE = "UPDATE codes SET status = ?, used_by = ?, closed_at = ? WHERE id = ? AND status = 'open'"
# A code that was created in the future has an unknown age, since the clock was set back: it expires too.
EXPIRE = """
UPDATE codes SET status = 'expired', closed_at = min(expires_at, :now)
WHERE status = 'open' AND (expires_at <= :now OR created_at > :soon)
"""
# Only the code that was requested last is valid.
REVOKE_PREVIOUS = """
UPDATE codes SET status = 'burned', closed_at = :now
WHERE status = 'open' AND purpose = :purpose AND created_by = :by AND channel_type IS :channel
"""
DELETE_OLD = "DELETE FROM codes WHERE id IN (SELECT id FROM codes INDEXED BY codes_closed WHERE closed_at < ? LIMIT ?)"
RECORD_GUESS = """
INSERT INTO code_guesses (user_id, count, last_at) VALUES (:user, 1, :now)
ON CONFLICT (user_id) DO UPDATE SET count = iif(last_at > :over AND last_at <= :now, count + 1, 1),
    last_at = iif(last_at > :over AND last_at <= :now, last_at, :now)
"""
LAST_GUESS = "SELECT last_at FROM code_guesses WHERE user_id = ?"
RECENT_GUESSES = """
SELECT * FROM code_guesses
WHERE last_at > :since AND last_at <= :now AND substr(user_id, 1, length(:channel) + 1) = :channel || ':'
ORDER BY last_at LIMIT :limit
"""
DELETE_OLD_GUESSES = """
DELETE FROM code_guesses WHERE user_id IN (SELECT user_id FROM code_guesses WHERE last_at < ? LIMIT ?)
"""

RETENTION = timedelta(days=1)
"""How long a code is kept after it is closed, so that a person who types it late is told so."""
CLOCK_TOLERANCE = timedelta(seconds=10)
"""A clock that is kept correct may be set back in steps this small."""


class CodePurpose(StrEnum):
    """What a code is for."""

    OWNER = "owner"
    """The user who types it becomes an owner."""
    LINK = "link"
    """The user who types it and the user who requested it are linked as one person."""


class CodeStatus(StrEnum):
    OPEN = "open"
    USED = "used"
    REVOKED = "burned"
    """It was typed where others can read it, or a newer code replaced it."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code. `channel_type`: the channel on which it must be typed; None: any. `user_id`: the user to link. `hash` is
    unique; `id` may be reused after a code was deleted."""

    id: int
    hash: str
    purpose: CodePurpose
    channel_type: str | None
    user_id: str | None
    created_by: str
    expires_at: datetime
    status: CodeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedGuesses:
    """How often a user typed a wrong code since `last_at`, when they were last told so."""

    user_id: str
    count: int
    last_at: datetime


async def add(
    tx: Transaction,
    *,
    hash: str,
    purpose: CodePurpose,
    channel_type: str | None,
    user_id: str | None,
    created_by: str,
    expires_at: datetime,
    now: datetime,
) -> None:
    """Add a code. Revokes the earlier code of the same user for the same purpose."""
    await expire(tx, now)
    await tx.execute(
        REVOKE_PREVIOUS, {"now": to_text(now), "purpose": purpose, "by": created_by, "channel": channel_type}
    )
    await tx.execute(ADD, (hash, purpose, channel_type, user_id, created_by, to_text(now), to_text(expires_at)))


async def find(db: Queries, hash: str) -> Code | None:
    """Returns the code with this hash, also for a day after it was closed."""
    row = await db.fetch_one(FIND, (hash,))
    return None if row is None else from_row(Code, row)


async def has_open(db: Queries) -> bool:
    """Whether a code is open, as of the last call of `expire`."""
    return await db.fetch_one(HAS_OPEN) is not None


async def list_open(db: Queries) -> list[Code]:
    """Returns the open codes as of the last call of `expire`, oldest first."""
    return sorted((from_row(Code, row) for row in await db.fetch_all(ALL_OPEN)), key=lambda code: code.id)


async def close(tx: Transaction, code: Code, status: CodeStatus, *, used_by: str, now: datetime) -> bool:
    """Close a code. Returns False if it was not open any more."""
    return await tx.execute(CLOSE, (status, used_by, to_text(now), code.id)) == 1


async def expire(tx: Transaction, now: datetime) -> None:
    """Close the codes whose time is up, and those from before the clock was set back."""
    await tx.execute(EXPIRE, {"now": to_text(now), "soon": to_text(now + CLOCK_TOLERANCE)})


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete codes that were closed before that time. Returns how many; if it is `limit`, there may be more."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


async def delete_old_guesses(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete wrong guesses from before that time. Returns how many; if it is `limit`, there may be more."""
    return await tx.execute(DELETE_OLD_GUESSES, (to_text(before), limit))


async def record_guess(tx: Transaction, user_id: str, *, now: datetime, lockout: timedelta) -> None:
    """Count a wrong code. The lockout begins with the first one; neither later ones nor a clock that is set back
    prolong it."""
    await tx.execute(RECORD_GUESS, {"user": user_id, "now": to_text(now), "over": to_text(now - lockout)})


async def last_guess_at(db: Queries, user_id: str) -> datetime | None:
    """Returns when the user's last lockout began; None if there was none."""
    row = await db.fetch_one(LAST_GUESS, (user_id,))
    return None if row is None else from_text(row["last_at"])


async def list_recent_guesses(
    db: ReportReader, channel: str, *, since: datetime, now: datetime, limit: int
) -> list[FailedGuesses]:
    """Returns the users of a channel whose lockout began after that time, the oldest first."""
    values: dict[str, Value] = {"since": to_text(since), "now": to_text(now), "channel": channel, "limit": limit}
    return [
        FailedGuesses(user_id=row["user_id"], count=row["count"], last_at=from_text(row["last_at"]))
        for row in await db.fetch_all(RECENT_GUESSES, values)
    ]
