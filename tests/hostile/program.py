"""What a hostile agent does from inside its container: one program, started by a scripted agent in its folder.

python3 program.py WHAT, where WHAT is one of PROGRAMS. It says that it is at work by making the file `at-work` in its
folder, and goes on until it is killed. Standard library only: it runs in any container. Each is harmless to anything
but the session that it runs in.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

OUT = Path(os.environ.get("NANOHOST_WORKSPACE", "/workspace")) / "out"
IN = OUT.parent / "in"
DATABASE = OUT / "outbound.db"
JOURNAL = OUT / "outbound.db-journal"
RENAME_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
FLOOD_ROWS = 900_000
BATCH_ROWS = 20_000
LARGE_BYTES = 250 * 1024 * 1024
MIB = 1024 * 1024
MAX_RUNTIME_S = 120.0
# Rows are inserted OR IGNORE: the runner goes on in the same file, and may have taken the number that comes next.


def swap_journal() -> None:
    """Swaps the journal between a pipe that nobody writes to and a plain file, every few microseconds."""
    pipe = OUT / "pipe"
    os.mkfifo(pipe)
    JOURNAL.touch()
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(pipe), os.fsencode(JOURNAL))
    _at_work()
    until = time.monotonic() + MAX_RUNTIME_S
    while time.monotonic() < until:
        for _ in range(10_000):
            libc.renameat2(-100, names[0], -100, names[1], RENAME_EXCHANGE)
        os.utime(DATABASE)  # it is read once more


def lock() -> None:
    """Holds the write lock of its outbound.db."""
    connection = sqlite3.connect(DATABASE, isolation_level=None, timeout=60)
    connection.execute("BEGIN EXCLUSIVE")
    _at_work()
    until = time.monotonic() + MAX_RUNTIME_S
    while time.monotonic() < until:
        os.utime(DATABASE)  # it is read once more
        time.sleep(0.05)


def lock_inbound() -> None:
    """Reads the host's inbound.db in a transaction that never ends."""
    connection = sqlite3.connect(f"file:{IN / 'inbound.db'}?mode=ro", uri=True, isolation_level=None, timeout=60)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM meta").fetchall()
    _at_work()
    time.sleep(MAX_RUNTIME_S)


def lease_inbound() -> None:
    """Takes a lease on the host's inbound.db: opening it for writing waits, in open(2), until the lease is broken."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    descriptor = os.open(IN / "inbound.db", os.O_RDONLY)
    _at_work()
    until = time.monotonic() + MAX_RUNTIME_S
    while time.monotonic() < until:
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        time.sleep(0.001)


def fill_table() -> None:
    """Writes more acks than any read should search, and keeps touching its file."""
    with closing(sqlite3.connect(DATABASE, timeout=60)) as database:
        database.execute("PRAGMA synchronous = OFF")
        _at_work()
        row = "'completed', 'c', 't', 0, '2026-01-01T00:00:00.000000Z', NULL, NULL, NULL"
        for first in range(0, FLOOD_ROWS, BATCH_ROWS):  # or it would be stopped for its lock
            with database:
                database.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1000000 + ? UNION ALL SELECT i + 1 FROM n LIMIT ?)"
                    f" INSERT OR IGNORE INTO processing_ack SELECT 'x' || i, i, {row} FROM n",
                    (first, BATCH_ROWS),
                )
        _touch(database)


def large_state() -> None:
    """Keeps 250 MB in the state that a read returns, and keeps touching its file."""
    with closing(sqlite3.connect(DATABASE, timeout=60)) as database:
        database.execute("PRAGMA synchronous = OFF")
        with database:
            for number in range(LARGE_BYTES // (8 * 1024 * 1024)):
                database.execute(
                    "INSERT OR REPLACE INTO container_state VALUES (?, hex(zeroblob(?)))",
                    (f"key-{number}", 4 * 1024 * 1024),
                )
        _at_work()
        _touch(database)


def large_text() -> None:
    """Writes one text of 200 MB, and keeps touching its file."""
    with closing(sqlite3.connect(DATABASE, timeout=60)) as database:
        database.execute("PRAGMA synchronous = OFF")
        with database:
            database.execute(
                "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
                " VALUES (100001, 'large', 't', '2026-01-01T00:00:00.000000Z', 'chat', hex(zeroblob(?)))",
                (100 * 1024 * 1024,),
            )
        _at_work()
        _touch(database)


def flood_requests() -> None:
    """Makes 500 requests a second that are refused."""
    with closing(sqlite3.connect(DATABASE, timeout=60)) as database:
        database.execute("PRAGMA synchronous = OFF")
        _at_work()
        number = 100_001
        until = time.monotonic() + MAX_RUNTIME_S
        while time.monotonic() < until:
            with database:
                for _ in range(100):
                    number += 2
                    database.execute(
                        "INSERT OR IGNORE INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
                        " VALUES (?, 'r' || ?, 't', '2026-01-01T00:00:00.000000Z', 'system',"
                        """ '{"action": "format_disk", "arguments": "{}"}')""",
                        (number, number),
                    )
            time.sleep(0.2)


def fill_out() -> None:
    """Fills its out folder with 24 MB."""
    _hoard(OUT)


def fill_state() -> None:
    """Fills its state folder with 24 MB."""
    _hoard(OUT.parent / "state")


def fill_workspace() -> None:
    """Fills the agent's workspace with 24 MB."""
    _hoard(Path.cwd())


