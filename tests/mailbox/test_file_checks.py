"""The checks before a runner's file is opened."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nanohost.mailbox.file_checks import check_outbound
from nanohost_protocol.errors import FileNotReady, InvalidFileError
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import OutboundWriter
from tests.support.corrupt_files import CORRUPTIONS

READ_INSIDE = ("view", "trigger", "future")
"""These pass the check from outside; the reader's own check finds them."""


@pytest.fixture
def layout(tmp_path: Path) -> SessionLayout:
    """A session with an outbound.db."""
    layout = SessionLayout(tmp_path / "session")
    layout.out_dir.mkdir(parents=True)
    OutboundWriter(layout.outbound_db, container_id="l", durable=False).close()
    return layout


def test_a_file_written_by_a_runner_is_accepted(layout: SessionLayout) -> None:
    check_outbound(layout.outbound_db)


def test_a_journal_beside_the_file_is_accepted(layout: SessionLayout) -> None:
    layout.outbound_db.with_name("outbound.db-journal").write_bytes(b"x")
    check_outbound(layout.outbound_db)


def test_a_missing_or_empty_file_is_not_ready(layout: SessionLayout) -> None:
    os.truncate(layout.outbound_db, 0)
    with pytest.raises(FileNotReady):
        check_outbound(layout.outbound_db)
    layout.outbound_db.unlink()
    with pytest.raises(FileNotReady):
        check_outbound(layout.outbound_db)


@pytest.mark.parametrize("spoiler", [name for name in CORRUPTIONS if name not in (*READ_INSIDE, "gone")])
def test_any_other_kind_of_file_is_not_opened(layout: SessionLayout, spoiler: str) -> None:
    CORRUPTIONS[spoiler](layout)
    with pytest.raises(InvalidFileError):
        check_outbound(layout.outbound_db)


def test_a_dangling_symlink_is_not_opened(layout: SessionLayout) -> None:
    layout.outbound_db.unlink()
    layout.outbound_db.symlink_to("nowhere")
    with pytest.raises(InvalidFileError):
        check_outbound(layout.outbound_db)


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_symlink_in_place_of_a_side_file_is_not_followed(layout: SessionLayout, suffix: str) -> None:
    beside = layout.outbound_db.with_name(f"outbound.db{suffix}")
    beside.unlink(missing_ok=True)
    beside.symlink_to("nowhere")
    with pytest.raises(InvalidFileError):
        check_outbound(layout.outbound_db)


def test_a_foreign_file_in_wal_mode_is_not_opened_or_changed(layout: SessionLayout) -> None:
    layout.outbound_db.unlink()
    with closing(sqlite3.connect(layout.outbound_db)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (x)")
    before = {path.name: path.read_bytes() for path in layout.out_dir.iterdir()}
    with pytest.raises(InvalidFileError):
        check_outbound(layout.outbound_db)
    assert {path.name: path.read_bytes() for path in layout.out_dir.iterdir()} == before
