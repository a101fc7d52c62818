"""A lost central database ends the host; one with a temporary error does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from nanohost.db.database import Store
from nanohost.db.file_monitor import CHECK_INTERVAL_S, monitor_database
from nanohost.errors import StoreError
from nanohost.testing.manual_clock import ManualClock

pytestmark = pytest.mark.behaviour("OP-05")


@asynccontextmanager
async def watching(store: Store, database: Path) -> AsyncIterator[asyncio.Task[NoReturn]]:
    """The monitor while entered; on exit the clock advances, so that it checks once more."""
    clock = ManualClock()
    task = asyncio.create_task(monitor_database(store, database, clock, backups=database.parent / "backups"))
    await clock.wait_for_sleeper()
    yield task
    await clock.advance(CHECK_INTERVAL_S)
    sleeps = asyncio.create_task(clock.wait_for_sleeper())
    await asyncio.wait([task, sleeps], return_when=asyncio.FIRST_COMPLETED)
    for one in (task, sleeps):
        one.cancel()
    await asyncio.wait([task, sleeps])


async def test_a_deleted_database_is_reported_with_the_place_of_its_backups(store: Store, database: Path) -> None:
    async with watching(store, database) as watched:
        database.unlink()
    with pytest.raises(StoreError, match="is not the file any more") as told:
        watched.result()
    assert "backups" in told.value.hint


async def test_a_replaced_database_is_reported_as_missing(store: Store, database: Path) -> None:
    async with watching(store, database) as watched:
        (database.parent / "other").write_bytes(database.read_bytes())
        (database.parent / "other").rename(database)
    with pytest.raises(StoreError, match="is not the file any more"):
        watched.result()


async def test_a_damaged_database_is_reported_once_damage_was_read(store: Store, database: Path) -> None:
    size = database.stat().st_size
    async with watching(store, database) as watched:
        with database.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 4096))
        with pytest.raises(StoreError):
            await store.fetch_all("SELECT * FROM inbound_events")
    with pytest.raises(StoreError, match="is damaged"):
        watched.result()


async def test_an_error_that_is_no_damage_does_not_end_the_monitor(store: Store, database: Path) -> None:
    async with watching(store, database) as watched:
        with pytest.raises(StoreError):
            await store.fetch_all("SELECT * FROM no_such_table")
    assert watched.cancelled()
