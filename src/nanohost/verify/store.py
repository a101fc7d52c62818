"""Checks the central database as a file: intact, consistent, of this version."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from nanohost.db.database import BUSY_TIMEOUT_S, translated_errors
from nanohost.db.migrations import load_migrations
from nanohost.verify.finding import MAX_ROWS, VerifyContext

APPLIED_MIGRATIONS = "SELECT set_name, name, checksum FROM schema_migrations"


@contextmanager
def central_snapshot(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a read-only snapshot of the central database for long reads, which must not block the store's reader.

    Blocking. Raises StoreError.
    """
    with (
        translated_errors(),
        closing(
            sqlite3.connect(
                f"file:{quote(str(database))}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
            )
        ) as connection,
    ):
        connection.row_factory = sqlite3.Row
        # Not mode=ro: integrity_check skips CHECK constraints of a database that was opened read-only.
        connection.execute("PRAGMA query_only = 1")
        connection.execute("BEGIN")
        yield connection


async def central_database_integrity(install: VerifyContext) -> list[str]:
    """SQLite's own check of every page, index and constraint of the central database finds no error."""

    def look() -> list[str]:
        with central_snapshot(install.home.database) as db:
            return [str(text) for (text,) in db.execute(f"PRAGMA integrity_check({MAX_ROWS})") if text != "ok"]

    return await asyncio.to_thread(look)


async def foreign_keys_are_valid(install: VerifyContext) -> list[str]:
    """Every row of the central database that refers to another row refers to an existing one."""

    def look() -> list[str]:
        with central_snapshot(install.home.database) as db:
            return [_describe_violation(row) for row in db.execute("PRAGMA foreign_key_check").fetchmany(MAX_ROWS)]

    return await asyncio.to_thread(look)


def _describe_violation(row: sqlite3.Row) -> str:
    which = "a row" if row["rowid"] is None else f"row {row['rowid']}"
    return f"{which} of {row['table']} refers to a row of {row['parent']} that is not there"


async def migrations_match_their_files(install: VerifyContext) -> list[str]:
    """The applied migrations are exactly the migration files of this version, unchanged."""
    files = await asyncio.to_thread(load_migrations, install.home.migration_folders)
    known = {(file.set_name, file.name): file.checksum for file in files}
    applied = {
        (row["set_name"], row["name"]): row["checksum"] for row in await install.store.fetch_all(APPLIED_MIGRATIONS)
    }
    found = []
    for set_name, name in sorted(known.keys() | applied.keys()):
        in_file, in_database = known.get((set_name, name)), applied.get((set_name, name))
        if in_file is None:
            found.append(f"migration {set_name}/{name} was applied, and its file is gone")
        elif in_database is None:
            found.append(f"migration {set_name}/{name} has a file, and was not applied")
        elif in_file != in_database:
            found.append(f"migration {set_name}/{name} was changed after it was applied")
    return found
