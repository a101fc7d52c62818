"""Opens and migrates the central database of an install."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from nanohost.config.home import Home
from nanohost.db.database import Store, open_store
from nanohost.db.file_monitor import restore_hint
from nanohost.db.migrations import load_migrations, migrate
from nanohost.errors import StoreError

_log = structlog.get_logger()


@asynccontextmanager
async def open_home_store(home: Home, *, durable: bool = True) -> AsyncIterator[Store]:
    """Migrate and open the central database. The caller holds the home's lock. Raises StoreError, HomeError."""
    await asyncio.to_thread(home.prepare)
    await asyncio.to_thread(_check_database_not_lost, home)
    migrations = load_migrations(home.migration_folders)
    is_new = not await asyncio.to_thread(home.database.exists)
    applied = await asyncio.to_thread(migrate, home.database, migrations, backups=home.backups)
    if is_new:
        _log.info("database_created", path=str(home.database), migrations=len(applied))
    for migration in applied if not is_new else ():
        _log.info("migration_applied", set=migration.set_name, name=migration.name)
    async with open_store(home.database, durable=durable) as store:
        yield store


def _check_database_not_lost(home: Home) -> None:
    """Raise StoreError if there are sessions without a database: a new, empty database would hide the loss."""
    if not home.database.exists() and any(home.sessions.glob("*/*/in")):
        raise StoreError(
            f"there are conversations in {home.sessions}, and the central database {home.database} is gone",
            hint=f"{restore_hint(home.database, home.backups)}; to begin anew move {home.sessions} away",
        )
