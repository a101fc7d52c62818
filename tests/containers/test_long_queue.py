"""Thousands of messages that wait in one mailbox: queries do not read each of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost_protocol.inbound import InboundReader, InboundWriter, inbound_transaction
from nanohost_protocol.payloads import STOP, ControlIn, encode
from nanohost_protocol.rows import InKind, MessageIn, NewMessageIn, Origin
from tests.protocol.conftest import NOON, make_message

WAITING = 3_000
FEW = 60
LATER = NOON + timedelta(days=1)


class Rows:
    """Creates rows in place of sqlite3.Row, and counts them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, cursor: sqlite3.Cursor, row: tuple[object, ...]) -> sqlite3.Row:
        self.made += 1
        return sqlite3.Row(cursor, row)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A mailbox with messages of two chats, and a control message."""
    path = tmp_path / "inbound.db"
    with inbound_transaction(path, durable=False) as box:
        for number in range(WAITING):
            place = Origin(channel_type="t", instance="i", platform_id=f"c{number % 2}")
            waits = make_message(f"m{number}", process_after=NOON + timedelta(seconds=number))
            box.insert(replace(waits, origin=place))
        content = encode(ControlIn(command=STOP, answer=None))
        box.insert(NewMessageIn(id="stop", kind=InKind.CONTROL, timestamp=NOON, content=content, trigger=False))
    return path


def _ids(rows: list[MessageIn]) -> list[str]:
    return [row.id for row in rows]


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda db: InboundWriter(db).first_due(LATER, has_container=True), NOON),
        (lambda db: _ids(list(InboundWriter(db).control_messages())), ["stop"]),
        (
            lambda db: _ids(list(InboundWriter(db).latest_per_chat())),
            [f"m{WAITING - 2}", f"m{WAITING - 1}"],
        ),
        (
            lambda db: _ids(InboundReader(db).overdue(before=LATER, due=NOON + timedelta(seconds=99), limit=2)),
            ["m98", "m99"],
        ),
    ],
    ids=["first due", "orders", "latest of chats", "old"],
)
def test_queries_on_a_long_queue_read_few_rows(
    path: Path, ask: Callable[[sqlite3.Connection], object], answer: object
) -> None:
    rows = Rows()
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = rows
        assert ask(db) == answer
    assert rows.made <= FEW


def test_a_message_for_a_fresh_container_is_not_due_while_another_runs(tmp_path: Path) -> None:
    path = tmp_path / "inbound.db"
    with inbound_transaction(path, durable=False) as box:
        assert box.first_due(NOON, has_container=False) is None
        box.insert(replace(make_message("context"), trigger=False))
        assert box.first_due(NOON, has_container=False) is None
        box.insert(replace(make_message("fresh"), on_wake=True))
        assert box.first_due(NOON, has_container=True) is None
        assert box.first_due(NOON, has_container=False) == NOON
        box.retry("fresh", tries=0, process_after=LATER)
        assert box.first_due(NOON, has_container=True) == LATER
        box.insert(make_message("now"))
        assert box.first_due(NOON, has_container=True) == NOON
