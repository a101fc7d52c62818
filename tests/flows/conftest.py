"""Flow tests run twice: with file events, and with polls alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flows.host_fixture import HostTestEnv


@pytest.fixture(params=[True, False], ids=["watcher on", "watcher off"])
async def host_env(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HostTestEnv]:
    stage = HostTestEnv(tmp_path, watch=bool(request.param))
    yield stage
    await stage.cleanup()


@pytest.fixture
async def host_env_with_events(tmp_path: Path) -> AsyncIterator[HostTestEnv]:
    """For behaviour that does not depend on how changes are noticed: with file events only."""
    stage = HostTestEnv(tmp_path)
    yield stage
    await stage.cleanup()
