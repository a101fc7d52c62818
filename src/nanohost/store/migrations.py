"""The way of the central database from any earlier version to this one.

A migration is a file NNNN_slug.sql in a set: `core` is ours, a skill brings its own set beside it, so numbers of
strangers never collide. What was applied is on record with its checksum: an applied file that changed, or that is
gone, stops the start with an explanation. A copy of the database is made before anything is applied to data.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nanohost.errors import StoreError
from nanohost_protocol.sqlite import immediate, statements
from nanohost_protocol.times import to_text

APPLICATION_ID = int.from_bytes(b"NHst", "big")
CORE = "core"
_NAME = re.compile(r"\d{4}_[a-z0-9_]+")

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    set_name   TEXT NOT NULL,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    PRIMARY KEY (set_name, name)
) STRICT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: its set, its name without .sql, its text."""

    set_name: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_sets(roots: Sequence[Path]) -> list[Migration]:
    """All migrations below these folders (ours, the install's), core first, then by (set, name).

    The same set in two folders is one set; the same file twice is an error.
    """
    found: dict[tuple[str, str], Migration] = {}
    for path in sorted(path for root in dict.fromkeys(roots) for path in root.glob("*/*.sql")):
        if not _NAME.fullmatch(path.stem):
            raise StoreError(f"{path} is not a migration's name", hint="name it like 0001_add_notes.sql")
        migration = Migration(set_name=path.parent.name, name=path.stem, sql=path.read_text(encoding="utf-8"))
        if (migration.set_name, migration.name) in found:
            raise StoreError(f"migration {migration.set_name}/{migration.name} is there twice", hint=f"remove {path}")
        found[migration.set_name, migration.name] = migration
    return sorted(found.values(), key=lambda m: (m.set_name != CORE, m.set_name, m.name))


def migrate(database: Path, migrations: Sequence[Migration], *, backups: Path) -> list[Migration]:
    """Bring the database up to date and return what was applied. Blocking: call it in a thread.

    Raises StoreError, with the database untouched, when the record and the files disagree.
    """
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            _check_mark(connection, database)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = OFF")  # a table that is made anew is gone for a moment
            connection.execute(_TABLE)
            applied = _applied(connection)
            _check_record(applied, migrations)
            missing = [m for m in migrations if (m.set_name, m.name) not in applied]
            if missing and applied:
                _copy(connection, backups)
            for migration in missing:
                _apply(connection, migration)
            return missing
    except sqlite3.Error as error:
        raise StoreError(
            f"the central database {database} cannot be opened: {error}",
            hint="is it a database, and may this user write it? A copy may be in " + str(backups),
        ) from error


def _check_mark(connection: sqlite3.Connection, database: Path) -> None:
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if mark == 0 and empty:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    elif mark != APPLICATION_ID:
        raise StoreError(f"{database} is a database of something else", hint="choose another --home")


def _applied(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    rows = connection.execute("SELECT set_name, name, checksum FROM schema_migrations")
    return {(set_name, name): checksum for set_name, name, checksum in rows}


def _check_record(applied: Mapping[tuple[str, str], str], migrations: Sequence[Migration]) -> None:
    known = {(m.set_name, m.name): m.checksum for m in migrations}
    for (set_name, name), checksum in applied.items():
        if (set_name, name) not in known:
            raise StoreError(
                f"the database has migration {set_name}/{name}, which this version does not know",
                hint="update nanohost, or put the skill that brought it back",
            )
        if known[set_name, name] != checksum:
            raise StoreError(
                f"migration {set_name}/{name} was changed after it was applied",
                hint="restore the file; changes go into a new migration",
            )


def _copy(connection: sqlite3.Connection, backups: Path) -> None:
    backups.mkdir(parents=True, exist_ok=True)
    target = backups / f"before-migration-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.db"
    connection.execute("VACUUM INTO ?", (str(target),))


_THE_DISK = ("SQLITE_READONLY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_CORRUPT")
"""No fault of the migration."""


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    with immediate(connection):
        connection.set_authorizer(_no_transactions)
        try:
            for statement in statements(migration.sql):
                connection.execute(statement)
        except sqlite3.Error as error:
            if str(getattr(error, "sqlite_errorname", "")).startswith(_THE_DISK):
                raise
            raise StoreError(
                f"migration {migration.set_name}/{migration.name} failed: {error}",
                hint="nothing of it was kept; mend the file, or remove the skill that brought it",
            ) from error
        finally:
            connection.set_authorizer(None)
        connection.execute(
            "INSERT INTO schema_migrations (set_name, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
            (migration.set_name, migration.name, migration.checksum, to_text(datetime.now(UTC))),
        )


def _no_transactions(action: int, *_: str | None) -> int:
    """A migration is one step with its record: it may not end the transaction it runs in."""
    return (
        sqlite3.SQLITE_DENY if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT) else sqlite3.SQLITE_OK
    )
