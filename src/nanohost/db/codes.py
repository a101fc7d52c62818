"""One-time codes, by their hashes: the code itself is never here. And who typed wrong ones, so that guessing ends."""

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
# How old one is that was made in the future nobody knows: the clock was set back since.
EXPIRE = """
UPDATE codes SET status = 'expired', closed_at = min(expires_at, :now)
WHERE status = 'open' AND (expires_at <= :now OR created_at > :soon)
"""
# The one that was asked for last is the one that counts.
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
"""How long what is void is known: whoever types it late is told so."""
CLOCK_TOLERANCE = timedelta(seconds=10)
"""By which a clock that is kept right may be set back in small steps."""


class CodePurpose(StrEnum):
    """What a code is for."""

    OWNER = "owner"
    """Whoever types it becomes an owner."""
    LINK = "link"
    """Whoever types it and whoever asked for it are one human."""


class CodeStatus(StrEnum):
    OPEN = "open"
    USED = "used"
    REVOKED = "burned"
    """It was typed where others read it, or a newer one took its place."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """`channel_type`: where it has to be typed, None: anywhere. `user_id`: who is to be linked. `hash` is no other
    code's; `id` may be that of one that was forgotten."""

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
    """How often somebody typed a wrong code since `last_at`, when they were last told so."""

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
    """Keep a new code; the same one's asking for the same thing before is void."""
    await expire(tx, now)
    await tx.execute(
        REVOKE_PREVIOUS, {"now": to_text(now), "purpose": purpose, "by": created_by, "channel": channel_type}
    )
    await tx.execute(ADD, (hash, purpose, channel_type, user_id, created_by, to_text(now), to_text(expires_at)))


async def find(db: Queries, hash: str) -> Code | None:
    """Also one that is not open any more, for a day."""
    row = await db.fetch_one(FIND, (hash,))
    return None if row is None else from_row(Code, row)


async def has_open(db: Queries) -> bool:
    """Whether a code may be typed at all, as far as `expire` has been told the time."""
    return await db.fetch_one(HAS_OPEN) is not None


async def list_open(db: Queries) -> list[Code]:
    """Those that may be typed, as far as `expire` has been told the time; oldest first."""
    return sorted((from_row(Code, row) for row in await db.fetch_all(ALL_OPEN)), key=lambda code: code.id)


async def close(tx: Transaction, code: Code, status: CodeStatus, *, used_by: str, now: datetime) -> bool:
    """False if it was not open any more: somebody else was first."""
    return await tx.execute(CLOSE, (status, used_by, to_text(now), code.id)) == 1


async def expire(tx: Transaction, now: datetime) -> None:
    """Those whose time is up are open no more, nor those of before the clock was set back."""
    await tx.execute(EXPIRE, {"now": to_text(now), "soon": to_text(now + CLOCK_TOLERANCE)})


async def delete_old(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Codes that were void before that moment. Returns how many; there may be more while it is `limit`."""
    return await tx.execute(DELETE_OLD, (to_text(before), limit))


async def delete_old_guesses(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Wrong ones that were typed before that moment. Returns how many; there may be more while it is `limit`."""
    return await tx.execute(DELETE_OLD_GUESSES, (to_text(before), limit))


async def record_guess(tx: Transaction, user_id: str, *, now: datetime, lockout: timedelta) -> None:
    """One more wrong code. The silence begins with the first and is not made longer by the others, nor by a clock that
    was set back."""
    await tx.execute(RECORD_GUESS, {"user": user_id, "now": to_text(now), "over": to_text(now - lockout)})


async def last_guess_at(db: Queries, user_id: str) -> datetime | None:
    """When the user's silence began, if ever."""
    row = await db.fetch_one(LAST_GUESS, (user_id,))
    return None if row is None else from_text(row["last_at"])


async def list_recent_guesses(
    db: ReportReader, channel: str, *, since: datetime, now: datetime, limit: int
) -> list[FailedGuesses]:
    """Whose silence on a channel began after that moment, the first ones."""
    values: dict[str, Value] = {"since": to_text(since), "now": to_text(now), "channel": channel, "limit": limit}
    return [
        FailedGuesses(user_id=row["user_id"], count=row["count"], last_at=from_text(row["last_at"]))
        for row in await db.fetch_all(RECENT_GUESSES, values)
    ]
