"""Opens the files: pragmas for writers and readers, the version check, and the translation of errors.

Writers truncate a rollback journal, with full sync: a committed row survives a power failure. Readers open the file
read-only, do not trust its schema, and stop at a deadline. Never WAL: a hostile container could truncate the
shared-memory file under the host. Never `immutable`: it would skip the locks.
"""

from __future__ import annotations

import itertools
import math
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

from nanohost_protocol import VERSION
from nanohost_protocol.errors import (
    FileLocked,
    FileNotReady,
    InvalidFileError,
    ProtocolError,
    ReadLimitExceeded,
    VersionMismatch,
)
from nanohost_protocol.payloads import MAX_CONTENT_BYTES
from nanohost_protocol.schema import FileSchema

READ_TIMEOUT_S = 2.0
"""A read takes 0.2 ms. One that takes this long is an attack, or the disk is failing."""
READ_BUSY_TIMEOUT_S = 0.2
STEPS_PER_CHECK = 10_000
"""Steps of SQLite's virtual machine between two checks of the clock: about a millisecond."""
MAX_VALUE_BYTES = 4 * MAX_CONTENT_BYTES
"""The most bytes of one value or row that a reader accepts: room for the largest content and the other columns. SQLite
rejects longer ones before it allocates memory for them."""

_READER_PRAGMAS = (
    "query_only = 1",
    "trusted_schema = 0",
    "cell_size_check = 1",
    "mmap_size = 0",
    # In WAL mode this asks for a lock that a read-only file cannot give, before shared memory is touched.
    "locking_mode = EXCLUSIVE",
)
_ROLLBACK_NEEDED = {"SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY", "SQLITE_READONLY_CANTINIT"}


@contextmanager
def translate_errors(file: str) -> Iterator[None]:
    """Translate the errors of sqlite3 into ProtocolErrors that name the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise _to_protocol_error(file, error) from error


def _to_protocol_error(file: str, error: sqlite3.Error) -> ProtocolError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name in _ROLLBACK_NEEDED:
        return FileNotReady(f"{file} was left by a process that died; its owner has to open it first")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return FileLocked(f"{file} is held by the other side")
    if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CORRUPT_INDEX", "SQLITE_FORMAT"}:
        return InvalidFileError(f"{file} is not a database or is damaged ({error})")
    if name == "SQLITE_CANTOPEN":
        return FileNotReady(f"{file} is not there")
    if name == "SQLITE_INTERRUPT":
        return ReadLimitExceeded(f"{file} takes longer to read than any mailbox")
    if name == "SQLITE_TOOBIG":
        return ReadLimitExceeded(f"{file} holds a value of more than {MAX_VALUE_BYTES // 1024**2} MiB")
    return ProtocolError(f"{file}: {error}")


def connect_writer(
    path: Path, schema: FileSchema, *, busy_timeout_s: float, durable: bool = True
) -> sqlite3.Connection:
    """Open a file for writing, roll back what a process that died left, and create the tables in an empty file.

    `durable=False` turns sync off, for tests. Raises InvalidFileError, VersionMismatch, FileLocked.
    """
    with translate_errors(str(path)):
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA mmap_size = 0")
            connection.execute("PRAGMA trusted_schema = 0")
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            _ensure_schema(connection, path, schema)
        except BaseException:
            connection.close()
            raise
        connection.row_factory = sqlite3.Row
        return connection


def _ensure_schema(connection: sqlite3.Connection, path: Path, schema: FileSchema) -> None:
    if not _is_empty(connection):
        check_version(connection, path, schema)
        return
    with immediate_transaction(connection):
        if not _is_empty(connection):
            return
        for statement in split_statements(schema.sql):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]) == 0


def split_statements(script: str) -> Iterator[str]:
    """Yields the statements of an SQL script, so that the caller can run them in a transaction."""
    pending = ""
    for piece in re.split("(?<=;)", script):
        pending += piece
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending


def check_version(connection: sqlite3.Connection, path: Path, schema: FileSchema) -> None:
    """Raises FileNotReady for a file without tables, InvalidFileError for another program's, VersionMismatch."""
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if mark == 0 and version == 0 and _is_empty(connection):
        raise FileNotReady(f"{path} has no tables yet")
    if mark != schema.application_id:
        raise InvalidFileError(f"{path} is not a nanohost {schema.name} (its mark is {mark:#x})")
    if version != VERSION:
        raise VersionMismatch(str(path), found=version, expected=VERSION)


@contextmanager
def immediate_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that has the write lock from its start. It is rolled back if the block raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def read_snapshot(
    path: Path,
    schema: FileSchema,
    *,
    timeout_s: float = READ_TIMEOUT_S,
    busy_timeout_s: float = READ_BUSY_TIMEOUT_S,
    max_steps: int | None = None,
) -> Iterator[sqlite3.Connection]:
    """Open a file read-only in one consistent snapshot.

    `busy_timeout_s`: how long to wait for a lock. `max_steps`: of SQLite's virtual machine, for all statements
    together; a busy machine does not change the count. Raises FileNotReady (nothing to read yet), InvalidFileError,
    VersionMismatch, FileLocked, and ReadLimitExceeded at the deadline, at `max_steps`, or at a value that is too long.
    """
    with translate_errors(str(path)):
        uri = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None)) as connection:
            connection.set_progress_handler(_make_progress_handler(timeout_s, max_steps), STEPS_PER_CHECK)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            for pragma in _READER_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            connection.row_factory = sqlite3.Row
            connection.text_factory = _decode_lenient
            connection.execute("BEGIN")
            check_version(connection, path, schema)
            _check_schema_objects(connection, path, schema)
            yield connection


def _make_progress_handler(timeout_s: float, max_steps: int | None) -> Callable[[], bool]:
    """Returns a function that SQLite calls every STEPS_PER_CHECK steps; True ends the statement."""
    give_up_at = time.monotonic() + timeout_s
    calls = itertools.count(1)
    most_calls = math.inf if max_steps is None else max_steps / STEPS_PER_CHECK
    return lambda: next(calls) > most_calls or time.monotonic() > give_up_at


def _decode_lenient(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _check_schema_objects(connection: sqlite3.Connection, path: Path, schema: FileSchema) -> None:
    """Check that the file holds exactly our tables, and no view, trigger or virtual table that could run code. Raises
    InvalidFileError."""
    found = connection.execute(_SCHEMA_OBJECTS).fetchmany(100)
    if {tuple(row) for row in found} != _expected_objects(schema):
        raise InvalidFileError(f"{path} holds other tables than a nanohost {schema.name} does")


_SCHEMA_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_schema"


@cache
def _expected_objects(schema: FileSchema) -> frozenset[tuple[str | None, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in split_statements(schema.sql):
            connection.execute(statement)
        return frozenset(connection.execute(_SCHEMA_OBJECTS).fetchall())
