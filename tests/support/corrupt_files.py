"""What a hostile or broken runner may leave in a session's out/, done by hand while no host and no runner runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime

from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.times import to_text

Corruption = Callable[[SessionLayout], None]

JUNK_BYTES = b"this is no database, it only says so " * 200
FUTURE_VERSION = 99
_ROW = """
INSERT INTO messages_out (seq, id, turn_id, in_reply_to, timestamp, deliver_after, kind, destination, content)
VALUES (:seq, :id, 't', :in_reply_to, :timestamp, :deliver_after, :kind, :destination, :content)
"""


def insert_row(layout: SessionLayout, seq: int, **columns: object) -> None:
    """Insert a row into messages_out as no runner would; without arguments it is a valid one."""
    row = {
        "seq": seq,
        "id": f"o-{seq}",
        "in_reply_to": None,
        "timestamp": to_text(datetime.now(UTC)),
        "deliver_after": None,
        "kind": "chat",
        "destination": None,
        "content": encode(ChatOut(text=f"row {seq}")),
    }
    with closing(sqlite3.connect(layout.outbound_db)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = 1")
        database.execute(_ROW, row | columns)


def run_script(layout: SessionLayout, script: str) -> None:
    with closing(sqlite3.connect(layout.outbound_db)) as database, database:
        database.executescript(script)


def junk(layout: SessionLayout) -> None:
    layout.outbound_db.write_bytes(JUNK_BYTES)


def gone(layout: SessionLayout) -> None:
    shutil.rmtree(layout.out_dir)


def huge(layout: SessionLayout) -> None:
    os.truncate(layout.outbound_db, 1024**3 + 4096)


def link(layout: SessionLayout) -> None:
    elsewhere = layout.root / "elsewhere.db"
    layout.outbound_db.rename(elsewhere)
    layout.outbound_db.symlink_to(elsewhere)


def second_name(layout: SessionLayout) -> None:
    layout.outbound_db.with_name("another.db").hardlink_to(layout.outbound_db)


def fifo(layout: SessionLayout) -> None:
    layout.outbound_db.unlink()
    os.mkfifo(layout.outbound_db)


def folder(layout: SessionLayout) -> None:
    layout.outbound_db.unlink()
    layout.outbound_db.mkdir()


def journal_fifo(layout: SessionLayout) -> None:
    journal = layout.outbound_db.with_name("outbound.db-journal")
    journal.unlink(missing_ok=True)
    os.mkfifo(journal)


def wal(layout: SessionLayout) -> None:
    layout.outbound_db.with_name("outbound.db-wal").write_bytes(b"\0" * 100)


def wal_mode(layout: SessionLayout) -> None:
    run_script(layout, "PRAGMA journal_mode = WAL")


def view(layout: SessionLayout) -> None:
    run_script(
        layout,
        "ALTER TABLE messages_out RENAME TO hidden; CREATE VIEW messages_out AS SELECT * FROM hidden, hidden AS other;",
    )


def trigger(layout: SessionLayout) -> None:
    run_script(layout, "CREATE TRIGGER bite AFTER INSERT ON messages_out BEGIN SELECT load_extension('x'); END;")


def future(layout: SessionLayout) -> None:
    run_script(layout, f"PRAGMA user_version = {FUTURE_VERSION}")


CORRUPTIONS: Mapping[str, Corruption] = {
    spoiler.__name__: spoiler
    for spoiler in (
        junk,
        gone,
        huge,
        link,
        second_name,
        fifo,
        folder,
        journal_fifo,
        wal,
        wal_mode,
        view,
        trigger,
        future,
    )
}
RECOVERABLE = ("wal", "wal_mode")
"""Damage that the next runner repairs by opening its file, so that the conversation continues."""
RUNNER_STOPPING = ("gone", "junk", "fifo", "folder", "future")
"""Damage that stops the runner itself, so that nobody can read the message."""
