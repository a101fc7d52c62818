"""Monitors the central database's file: if it is damaged or gone, the process ends with an error.

Never: ends because the disk is full, read-only or slow. The host continues when such a disk recovers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NoReturn

from nanohost.clock import Clock
from nanohost.db.database import Store
from nanohost.errors import StoreError

CHECK_INTERVAL_S = 5.0


async def monitor_database(store: Store, database: Path, clock: Clock, *, backups: Path) -> NoReturn:
    """Check the file for ever. Raises StoreError if it is damaged or replaced."""
    opened = await asyncio.to_thread(_file_identity, database)
    while True:
        await clock.sleep(CHECK_INTERVAL_S)
        problem = f"is damaged ({store.corruption})" if store.corruption else ""
        if not problem and await asyncio.to_thread(_is_replaced, database, opened):
            problem = "is not the file any more that this host opened"
        if problem:
            raise StoreError(f"the central database {database} {problem}", hint=restore_hint(database, backups))


def restore_hint(database: Path, backups: Path) -> str:
    """Returns how to restore a lost database."""
    return f"put the file back, or the latest copy in {backups}, as {database.name}; then nanohost run"


def _is_replaced(database: Path, opened: tuple[int, int]) -> bool:
    try:
        return _file_identity(database) != opened
    except FileNotFoundError:
        return True
    except OSError:  # an unreadable folder does not mean that the file is gone
        return False


def _file_identity(database: Path) -> tuple[int, int]:
    status = database.stat()
    return status.st_dev, status.st_ino
