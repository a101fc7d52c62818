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
    """The central database as it is now, read-only, for long looks: the store's one reader is needed by the host.

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
        # Not mode=ro: a file that was opened read-only has its CHECK constraints left out of integrity_check.
        connection.execute("PRAGMA query_only = 1")
        connection.execute("BEGIN")
        yield connection


async def central_database_integrity(install: VerifyContext) -> list[str]:
    """SQLite's own check of every page, index and constraint of the central database finds nothing."""

    def look() -> list[str]:
        with central_snapshot(install.home.database) as db:
            return [str(text) for (text,) in db.execute(f"PRAGMA integrity_check({MAX_ROWS})") if text != "ok"]

    return await asyncio.to_thread(look)


async def foreign_keys_are_valid(install: VerifyContext) -> list[str]:
    """Every row of the central database that refers to another one finds it."""

    def look() -> list[str]:
        with central_snapshot(install.home.database) as db:
            return [_describe_violation(row) for row in db.execute("PRAGMA foreign_key_check").fetchmany(MAX_ROWS)]

    return await asyncio.to_thread(look)


def _describe_violation(row: sqlite3.Row) -> str:
    which = "a row" if row["rowid"] is None else f"row {row['rowid']}"
    return f"{which} of {row['table']} refers to a row of {row['parent']} that is not there"


async def migrations_match_their_files(install: VerifyContext) -> list[str]:
    """The migrations on record are the migration files of this version, unchanged, and none is missing."""
    files = await asyncio.to_thread(load_migrations, install.home.migration_folders)
    known = {(file.set_name, file.name): file.checksum for file in files}
    applied = {
        (row["set_name"], row["name"]): row["checksum"] for row in await install.store.fetch_all(APPLIED_MIGRATIONS)
    }
    found = []
    for set_name, name in sorted(known.keys() | applied.keys()):
        here, there = known.get((set_name, name)), applied.get((set_name, name))
        if here is None:
            found.append(f"migration {set_name}/{name} was applied, and its file is gone")
        elif there is None:
            found.append(f"migration {set_name}/{name} has a file, and was not applied")
        elif here != there:
            found.append(f"migration {set_name}/{name} was changed after it was applied")
    return found
