"""A healthy home for each test to break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.verify.healthy import Bench, healthy


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with healthy(tmp_path) as bench:
        yield bench
