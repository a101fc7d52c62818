"""Opening the central database, and what is logged about it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.config.home import Home
from nanohost.db.open import open_home_store
from tests.support.template_home import create_home_database, make_database


@pytest.mark.behaviour("OP-05")
async def test_creating_a_database_is_one_log_line_and_opening_one_is_none(tmp_path: Path) -> None:
    """Migrations are worth logging for existing data; at a first start they would be thirty lines."""
    said = []
    for _ in range(2):
        with capture_logs() as lines:
            async with open_home_store(Home(tmp_path), durable=False):
                pass
        said.append([line["event"] for line in lines if line["log_level"] == "info"])
    assert said == [["database_created"], []]


async def test_a_new_home_gets_the_same_database_as_the_test_template(tmp_path: Path) -> None:
    async with open_home_store(Home(tmp_path), durable=False):
        pass
    make_database(tmp_path / "copied.db")
    made, copied = contents(Home(tmp_path).database), contents(tmp_path / "copied.db")
    assert len(made) > 30
    assert copied == made


async def test_a_home_that_lost_its_database_gets_no_template_copy(tmp_path: Path) -> None:
    async with open_home_store(Home(tmp_path), durable=False):
        pass
    Home(tmp_path).database.unlink()
    create_home_database(Home(tmp_path))
    assert not Home(tmp_path).database.exists()


def contents(database: Path) -> list[str]:
    """All content except the times at which migrations were applied."""
    with closing(sqlite3.connect(database)) as db:
        db.execute("UPDATE schema_migrations SET applied_at = ''")
        pragmas = [str(db.execute(f"PRAGMA {name}").fetchone()) for name in ("application_id", "journal_mode")]
        return [*pragmas, *db.iterdump()]
