"""A healthy home for each test to damage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.verify.healthy import HealthyHome, make_healthy_home


@pytest.fixture
async def home_fixture(tmp_path: Path) -> AsyncIterator[HealthyHome]:
    async with make_healthy_home(tmp_path) as bench:
        yield bench
