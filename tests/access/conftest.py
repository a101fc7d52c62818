"""A host request handler for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.access.harness import AccessTestHost, open_access_host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AccessTestHost]:
    async with open_access_host(tmp_path) as hall:
        yield hall
