"""Checks an outbound.db before the host opens it.

The container may put anything in its place: a link to a file of the host, a FIFO that blocks for ever, a database in
WAL mode whose shared memory it truncates while we read. Each is rejected before SQLite opens it. If the file changes
between the check and the open, the reader's other guards apply (read-only, exclusive locking so that no shared memory
is used, a deadline).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nanohost_protocol.errors import FileNotReady, InvalidFileError

MAX_BYTES = 1024**3
"""A mailbox is pruned after it is read, so a gigabyte is an attack."""
_ROLLBACK_MODE = b"\x01\x01"
"""Bytes 18 and 19 of a database that uses a rollback journal."""


def check_outbound(path: Path) -> None:
    """Check that the file can be opened safely. Raises FileNotReady if there is nothing to read yet, InvalidFileError
    if the host must not open it."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise FileNotReady(f"{path} is not there") from None
    _check_regular_file(path, found)
    if found.st_size == 0:
        raise FileNotReady(f"{path} has no tables yet")
    if found.st_size > MAX_BYTES:
        raise InvalidFileError(f"{path} has {found.st_size} bytes, more than any mailbox")
    _check_journals(path)
    _check_journal_mode(path)


def _check_regular_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise InvalidFileError(f"{path} is not a plain file")


def _check_journals(path: Path) -> None:
    journal = path.with_name(path.name + "-journal")
    try:
        found = journal.lstat()
    except FileNotFoundError:
        pass
    else:
        _check_regular_file(journal, found)
    for suffix in ("-wal", "-shm"):
        if os.path.lexists(f"{path}{suffix}"):
            raise InvalidFileError(f"{path}{suffix} does not belong to a mailbox")


def _check_journal_mode(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        header = os.pread(descriptor, 20, 0)
    finally:
        os.close(descriptor)
    if header[18:20] != _ROLLBACK_MODE:
        raise InvalidFileError(f"{path} is not in rollback mode")
