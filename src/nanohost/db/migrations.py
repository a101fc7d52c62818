"""Migrates the central database from any earlier version to this one.

A migration is a file in a set: `core` is ours, a skill brings its own set beside it. It is named by the time at which
it was written, YYYYMMDDTHHMMSS_slug.sql, and not by a counter, so that two branches never use the same name. (The first
ones are numbered, NNNN_slug.sql.) A migration that depends on another names it in a comment at its top,
`-- after: SET/NAME`.

A migration is identified by its set and name. Applied migrations are recorded with a checksum: if an applied file has
changed or is gone, the host does not start and says why. The database is copied before migrations are applied to it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nanohost.errors import StoreError
from nanohost_protocol.sqlite import immediate_transaction, split_statements
from nanohost_protocol.times import to_text

APPLICATION_ID = int.from_bytes(b"NHst", "big")
CORE = "core"
_NUMBERED_NAME = re.compile(r"\d{4}_[a-z0-9_]+")
_TIMED_NAME = re.compile(r"(?P<time>\d{8}T\d{6})_[a-z0-9_]+")
_KEY_PATTERN = re.compile(r"(?P<set>[^\s/]+)/(?P<name>[^\s/]+)")
_TIME_FORMAT = "%Y%m%dT%H%M%S"
_AFTER_COMMENT = "-- after:"

MigrationKey = tuple[str, str]
"""A migration's set and name."""

