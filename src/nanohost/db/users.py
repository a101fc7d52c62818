"""Stores users: the identities on the platforms, which of them are one person, and their direct messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.db.rows import from_row
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text

ALL = "SELECT * FROM users ORDER BY person, id LIMIT ?"
NAMES_OF_ROLES = "SELECT user_id, name FROM users WHERE user_id IN (SELECT user_id FROM roles)"
FIND = "SELECT * FROM users WHERE user_id = ?"
IDENTITIES = """
SELECT * FROM users WHERE person = (SELECT person FROM users WHERE user_id = ?)
"""
RECORD_SEEN = """
INSERT INTO users (user_id, name, person, first_seen_at, last_seen_at)
VALUES (:user_id, :name, 0, :now, :now)
ON CONFLICT (user_id) DO UPDATE SET name = iif(:name = '', name, :name), last_seen_at = :now
"""
ASSIGN_OWN_PERSON = "UPDATE users SET person = id WHERE user_id = ? AND person = 0"
MERGE_PERSONS = """
UPDATE users SET person = :person WHERE person IN (SELECT person FROM users WHERE user_id IN (:one, :other))
"""
PERSON = "SELECT min(person) AS person FROM users WHERE user_id IN (?, ?)"
SPLIT_PERSON = "UPDATE users SET person = id WHERE user_id = ?"
REASSIGN_REMAINING = """
UPDATE users SET person = (SELECT min(id) FROM users WHERE person = :person AND user_id != :user_id)
WHERE person = :person AND user_id != :user_id
"""
RENAME = "UPDATE users SET name = ? WHERE user_id = ?"
DELETE = "DELETE FROM users WHERE user_id = ?"
SAVE_DM = """
INSERT INTO dms (user_id, channel_type, instance, platform_id, thread_id, learned_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (user_id, instance) DO UPDATE SET
    platform_id = excluded.platform_id, thread_id = excluded.thread_id, learned_at = excluded.learned_at
"""
DMS = "SELECT * FROM dms WHERE user_id = ?"
DELETE_DMS = "DELETE FROM dms WHERE user_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One identity. Identities with the same `person` are one person."""

    user_id: str
    name: str
    person: int
    first_seen_at: datetime
    last_seen_at: datetime


async def list_all(db: ReportReader, *, limit: int) -> list[User]:
    """Returns users; the identities of one person are adjacent."""
    return [from_row(User, row) for row in await db.fetch_all(ALL, (limit,))]


async def names_of_roles(db: Queries) -> dict[str, str]:
    """Returns the names of users with a role, by user; users that were never seen are left out."""
    return {str(row["user_id"]): str(row["name"]) for row in await db.fetch_all(NAMES_OF_ROLES)}


async def find(db: Queries, user_id: str) -> User | None:
    row = await db.fetch_one(FIND, (user_id,))
    return None if row is None else from_row(User, row)


async def list_identities(db: Queries, user_id: str) -> list[User]:
    """Returns all identities of this user's person, including itself, last seen first; none if it was never seen."""
    rows = sorted(await db.fetch_all(IDENTITIES, (user_id,)), key=lambda row: int(row["id"]))
    return sorted((from_row(User, row) for row in rows), key=lambda user: user.last_seen_at, reverse=True)


async def record_seen(tx: Transaction, user_id: str, *, name: str, now: datetime) -> None:
    """Add or update a user with the platform's current name; an empty name changes nothing."""
    await tx.execute(RECORD_SEEN, {"user_id": user_id, "name": name, "now": to_text(now)})
    await tx.execute(ASSIGN_OWN_PERSON, (user_id,))


async def link(tx: Transaction, one: str, other: str) -> bool:
    """Make two known users, with all their identities, one person. Returns False if they are one already."""
    both = {(await find(tx, user_id)) for user_id in (one, other)}
    if len({user.person for user in both if user is not None}) < 2:
        return False
    row = await tx.fetch_one(PERSON, (one, other))
    assert row is not None, "an aggregate has a row"
    await tx.execute(MERGE_PERSONS, {"person": row["person"], "one": one, "other": other})
    return True


async def unlink(tx: Transaction, user_id: str) -> bool:
    """Make this identity a person of its own. Returns False if it is one already."""
    user = await find(tx, user_id)
    if user is None or len(await list_identities(tx, user_id)) < 2:
        return False
    await tx.execute(REASSIGN_REMAINING, {"person": user.person, "user_id": user_id})
    await tx.execute(SPLIT_PERSON, (user_id,))
    return True


async def rename(tx: Transaction, user_id: str, name: str) -> bool:
    """Rename a user. Returns False if the user is not known."""
    return await tx.execute(RENAME, (name, user_id)) == 1


async def delete(tx: Transaction, user_id: str) -> bool:
    """Delete the user and its direct messages; roles are in another table. Returns False if it was not known."""
    await unlink(tx, user_id)
    await tx.execute(DELETE_DMS, (user_id,))
    return await tx.execute(DELETE, (user_id,)) == 1


async def save_dm(tx: Transaction, user_id: str, place: Origin, now: datetime) -> None:
    """Save a direct message in which the user can be reached."""
    columns = (place.channel_type, place.instance, place.platform_id, place.thread_id)
    await tx.execute(SAVE_DM, (user_id, *columns, to_text(now)))


async def list_dms(db: Queries, user_id: str) -> list[Origin]:
    """Returns the known direct messages of the user, latest learned first."""
    return [
        Origin(
            channel_type=row["channel_type"],
            instance=row["instance"],
            platform_id=row["platform_id"],
            thread_id=row["thread_id"],
        )
        for row in sorted(await db.fetch_all(DMS, (user_id,)), key=lambda row: str(row["learned_at"]), reverse=True)
    ]
