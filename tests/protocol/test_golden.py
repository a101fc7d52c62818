"""Files of earlier versions are readable, and the tables change only with the version."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nanohost_protocol import VERSION
from nanohost_protocol.inbound import inbound_snapshot
from nanohost_protocol.outbound import outbound_snapshot
from nanohost_protocol.payloads import decode_in, decode_out
from nanohost_protocol.rows import AckStatus, MessageIn, MessageOut
from nanohost_protocol.schema import INBOUND, OUTBOUND, FileSchema
from nanohost_protocol.sqlite import connect_writer
from tests.golden.content import (
    CHAT_ID,
    DESTINATIONS,
    ERROR,
    FAILED_TURN,
    FIVE_PAST,
    FOLDER,
    INCOMING,
    META,
    NOON,
    ORIGIN,
    OUTGOING,
    TURN,
    USAGE,
    make_outgoing,
    write_inbound,
    write_outbound,
)

Dump = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy, because opening a database may write beside it."""
    for name in ("inbound", "outbound"):
        shutil.copy(FOLDER / f"{name}-1.db", tmp_path / f"{name}.db")
    return tmp_path


def dump(path: Path) -> Dump:
    """Every row of every table."""
    with closing(sqlite3.connect(path)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}


def schema_of(path: Path) -> set[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return {*db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")}


def incoming(folder: Path) -> dict[str, MessageIn]:
    with inbound_snapshot(folder / "inbound.db") as box:
        return {message.id: found for message in INCOMING if (found := box.find(message.id))}


def test_the_hosts_golden_messages_are_read_as_they_were_written(golden: Path) -> None:
    found = incoming(golden)
    assert [message.id for message in found.values()] == [message.id for message in INCOMING]
    assert [message.seq for message in found.values()] == [10, 12, 14, 16, 18, 20]
    for wanted in INCOMING:
        read = found[wanted.id]
        assert (read.kind, read.timestamp, read.content) == (wanted.kind, NOON, wanted.content)
        assert (read.trigger, read.on_wake, read.origin) == (wanted.trigger, wanted.on_wake, wanted.origin)
        assert read.process_after == wanted.process_after
        decode_in(read.kind, read.content)
    assert found[CHAT_ID].origin == ORIGIN
    assert (found["task"].tries, found["webhook"].status, found["system"].status) == (1, "failed", "pending")


def test_the_hosts_golden_addresses_and_settings_are_read(golden: Path) -> None:
    with inbound_snapshot(golden / "inbound.db") as box:
        assert box.destinations() == DESTINATIONS
        assert box.default_destination() == "home"
        assert box.meta() == META
        assert box.highest_seq() == 20
        assert box.next_due(NOON) == FIVE_PAST


def test_the_runners_golden_messages_are_read_as_they_were_written(golden: Path) -> None:
    with outbound_snapshot(golden / "outbound.db") as box:
        found = box.messages_after(0)
    assert [row.seq for row in found] == [11, 21, 23, 25, 27, 29, 31, 33]
    for row, (kind, payload) in zip(found, OUTGOING, strict=True):
        assert isinstance(row, MessageOut)
        wanted = make_outgoing(kind, payload)
        assert (row.id, row.turn_id, row.kind) == (wanted.id, TURN, kind)
        assert (row.in_reply_to, row.destination) == (wanted.in_reply_to, wanted.destination)
        assert row.deliver_after == wanted.deliver_after
        assert decode_out(row.kind, row.content) == payload


def test_the_runners_golden_acks_and_turns_are_read(golden: Path) -> None:
    with outbound_snapshot(golden / "outbound.db") as box:
        acks = {ack.message_id: ack for ack in box.acks_after(0)}
        turns = {turn.turn_id: turn for turn in box.turns()}
    statuses = {message_id: ack.status for message_id, ack in acks.items()}
    assert statuses == {
        "context": AckStatus.ABANDONED,
        CHAT_ID: AckStatus.COMPLETED,
        "system": AckStatus.COMPLETED,
        "webhook": AckStatus.FAILED,
        "task": AckStatus.PROCESSING,
    }
    assert (acks["webhook"].error, acks["task"].tries) == (ERROR, 1)
    assert [ack.change for ack in acks.values()] == sorted(ack.change for ack in acks.values())
    assert (turns[TURN].message_ids, turns[TURN].usage) == ((CHAT_ID, "system"), USAGE)
    assert (turns[TURN].outcome, turns[TURN].ended_at, turns[TURN].continuation) == (
        "completed",
        FIVE_PAST,
        "conversation-1",
    )
    assert (turns[FAILED_TURN].outcome, turns[FAILED_TURN].attempt) == ("rate_limited", 1)


def test_current_writers_write_what_the_golden_files_contain(golden: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    write_inbound(fresh / "inbound.db")
    write_outbound(fresh / "outbound.db", incoming(fresh))
    for name in ("inbound.db", "outbound.db"):
        assert dump(fresh / name) == dump(golden / name)


@pytest.mark.parametrize("schema", [INBOUND, OUTBOUND], ids=lambda schema: schema.name)
def test_the_tables_change_only_with_the_version(schema: FileSchema, tmp_path: Path) -> None:
    golden = FOLDER / schema.name.replace(".db", f"-{VERSION}.db")
    assert golden.exists(), "VERSION was raised: make its golden files with scripts/golden"
    connect_writer(tmp_path / schema.name, schema, busy_timeout_s=1, durable=False).close()
    changed = schema_of(tmp_path / schema.name) ^ schema_of(golden)
    assert not changed, "schema.py changed: raise VERSION and make new golden files with scripts/golden"