def fill_renamed() -> None:
    """Fills a folder with 24 MB that is renamed all the time, among so many that reading their names takes long."""
    for number in range(2000):
        Path("many", str(number)).mkdir(parents=True)
    hidden = Path("many", "hidden-0")
    hidden.mkdir()
    _hoard(hidden)
    os.chdir("many")
    until, number = time.monotonic() + MAX_RUNTIME_S, 0
    while time.monotonic() < until:
        number += 1
        os.rename(f"hidden-{number - 1}", f"hidden-{number}")  # noqa: PTH104 - as fast as can be


def fill_disk() -> None:
    """Fills most of a disk of 200 MB at once, and the rest slowly enough to be noticed."""
    with Path("hoard").open("wb") as hoard:
        os.posix_fallocate(hoard.fileno(), 0, 160 * MIB)
        _at_work()
        hoard.seek(0, os.SEEK_END)
        for _ in range(40):
            hoard.write(b"\1" * MIB)
            hoard.flush()
            time.sleep(0.2)


def _hoard(folder: Path) -> None:
    (folder / "hoard").write_bytes(b"\1" * 24 * MIB)
    _at_work()


def fill_log() -> None:
    """Does that in the log of its output, behind the log's end, where its length does not show it."""
    keep_size = 1
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
    logs = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if "container.log" in str((process / "fd" / "2").readlink()):
                logs.append(os.open(process / "fd" / "2", os.O_WRONLY))
    for log in logs[:1]:
        fallocate(log, keep_size, 0, 160 * MIB)
    _at_work()
    for number in range(40):
        for log in logs[:1]:
            fallocate(log, keep_size, 0, (160 + number) * MIB)
        time.sleep(0.1)


def flood_acks() -> None:
    """Acks unknown messages, 5,000 a second."""
    with closing(sqlite3.connect(DATABASE, timeout=60)) as database:
        database.execute("PRAGMA synchronous = OFF")
        _at_work()
        number = 1_000_000
        until = time.monotonic() + MAX_RUNTIME_S
        while time.monotonic() < until:
            with database:
                row = "'completed', 'c', 't' || ?, 0, '2026-01-01T00:00:00.000000Z', NULL, NULL, NULL"
                database.executemany(
                    f"INSERT OR IGNORE INTO processing_ack VALUES ('x' || ?, ?, {row})",
                    [(one, one, one) for one in range(number, number + 250)],
                )
            number += 250
            time.sleep(0.05)


def flood_gateway() -> None:
    """Makes endless requests to the model: eight connections, twenty requests at once on each, again and again."""
    socket_path = str(OUT.parent / "run" / "gateway.sock")
    _at_work()
    for _ in range(8):
        threading.Thread(target=_flood, args=(socket_path,), daemon=True).start()
    time.sleep(MAX_RUNTIME_S)


def _flood(socket_path: str) -> None:
    requests = (
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    while True:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as gateway:
            gateway.connect(socket_path)
            for number in range(1_000):
                gateway.sendall(requests[number % 2] * 20)
                if not gateway.recv(MIB):
                    break


def _touch(database: sqlite3.Connection) -> None:
    until = time.monotonic() + MAX_RUNTIME_S
    while time.monotonic() < until:
        with database:
            database.execute("INSERT OR REPLACE INTO session_state VALUES ('touched', hex(randomblob(4)))")
        time.sleep(0.05)


def _at_work() -> None:
    Path("at-work").touch()


PROGRAMS: Mapping[str, Callable[[], None]] = {
    program.__name__: program
    for program in (
        swap_journal,
        lock,
        lock_inbound,
        lease_inbound,
        fill_table,
        large_state,
        large_text,
        flood_requests,
        flood_acks,
        flood_gateway,
        fill_out,
        fill_state,
        fill_workspace,
        fill_renamed,
        fill_disk,
        fill_log,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]]()
