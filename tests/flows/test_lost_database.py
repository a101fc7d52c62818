"""A host whose central database is lost ends with a reason, and none starts beside sessions without a database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nanohost.db.file_monitor import CHECK_INTERVAL_S
from nanohost.errors import StoreError
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import run_host

pytestmark = pytest.mark.behaviour("OP-05")


async def test_a_host_whose_database_disappears_stops_and_says_what_to_do(tmp_path: Path) -> None:
    async with run_host(tmp_path, clock=AcceleratedClock(CHECK_INTERVAL_S), with_channel=False) as flow:
        flow.home.database.unlink()
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            with pytest.raises(StoreError, match="central store failed") as told:
                await flow.host.wait_until_failed()
    assert "backups" in told.value.hint


async def test_sessions_without_their_database_are_refused_instead_of_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "sessions" / "main" / "s1" / "in").mkdir(parents=True)
    with pytest.raises(StoreError, match="is gone") as told:
        async with run_host(tmp_path, with_channel=False):
            pass
    assert "to begin anew" in told.value.hint
    assert not (tmp_path / "data" / "nanohost.db").exists()
