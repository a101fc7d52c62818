"""A container may write anything into its file: the host reads valid rows and skips the rest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nanohost_protocol.errors import FileNotReady, InvalidFileError, ProtocolError
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.outbound import MAX_FIELD_CHARS, MalformedRow, OutboundReader, OutboundWriter, outbound_snapshot
from nanohost_protocol.payloads import MAX_CONTENT_BYTES
from nanohost_protocol.rows import MessageOut
from nanohost_protocol.schema import OUTBOUND
from nanohost_protocol.sequence import MAX_SEQ
from nanohost_protocol.sqlite import read_snapshot
from nanohost_protocol.times import to_text
from tests.protocol.conftest import NOON, make_answer, make_message

SAY = "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content) VALUES (?, ?, ?, ?, ?, ?)"
ACK = "INSERT INTO processing_ack VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
TIME = to_text(NOON)
NO_TIME = "0001-01-01T00:00:00.000000+23:59"
"""Python parses it, and UTC has no such day."""
REACHES_FAR = 2**63 - 1


@pytest.fixture(autouse=True)
def one_message(outbound: Path) -> None:
    """A valid file to start from."""
    box = OutboundWriter(outbound, container_id="c", durable=False)
    box.insert(make_answer("o1"), highest_seen_seq=0, now=NOON)
    box.close()


@contextmanager
def tampering(outbound: Path) -> Iterator[sqlite3.Connection]:
    """The file in a SQLite shell, without the constraints of its tables."""
    with closing(sqlite3.connect(outbound, isolation_level=None)) as db:
        honest = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
        db.execute("PRAGMA writable_schema = ON")
        for name, sql in honest:
            loose = sql.replace("STRICT", "").replace("NOT NULL", "").replace(" TEXT", " BLOB")
            db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (loose, name))
    with closing(sqlite3.connect(outbound, isolation_level=None)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        yield db
        db.execute("PRAGMA writable_schema = ON")
        for name, sql in honest:
            db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))


def read(outbound: Path) -> list[MessageOut | MalformedRow]:
    with outbound_snapshot(outbound) as box:
        return box.messages_after(0)


# --- rows


@pytest.mark.parametrize(
    "row",
    [
        (b"blob", "t", TIME, "chat", "{}"),
        ("o", b"blob", TIME, "chat", "{}"),
        ("o", "t", b"blob", "chat", "{}"),
        ("o", "t", "yesterday", "chat", "{}"),
        ("o", "t", "x" * 100_000, "chat", "{}"),
        ("o", "t", TIME, b"blob", "{}"),
        ("o", "t", TIME, "chat", b"blob"),
        (None, None, None, None, None),
        (1, 2, 3, 4, 5.5),
        ("o", "t", TIME, 4, 5),
        ("o", "t", NO_TIME, "chat", "{}"),
    ],
    ids=range(11),
)
def test_a_row_with_wrong_types_is_named_and_skipped(outbound: Path, row: tuple[object, ...]) -> None:
    with tampering(outbound) as db:
        db.execute(SAY.replace("INSERT", "INSERT OR REPLACE"), (3, *row))
        db.execute(SAY, (5, "o5", "t", TIME, "chat", "{}"))
    first, second, third = read(outbound)
    assert (first.seq, second.seq, third.seq) == (1, 3, 5)
    assert isinstance(second, MalformedRow)
    assert len(second.problem) < 2 * MAX_FIELD_CHARS
    assert isinstance(third, MessageOut)


def test_an_unknown_kind_is_read_unchanged(outbound: Path) -> None:
    with tampering(outbound) as db:
        db.execute(SAY, (3, "o3", "t", TIME, "poem", "{}"))
    assert [row.kind for row in read(outbound) if isinstance(row, MessageOut)] == ["chat", "poem"]


def test_long_fields_are_truncated_and_long_content_is_left_out(outbound: Path) -> None:
    with tampering(outbound) as db:
        db.execute(SAY, (3, "o" * 100_000, "t" * 100_000, TIME, "k" * 100_000, "c" * (MAX_CONTENT_BYTES + 1)))
        db.execute("UPDATE messages_out SET destination = ?, in_reply_to = ? WHERE seq = 3", ("d" * 100_000,) * 2)
    row = read(outbound)[1]
    assert isinstance(row, MessageOut)
    texts = (row.id, row.turn_id, row.kind, row.destination, row.in_reply_to)
    assert [len(text or "") for text in texts] == [MAX_FIELD_CHARS] * 5
    assert row.content == ""


def test_one_read_returns_a_bounded_amount_and_the_next_continues(outbound: Path) -> None:
    with tampering(outbound) as db:
        db.executemany(SAY, [(seq, f"o{seq}", "t", TIME, "chat", "c" * MAX_CONTENT_BYTES) for seq in range(3, 23, 2)])
    taken: list[int] = []
    with outbound_snapshot(outbound) as box:
        while rows := box.messages_after(taken[-1] if taken else 0):
            assert len(rows) < 8
            taken += [row.seq for row in rows]
    assert taken == list(range(1, 23, 2))


def test_an_out_of_range_sequence_number_cannot_exhaust_the_hosts_numbers(outbound: Path, inbound: Path) -> None:
    with tampering(outbound) as db:
        db.execute(SAY, (REACHES_FAR, "far", "t", TIME, "chat", "{}"))
        db.execute(SAY, (MAX_SEQ + 1, "near", "t", TIME, "chat", "{}"))
        db.execute(ACK, ("m", REACHES_FAR, "completed", "c", "t", 0, TIME, None, None, None))
    assert [row.seq for row in read(outbound)] == [1]
    with outbound_snapshot(outbound) as box:
        assert box.acks_after(0) == []
    with inbound_transaction(inbound, durable=False) as host:
        host.set_meta({"out_cursor": str(MAX_SEQ)})
        assert host.insert(make_message("m")) is True


BROKEN_ACKS: list[dict[int, object]] = [
    {2: "pondering"},
    {2: b"blob"},
    {6: "never"},
    {6: NO_TIME},
    {5: "many"},
    {7: "boredom"},
    {9: "soon", 7: "auth"},
    {0: b"blob"},
    {3: None},
]
"""Columns of an ack, by position, with invalid values."""


def test_invalid_acks_and_turns_are_skipped(outbound: Path) -> None:
    good = ("m1", 10, "completed", "c", "t", 0, TIME, None, None, None)
    with tampering(outbound) as db:
        for number, broken in enumerate(BROKEN_ACKS):
            row = [broken.get(at, value) for at, value in enumerate(good)]
            db.execute(ACK, [f"x{number}" if row[0] == "m1" else row[0], number, *row[2:]])
        db.execute(ACK, ("long", 11, "failed", "c", "t", 0, TIME, "auth", "s" * 100_000, None))
        db.execute(ACK, good)
        for number, ids in enumerate(["{", "5", "[" * 100_000, b"blob", "[]"]):
            db.execute(
                "INSERT INTO turns (turn_id, attempt, message_ids, started_at) VALUES (?, 1, ?, ?)",
                (f"t{number}", ids, TIME),
            )
    with outbound_snapshot(outbound) as box:
        first, second = box.acks_after(0)
        turns = box.turns()
    assert first.message_id == "m1"
    assert second.error is not None
    assert len(second.error.sentence) == MAX_FIELD_CHARS
    assert {"t4"} <= {turn.turn_id for turn in turns}
    assert not {"t0", "t1", "t2"} & {turn.turn_id for turn in turns}


def test_invalid_utf_8_is_read_with_replacement_characters(outbound: Path) -> None:
    with closing(sqlite3.connect(outbound, isolation_level=None)) as db:
        db.execute(
            "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
            " VALUES (3, CAST(x'ff' AS TEXT), 't', ?, 'chat', CAST(x'c328' AS TEXT))",
            (TIME,),
        )
    row = read(outbound)[1]
    assert isinstance(row, MessageOut)
    assert row.id == "\ufffd"


# --- files


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE extra (x)",
        "CREATE VIEW extra AS SELECT 1",
        "CREATE TRIGGER extra AFTER INSERT ON turns BEGIN SELECT 1; END",
        "CREATE INDEX extra ON turns (outcome)",
        "CREATE VIRTUAL TABLE extra USING fts5(x)",
        "DROP TABLE container_state",
        "ALTER TABLE messages_out ADD COLUMN extra TEXT",
        "ALTER TABLE turns RENAME TO turn",
    ],
)
def test_a_file_with_unexpected_tables_is_refused(outbound: Path, statement: str) -> None:
    with closing(sqlite3.connect(outbound)) as db:
        db.execute(statement)
    with pytest.raises(InvalidFileError), outbound_snapshot(outbound):
        pass


def test_a_view_in_place_of_a_table_is_refused(outbound: Path) -> None:
    with closing(sqlite3.connect(outbound, isolation_level=None)) as db:
        db.execute("ALTER TABLE messages_out RENAME TO real")
        db.execute("CREATE VIEW messages_out AS SELECT * FROM real")
    with pytest.raises(InvalidFileError), outbound_snapshot(outbound):
        pass


@pytest.mark.parametrize("alive", [True, False], ids=["with its writer", "left behind"])
def test_a_file_in_wal_mode_is_refused_without_touching_shared_memory(outbound: Path, alive: bool) -> None:
    with closing(sqlite3.connect(outbound, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        if alive:
            db.execute("DELETE FROM messages_out")
            with pytest.raises(ProtocolError), outbound_snapshot(outbound):
                pass
    if not alive:
        with pytest.raises(ProtocolError), outbound_snapshot(outbound):
            pass


def test_a_query_that_takes_too_long_is_aborted(outbound: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with (
        pytest.raises(ProtocolError, match="takes longer to read"),
        read_snapshot(outbound, OUTBOUND, timeout_s=0.05) as db,
    ):
        db.execute(endless).fetchone()


def test_a_reader_cannot_write(outbound: Path) -> None:
    with pytest.raises(ProtocolError), read_snapshot(outbound, OUTBOUND) as db:
        db.execute("DELETE FROM messages_out")


def test_a_damaged_page_is_a_protocol_error(outbound: Path) -> None:
    raw = bytearray(outbound.read_bytes())
    for at in range(4096, len(raw), 4096):
        raw[at : at + 512] = b"\xff" * 512
    outbound.write_bytes(raw)
    for look in (OutboundReader.messages_after, OutboundReader.acks_after):
        with pytest.raises(ProtocolError), outbound_snapshot(outbound) as box:
            look(box, 0)


def test_a_truncated_file_is_a_protocol_error(outbound: Path) -> None:
    os.truncate(outbound, 5000)
    with pytest.raises(ProtocolError), outbound_snapshot(outbound) as box:
        box.messages_after(0)


def test_an_empty_or_missing_file_is_not_ready_and_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        with pytest.raises(FileNotReady), outbound_snapshot(tmp_path / name):
            pass
    with pytest.raises(ProtocolError), outbound_snapshot(tmp_path / "folder"):
        pass