_MIGRATIONS_TABLE = """
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
    """A migration file: its set, its name without .sql, its text."""

    set_name: str
    name: str
    sql: str

    @property
    def key(self) -> MigrationKey:
        return self.set_name, self.name

    @property
    def number(self) -> str | None:
        """Its number; None if it is named by its time."""
        return self.name[:4] if _NUMBERED_NAME.fullmatch(self.name) else None

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def after(self) -> tuple[MigrationKey, ...]:
        """The migrations that the comment at its top names. Raises StoreError for an invalid name."""
        top = itertools.takewhile(lambda line: line.startswith("--"), self.sql.splitlines())
        listed = ",".join(line.removeprefix(_AFTER_COMMENT) for line in top if line.startswith(_AFTER_COMMENT))
        return tuple(self._parse_key(one.strip()) for one in listed.split(",") if one.strip())

    def dependencies(self, migrations: Iterable[Migration]) -> set[MigrationKey]:
        """Returns its dependencies: the named ones, and those with a lower number in its set. A time is higher than any
        number."""
        lower = {
            other.key
            for other in migrations
            if other.set_name == self.set_name
            and other.number is not None
            and (self.number is None or other.number < self.number)
        }
        return lower.union(self.after)

    def _parse_key(self, text: str) -> MigrationKey:
        key = _KEY_PATTERN.fullmatch(text)
        if key is None:
            raise StoreError(
                f"migration {_format_key(self.key)} comes after {text!r}, which is no SET/NAME",
                hint=f"write: {_AFTER_COMMENT} core/{self.name}",
            )
        return key["set"], key["name"]


def load_migrations(roots: Sequence[Path]) -> list[Migration]:
    """Returns all migrations below these folders (ours, the install's), in the order in which they are applied.

    A set may be in two folders. Raises StoreError for an invalid or duplicate name, and for cyclic or missing
    dependencies.
    """
    found: dict[MigrationKey, Migration] = {}
    for path in sorted(path for root in dict.fromkeys(roots) for path in root.glob("*/*.sql")):
        if not _is_valid_name(path.stem):
            raise StoreError(
                f"{path} is not a migration's name",
                hint=f"name it like {datetime.now(UTC):{_TIME_FORMAT}}_add_notes.sql",
            )
        migration = Migration(set_name=path.parent.name, name=path.stem, sql=path.read_text(encoding="utf-8"))
        if migration.key in found:
            raise StoreError(f"migration {_format_key(migration.key)} is there twice", hint=f"remove {path}")
        found[migration.key] = migration
    return sort_by_dependencies(found)


def sort_by_dependencies(migrations: Mapping[MigrationKey, Migration]) -> list[Migration]:
    """Sort migrations by dependencies; otherwise core first, then by set and name. Raises StoreError if a dependency is
    missing or cyclic."""
    needed = {key: one.dependencies(migrations.values()) for key, one in migrations.items()}
    remaining = sorted(migrations, key=lambda key: (key[0] != CORE, key))
    ordered: list[Migration] = []
    _check_dependencies_exist(needed)
    while remaining:
        following = next((key for key in remaining if needed[key].isdisjoint(remaining)), None)
        if following is None:
            raise StoreError(
                f"migrations {', '.join(map(_format_key, remaining))} come after one another",
                hint=f"take one of the lines {_AFTER_COMMENT!r} away",
            )
        remaining.remove(following)
        ordered.append(migrations[following])
    return ordered


def _check_dependencies_exist(needed: Mapping[MigrationKey, Iterable[MigrationKey]]) -> None:
    for key, others in needed.items():
        for other in others:
            if other not in needed:
                raise StoreError(
                    f"migration {_format_key(key)} comes after {_format_key(other)}, which is not here",
                    hint=f"put what brings {_format_key(other)}, or correct the line {_AFTER_COMMENT!r}",
                )


def _is_valid_name(name: str) -> bool:
    if _NUMBERED_NAME.fullmatch(name):
        return True
    timed = _TIMED_NAME.fullmatch(name)
    return timed is not None and _is_valid_time(timed["time"])


def _is_valid_time(text: str) -> bool:
    try:
        datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _format_key(key: MigrationKey) -> str:
    return "/".join(key)


def migrate(database: Path, migrations: Sequence[Migration], *, backups: Path) -> list[Migration]:
    """Bring the database up to date. Returns the applied migrations. Blocking: call it in a thread.

    Raises StoreError, and leaves the database unchanged, if the recorded migrations and the files differ.
    """
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            _check_application_id(connection, database)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = OFF")  # a table that is rebuilt does not exist for a moment
            connection.execute(_MIGRATIONS_TABLE)
            applied = _load_applied(connection)
            _check_checksums(applied, migrations)
            missing = [m for m in migrations if m.key not in applied]
            if missing and applied:
                _backup(connection, backups)
            for migration in missing:
                _apply(connection, migration)
            return missing
    except sqlite3.Error as error:
        raise StoreError(
            f"the central database {database} cannot be opened: {error}",
            hint="is it a database, and may this user write it? A copy may be in " + str(backups),
        ) from error


def _check_application_id(connection: sqlite3.Connection, database: Path) -> None:
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if mark == 0 and empty:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    elif mark != APPLICATION_ID:
        raise StoreError(f"{database} is a database of something else", hint="choose another --home")


def _load_applied(connection: sqlite3.Connection) -> dict[MigrationKey, str]:
    rows = connection.execute("SELECT set_name, name, checksum FROM schema_migrations")
    return {(set_name, name): checksum for set_name, name, checksum in rows}


def _check_checksums(applied: Mapping[MigrationKey, str], migrations: Sequence[Migration]) -> None:
    known = {m.key: m.checksum for m in migrations}
    for key, checksum in applied.items():
        if key not in known:
            raise StoreError(
                f"the database has migration {_format_key(key)}, which this version does not know",
                hint="update nanohost, or put the skill that brought it back",
            )
        if known[key] != checksum:
            raise StoreError(
                f"migration {_format_key(key)} was changed after it was applied",
                hint="restore the file; changes go into a new migration",
            )


def _backup(connection: sqlite3.Connection, backups: Path) -> None:
    backups.mkdir(parents=True, exist_ok=True)
    target = backups / f"before-migration-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.db"
    connection.execute("VACUUM INTO ?", (str(target),))


_DISK_ERRORS = ("SQLITE_READONLY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_CORRUPT")
"""Errors that the migration did not cause."""


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    with immediate_transaction(connection):
        connection.set_authorizer(_deny_transactions)
        try:
            for statement in split_statements(migration.sql):
                connection.execute(statement)
        except sqlite3.Error as error:
            if str(getattr(error, "sqlite_errorname", "")).startswith(_DISK_ERRORS):
                raise
            raise StoreError(
                f"migration {_format_key(migration.key)} failed: {error}",
                hint="nothing of it was kept; mend the file, or remove the skill that brought it",
            ) from error
        finally:
            connection.set_authorizer(None)
        connection.execute(
            "INSERT INTO schema_migrations (set_name, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
            (migration.set_name, migration.name, migration.checksum, to_text(datetime.now(UTC))),
        )


def _deny_transactions(action: int, *_: str | None) -> int:
    """Deny a migration to end its transaction, in which it is also recorded."""
    return (
        sqlite3.SQLITE_DENY if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT) else sqlite3.SQLITE_OK
    )
