"""Lists, status and reports are read on separate connections: no message waits for them."""

from __future__ import annotations

import sqlite3

import pytest

from nanohost.commands.registry import commands
from nanohost.db.database import Store, Values
from tests.commands.conftest import Operator

REPORTS = [words for words in commands() if words.endswith((" list", "status", "verify", "cost"))]


@pytest.mark.parametrize("words", REPORTS)
async def test_a_report_reads_nothing_on_the_connection_for_messages(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    asked: list[str] = []

    async def one(self: Store, sql: str, values: Values = ()) -> sqlite3.Row | None:
        asked.append(sql)
        return None

    async def every(self: Store, sql: str, values: Values = ()) -> list[sqlite3.Row]:
        asked.append(sql)
        return []

    monkeypatch.setattr(Store, "fetch_one", one)
    monkeypatch.setattr(Store, "fetch_all", every)
    await operator.run(words)
    assert asked == []
