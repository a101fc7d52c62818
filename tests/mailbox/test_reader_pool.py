"""Reader processes: whatever a file does to one, the host continues, and every read ends."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from nanohost.mailbox import queries
from nanohost.mailbox.blocking_reader import BlockingReader
from nanohost.mailbox.reader_client import ReadersBusy, ReadTimedOut
from nanohost.mailbox.reader_pool import MAX_READS, ReaderPool
from nanohost.mailbox.reader_process import RETIRE_AT_BYTES
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.errors import FileNotReady, InvalidFileError, ProtocolError, ReadLimitExceeded
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import MalformedRow, OutboundWriter
from nanohost_protocol.payloads import MAX_CONTENT_BYTES
from nanohost_protocol.rows import MessageOut
from tests.hostile import program
from tests.support.invariants import wait_until

DEADLINE_S = 0.3
MOST_LOOKS = 2000


def made(folder: Path) -> Path:
    layout = SessionLayout(folder)
    layout.out_dir.mkdir(parents=True)
    OutboundWriter(layout.outbound_db, container_id="l", durable=False).close()
    return layout.outbound_db


@contextmanager
def hostile(name: str, database: Path) -> Iterator[None]:
    """Run this hostile program on the file."""
    root = database.parent.parent
    environment = {**os.environ, "NANOHOST_WORKSPACE": str(root)}
    with subprocess.Popen([sys.executable, program.__file__, name], cwd=root, env=environment) as process:
        try:
            while not (root / "at-work").exists():
                assert process.poll() is None
            yield
        finally:
            process.kill()


@asynccontextmanager
async def _opened() -> AsyncIterator[ReaderPool]:
    readers = ReaderPool()
    async with readers.opened():
        yield readers


async def hang(readers: ReaderPool, path: Path) -> bool:
    """Read until a read hangs; returns whether one did."""
    for _ in range(MOST_LOOKS):
        try:
            (await readers.read(path, queries.open_claims(), busy_s=0)).parse(queries.open_claims(), path)
        except ReadTimedOut:
            return True
        except (ProtocolError, ReadersBusy):
            await asyncio.sleep(0)
    return False


async def answered(readers: ReaderPool, path: Path) -> bool:
    """Whether the read of the file succeeds; not if it was ended because others hang."""
    try:
        looked = await readers.read(path, queries.open_claims(), busy_s=0)
    except ReadersBusy:
        return False
    return looked.parse(queries.open_claims(), path) == []


async def test_a_read_that_hangs_in_open_is_ended_and_others_are_served_meanwhile(tmp_path: Path) -> None:
    bad, good = made(tmp_path / "bad"), made(tmp_path / "good")
    readers = ReaderPool(slow_after_s=scaled_timeout(0.02), deadline_s=scaled_timeout(DEADLINE_S))
    async with readers.opened():
        with hostile("swap_journal", bad):
            hanging = [asyncio.create_task(hang(readers, bad)) for _ in range(2 * MAX_READS)]
            assert sum([await answered(readers, good) for _ in range(100)]) > 50
            assert all(await asyncio.gather(*hanging))


async def test_closing_the_pool_ends_a_read_that_would_hang_for_ever(tmp_path: Path) -> None:
    bad = made(tmp_path / "bad")
    readers = ReaderPool(slow_after_s=scaled_timeout(0.02), deadline_s=3600)
    with hostile("swap_journal", bad):
        async with readers.opened():
            looks = [asyncio.create_task(hang(readers, bad)) for _ in range(MAX_READS)]
            await wait_until(lambda: readers.slow_reads > 0)
        assert not any(await asyncio.gather(*looks)), "none of them hung: they were ended"


def test_a_check_in_a_thread_also_ends(tmp_path: Path) -> None:
    bad, good = made(tmp_path / "bad"), made(tmp_path / "good")
    reader = BlockingReader(deadline_s=scaled_timeout(DEADLINE_S))
    with hostile("swap_journal", bad):
        ends = time.monotonic() + scaled_timeout(HANG_TIMEOUT_S)
        hung = False
        while not hung:
            assert time.monotonic() < ends, "no look hung"
            try:
                reader.read(bad, queries.open_claims(), busy_s=0)
            except ReadTimedOut:
                hung = True
            except ProtocolError:
                continue
    assert reader.read(good, queries.open_claims(), busy_s=0) == []
    reader.close()


@pytest.mark.parametrize(
    ("insert", "error", "words"),
    [
        ("INSERT INTO container_state VALUES ('a', hex(zeroblob(9000000)))", ReadLimitExceeded, "more than 16 MiB"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900000) INSERT INTO processing_ack"
            " SELECT i, i, 'completed', 'c', 't', 0, '2026-01-01', NULL, NULL, NULL FROM n",
            ReadLimitExceeded,
            "longer to read",
        ),
        ("CREATE TABLE more (a)", InvalidFileError, "other tables"),
    ],
)
async def test_an_invalid_mailbox_file_is_refused_with_the_reason(
    tmp_path: Path, insert: str, error: type[ProtocolError], words: str
) -> None:
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(insert)
    async with _opened() as readers:
        looked = await readers.read(path, queries.progress(), busy_s=0)
        with pytest.raises(error, match=words):
            looked.parse(queries.progress(), path)


async def test_a_missing_file_is_not_ready(tmp_path: Path) -> None:
    async with _opened() as readers:
        looked = await readers.read(tmp_path / "outbound.db", queries.progress(), busy_s=0)
        with pytest.raises(FileNotReady):
            looked.parse(queries.progress(), tmp_path)


async def test_a_reader_process_has_no_environment_and_no_descriptor_of_the_host(tmp_path: Path) -> None:
    path = made(tmp_path)
    async with _opened() as readers:
        await readers.read(path, queries.progress(), busy_s=0)
        [process] = readers.idle_pids()
        folder = Path("/proc") / str(process)
        assert (folder / "environ").read_bytes() == b""
        opened = {str(link.readlink()) for link in (folder / "fd").iterdir()}
    assert {target for target in opened if not target.startswith("socket:")} == {"/dev/null"}


async def test_a_reader_process_serves_many_reads_however_large_the_host_is(tmp_path: Path) -> None:
    path = made(tmp_path)
    large = bytearray(b"1" * (2 * RETIRE_AT_BYTES))
    async with _opened() as readers:
        processes = set[int]()
        for _ in range(3):
            await readers.read(path, queries.progress(), busy_s=0)
            processes |= set(readers.idle_pids())
    assert len(processes) == 1
    assert len(large) > RETIRE_AT_BYTES


async def test_a_reader_process_that_used_much_memory_is_replaced(tmp_path: Path) -> None:
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
            " VALUES (1, 'o', 't', '2026-01-01T00:00:00.000000Z', 'chat', ?)",
            ("\x00" * 4_000_000,),
        )
    query = queries.outbox_batch(0, limit=10, ack_cursor=0, with_acks=False)
    async with _opened() as readers:
        for _ in range(3):
            looked = await readers.read(path, query, busy_s=0)
            [row] = _rows(looked.parse(query, path))
            assert isinstance(row, MessageOut)
            assert len(row.content) == 4_000_000


async def test_oversized_content_with_an_early_nul_is_left_out(tmp_path: Path) -> None:
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
            " VALUES (1, 'o', 't', '2026-01-01T00:00:00.000000Z', 'chat', ?)",
            ("\x00" * (MAX_CONTENT_BYTES + 1),),
        )
    query = queries.outbox_batch(0, limit=10, ack_cursor=0, with_acks=False)
    async with _opened() as readers:
        [row] = _rows((await readers.read(path, query, busy_s=0)).parse(query, path))
    assert isinstance(row, MessageOut)
    assert row.content == ""


def _rows(found: queries.OutboxBatch) -> list[MessageOut | MalformedRow]:
    assert found.rows is not None
    return found.rows.rows
