"""Holds the lock that makes this runner the only writer of outbound.db.

It is held until the process ends, and freed by the kernel even after a kill; host and other containers can probe it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriterLockHeld(Exception):
    """Another runner has this session."""


@contextmanager
def hold_writer_lock(path: Path) -> Iterator[None]:
    """Holds the lock while the block runs. Raises WriterLockHeld at once if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WriterLockHeld(f"another runner has this session: {path} is locked") from None
        yield
    finally:
        os.close(descriptor)
