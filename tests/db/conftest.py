"""A migrated central database in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanohost.db.database import Store, open_store
from tests.support.template_home import make_database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "nanohost.db"
    make_database(path)
    return path


@pytest.fixture
async def store(database: Path) -> AsyncIterator[Store]:
    async with open_store(database, durable=False) as opened:
        yield opened
