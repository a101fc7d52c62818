"""New homes for tests: their central database is a copy of one that was migrated once in this process.

To migrate takes some forty milliseconds, and thousands of tests begin with it. That a new home is migrated is proved by
tests/db/test_open.py and test_migrations.py, and by whatever starts `nanohost` in an empty folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from nanohost.config.home import Home
from nanohost.config.shipped import shipped_root
from nanohost.db import open
from nanohost.db.database import Store
from nanohost.db.migrations import load_migrations, migrate


def make_database(path: Path) -> None:
    """Write a database with all shipped migrations and no rows. The file must not exist yet."""
    with path.open("xb") as file:
        file.write(_migrated_database())


def create_home_database(home: Home) -> None:
    """Give a new home its database. A home that was opened before gets none: it may have lost its database."""
    if not any(path.exists() for path in (home.database, home.backups, home.sessions)):
        home.database.parent.mkdir(parents=True, exist_ok=True)
        make_database(home.database)


@asynccontextmanager
async def opened_store(home: Home, *, durable: bool = True) -> AsyncIterator[Store]:
    """Open the central database of a home, new or not. Raises StoreError."""
    create_home_database(home)
    async with open.open_home_store(home, durable=durable) as store:
        yield store


@cache
def _migrated_database() -> bytes:
    with tempfile.TemporaryDirectory(prefix="nanohost-test-") as folder:
        path = Path(folder, "nanohost.db")
        migrate(path, load_migrations([shipped_root() / "migrations"]), backups=Path(folder, "backups"))
        return path.read_bytes()  # closed by now: its write-ahead log is empty
