"""The heartbeat: a file whose time says that the runner's process is alive. It says nothing about progress."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

INTERVAL_S = 1.0


@contextmanager
def run_heartbeat(path: Path, *, interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Touch the file now and every `interval_s` seconds, from a thread: a busy event loop does not stop it."""
    stop = threading.Event()

    def tick() -> None:
        while True:
            _touch(path)
            if stop.wait(interval_s):
                return

    thread = threading.Thread(target=tick, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _touch(path: Path) -> None:
    try:
        path.touch()
        os.utime(path)
    except OSError:
        return  # a full or read-only disk is the host's to notice: the beat stops


def last_heartbeat(path: Path) -> datetime | None:
    """When it last beat, or None if it never did or the time is no time. A link is not followed: the folder is the
    container's, and so is what it sets the file's time to."""
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return None
