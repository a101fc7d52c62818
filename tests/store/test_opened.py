"""How the central database is opened, and what the log says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.home import Home
from nanohost.store.opened import opened_store


@pytest.mark.behaviour("OP-05")
async def test_a_new_database_is_one_line_of_the_log_and_one_that_is_there_none(tmp_path: Path) -> None:
    """Its migrations are news where there was data before; at a first start they are thirty lines about nothing."""
    said = []
    for _ in range(2):
        with capture_logs() as lines:
            async with opened_store(Home(tmp_path), durable=False):
                pass
        said.append([line["event"] for line in lines if line["log_level"] == "info"])
    assert said == [["database_made"], []]
