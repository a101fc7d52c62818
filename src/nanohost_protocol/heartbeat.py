"""Implements the heartbeat: the runner's process touches a file while it is alive. It shows no progress of a turn."""

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
        return  # the disk is full or read-only: the host notices that the heartbeat stops


def last_heartbeat(path: Path) -> datetime | None:
    """Returns the time of the last heartbeat; None if there was none, or if the file's time is invalid. Follows no
    link: the container controls the folder and can set any time."""
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return None
