"""Flow tests run twice: with file events, and with polls alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flows.stage import Stage


@pytest.fixture(params=[True, False], ids=["watcher on", "watcher off"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, watch=bool(request.param))
    yield stage
    await stage.clear()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Stage]:
    """For what has nothing to do with how news travel: with file events only."""
    stage = Stage(tmp_path)
    yield stage
    await stage.clear()
