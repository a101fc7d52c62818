"""Reader processes: whatever a file does to one, the host goes on, and every look ends."""

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
from nanohost.mailbox.reader_client import AllLate, LookHung
from nanohost.mailbox.reader_process import RETIRE_AT
from nanohost.mailbox.readers import MOST, Readers
from nanohost.testing.limits import HANG_S, seconds
from nanohost_protocol.errors import NotOurs, NotReady, ProtocolError, TooMuch
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import Malformed, OutboundWriter
from nanohost_protocol.payloads import MAX_CONTENT_BYTES
from nanohost_protocol.rows import MessageOut
from tests.hostile import program
from tests.support.invariants import until

DEADLINE_S = 0.3
MOST_LOOKS = 2000


def made(folder: Path) -> Path:
    layout = SessionLayout(folder)
    layout.out_dir.mkdir(parents=True)
    OutboundWriter(layout.outbound_db, container_id="l", durable=False).close()
    return layout.outbound_db


@contextmanager
def hostile(name: str, database: Path) -> Iterator[None]:
    """That program at work on that file."""
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
async def _opened() -> AsyncIterator[Readers]:
    readers = Readers()
    async with readers.opened():
        yield readers


async def hang(readers: Readers, path: Path) -> bool:
    """Look until a look hangs: whether one did."""
    for _ in range(MOST_LOOKS):
        try:
            (await readers.look(path, queries.open_claims(), busy_s=0)).value(queries.open_claims(), path)
        except LookHung:
            return True
        except (ProtocolError, AllLate):
            await asyncio.sleep(0)
    return False


async def answered(readers: Readers, path: Path) -> bool:
    """Whether the file's look has its answer; not so when it was given up for others that are late."""
    try:
        looked = await readers.look(path, queries.open_claims(), busy_s=0)
    except AllLate:
        return False
    return looked.value(queries.open_claims(), path) == []


async def test_a_look_that_waits_in_open_ends_and_others_are_answered_meanwhile(tmp_path: Path) -> None:
    bad, good = made(tmp_path / "bad"), made(tmp_path / "good")
    readers = Readers(late_s=seconds(0.02), deadline_s=seconds(DEADLINE_S))
    async with readers.opened():
        with hostile("swap_journal", bad):
            hanging = [asyncio.create_task(hang(readers, bad)) for _ in range(2 * MOST)]
            assert sum([await answered(readers, good) for _ in range(100)]) > 50
            assert all(await asyncio.gather(*hanging))


async def test_leaving_ends_a_look_that_would_wait_for_ever(tmp_path: Path) -> None:
    bad = made(tmp_path / "bad")
    readers = Readers(late_s=seconds(0.02), deadline_s=3600)
    with hostile("swap_journal", bad):
        async with readers.opened():
            looks = [asyncio.create_task(hang(readers, bad)) for _ in range(MOST)]
            await until(lambda: readers.late > 0)
        assert not any(await asyncio.gather(*looks)), "none of them hung: they were ended"


def test_a_check_that_runs_in_a_thread_ends_too(tmp_path: Path) -> None:
    bad, good = made(tmp_path / "bad"), made(tmp_path / "good")
    reader = BlockingReader(deadline_s=seconds(DEADLINE_S))
    with hostile("swap_journal", bad):
        ends = time.monotonic() + seconds(HANG_S)
        hung = False
        while not hung:
            assert time.monotonic() < ends, "no look hung"
            try:
                reader.look(bad, queries.open_claims(), busy_s=0)
            except LookHung:
                hung = True
            except ProtocolError:
                continue
    assert reader.look(good, queries.open_claims(), busy_s=0) == []
    reader.end()


@pytest.mark.parametrize(
    ("insert", "error", "words"),
    [
        ("INSERT INTO container_state VALUES ('a', hex(zeroblob(9000000)))", TooMuch, "more than 16 MiB"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900000) INSERT INTO processing_ack"
            " SELECT i, i, 'completed', 'c', 't', 0, '2026-01-01', NULL, NULL, NULL FROM n",
            TooMuch,
            "longer to read",
        ),
        ("CREATE TABLE more (a)", NotOurs, "other tables"),
    ],
)
async def test_a_file_that_is_no_mailbox_is_refused_with_the_reason(
    tmp_path: Path, insert: str, error: type[ProtocolError], words: str
) -> None:
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(insert)
    async with _opened() as readers:
        looked = await readers.look(path, queries.progress(), busy_s=0)
        with pytest.raises(error, match=words):
            looked.value(queries.progress(), path)


async def test_a_file_that_is_not_there_is_no_news(tmp_path: Path) -> None:
    async with _opened() as readers:
        looked = await readers.look(tmp_path / "outbound.db", queries.progress(), busy_s=0)
        with pytest.raises(NotReady):
            looked.value(queries.progress(), tmp_path)


async def test_a_reader_has_no_environment_and_no_descriptor_of_the_hosts(tmp_path: Path) -> None:
    path = made(tmp_path)
    async with _opened() as readers:
        await readers.look(path, queries.progress(), busy_s=0)
        [process] = readers.processes()
        folder = Path("/proc") / str(process)
        assert (folder / "environ").read_bytes() == b""
        opened = {str(link.readlink()) for link in (folder / "fd").iterdir()}
    assert {target for target in opened if not target.startswith("socket:")} == {"/dev/null"}


async def test_a_reader_serves_many_looks_however_large_its_host_is(tmp_path: Path) -> None:
    path = made(tmp_path)
    large = bytearray(b"1" * (2 * RETIRE_AT))
    async with _opened() as readers:
        processes = set[int]()
        for _ in range(3):
            await readers.look(path, queries.progress(), busy_s=0)
            processes |= set(readers.processes())
    assert len(processes) == 1
    assert len(large) > RETIRE_AT


async def test_a_reader_that_took_much_memory_is_replaced(tmp_path: Path) -> None:
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
            " VALUES (1, 'o', 't', '2026-01-01T00:00:00.000000Z', 'chat', ?)",
            ("\x00" * 4_000_000,),
        )
    query = queries.news(0, limit=10, ack_cursor=0, with_acks=False)
    async with _opened() as readers:
        for _ in range(3):
            looked = await readers.look(path, query, busy_s=0)
            [row] = _rows(looked.value(query, path))
            assert isinstance(row, MessageOut)
            assert len(row.content) == 4_000_000


async def test_content_whose_length_ends_at_its_first_nul_is_left_out_when_it_is_too_long(tmp_path: Path) -> None:
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
            " VALUES (1, 'o', 't', '2026-01-01T00:00:00.000000Z', 'chat', ?)",
            ("\x00" * (MAX_CONTENT_BYTES + 1),),
        )
    query = queries.news(0, limit=10, ack_cursor=0, with_acks=False)
    async with _opened() as readers:
        [row] = _rows((await readers.look(path, query, busy_s=0)).value(query, path))
    assert isinstance(row, MessageOut)
    assert row.content == ""


def _rows(found: queries.OutboxNews) -> list[MessageOut | Malformed]:
    assert found.rows is not None
    return found.rows.rows
