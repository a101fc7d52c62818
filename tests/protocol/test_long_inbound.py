"""A mailbox of a month: no operation of a message or a poll reads the whole history."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost_protocol.inbound import InboundReader, InboundWriter, inbound_transaction
from nanohost_protocol.rows import ChatId, DeliveryResult
from tests.protocol.conftest import NOON, make_message

ROWS = 50_000
WAITING = 10
"""The last ones."""
MOST_STEPS = 50_000
"""Of SQLite's virtual machine. A walk through all rows takes 150,000 at least."""
STEP = 100
FAR = NOON + timedelta(days=365)

_NUMBERS = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {ROWS})"
_MESSAGES = f"""
INSERT INTO messages_in (seq, id, kind, timestamp, status, channel_type, instance, platform_id, platform_message_id,
    content)
{_NUMBERS} SELECT 2 * i, 'm' || i, 'chat', '2026-01-02T12:00:00.000000Z',
    CASE WHEN i > {ROWS - WAITING} THEN 'pending' WHEN i % 9 THEN 'completed' ELSE 'failed' END,
    'fake', 'main', 'c1', 'p' || i, '{{"text": "hello", "sender": "Ada", "sender_id": "u1"}}' FROM n
"""
_DELIVERED = f"""
INSERT INTO delivered (out_id, status, platform_message_ids, changed_at)
{_NUMBERS} SELECT 'o' || i, 'sent', '["9"]', '2026-01-02T12:00:00.000000Z' FROM n
"""

_SAID = DeliveryResult(out_id="new", status="sent", platform_message_ids=("7",), changed_at=NOON)
READS: dict[str, Callable[[InboundReader], object]] = {
    "due": lambda box: list(box.due(FAR)),
    "next_due": lambda box: box.next_due(NOON),
    "overdue": lambda box: box.overdue(before=FAR, due=FAR, limit=50),
    "find": lambda box: box.find("m7"),
    "existing_ids": lambda box: box.existing_ids(["m7", "none"]),
    "count_open_after": lambda box: box.count_open_after(0),
    "find_by_seq": lambda box: box.find_by_seq(14),
    "find_answer": lambda box: box.find_answer("none", after=2 * ROWS - 2_001),
    "find_by_platform_id": lambda box: list(box.find_by_platform_id(ChatId("fake", "main", "c1"), "none")),
    "find_out_ids": lambda box: box.find_out_ids("none"),
    "undelivered": lambda box: box.undelivered(["o7", "none"]),
    "highest_seq": lambda box: box.highest_seq(),
    "destinations": lambda box: box.destinations(),
    "default_destination": lambda box: box.default_destination(),
    "meta": lambda box: box.meta(),
}


def _hold_and_let_go(box: InboundWriter) -> None:
    box.hold(FAR)
    box.release_hold()


WRITES: dict[str, Callable[[InboundWriter], object]] = {
    "insert": lambda box: box.insert(make_message("new")),
    "close": lambda box: box.close("m7", "completed"),
    "retry": lambda box: box.retry(f"m{ROWS}", tries=0, process_after=FAR),
    "reschedule_earlier": lambda box: box.reschedule_earlier(shift=timedelta(hours=1), now=NOON),
    "hold": lambda box: box.hold(FAR),
    "release_hold": lambda box: _hold_and_let_go(box),
    "close_old_context": lambda box: box.close_old_context(5),
    "record_delivery_results": lambda box: box.record_delivery_results([_SAID]),
    "set_destinations": lambda box: box.set_destinations([], None),
    "set_meta": lambda box: box.set_meta({"a": "1"}),
    "pending": lambda box: list(box.pending()),
    "first_due": lambda box: box.first_due(NOON, has_container=True),
    "control_messages": lambda box: list(box.control_messages()),
    "latest_per_chat": lambda box: list(box.latest_per_chat()),
    "find": lambda box: box.find("m7"),
    "delete_closed": lambda box: box.delete_closed([f"m{number}" for number in range(1, 200)]),
}
ONCE_A_DAY = {"closed_before", "has_delivery_results_before", "delete_delivery_results"}
"""Retention's operations: they read what it has not deleted."""


@pytest.fixture(scope="module")
def long_inbound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("month") / "inbound.db"
    with inbound_transaction(path, durable=False):
        pass
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(_MESSAGES)
        db.execute(_DELIVERED)
    with inbound_transaction(path, durable=False) as box:
        box.record_delivery_results([_SAID])
    return path


@pytest.fixture
def connection(long_inbound: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(long_inbound, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")
        yield db
        db.execute("ROLLBACK")


def steps(db: sqlite3.Connection, work: Callable[[], object]) -> int:
    count = 0

    def stepped() -> None:
        nonlocal count
        count += STEP

    db.set_progress_handler(stepped, STEP)
    work()
    db.set_progress_handler(None, 0)
    return count


@pytest.mark.case("a session with 50,000 sent rows")
@pytest.mark.parametrize("name", READS)
def test_reading_costs_the_same_for_any_history(connection: sqlite3.Connection, name: str) -> None:
    assert steps(connection, lambda: READS[name](InboundReader(connection))) <= MOST_STEPS


@pytest.mark.parametrize("name", WRITES)
def test_writing_costs_the_same_for_any_history(connection: sqlite3.Connection, name: str) -> None:
    assert steps(connection, lambda: WRITES[name](InboundWriter(connection))) <= MOST_STEPS


def test_every_method_is_measured() -> None:
    assert _methods(InboundReader) - ONCE_A_DAY == READS.keys()
    assert _methods(InboundWriter) - ONCE_A_DAY == WRITES.keys()


def _methods(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}
