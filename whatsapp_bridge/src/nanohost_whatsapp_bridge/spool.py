"""Messages that the host has not accepted yet, on disk: WhatsApp's servers forget a message once the device has it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path


class Spool:
    """Lines by key, in the order they came. Survives the process; readable by its user only."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("CREATE TABLE IF NOT EXISTS waiting (at INTEGER PRIMARY KEY, key TEXT UNIQUE, line BLOB)")

    def add(self, key: str, line: bytes) -> bool:
        """False if there is one with this key."""
        return self._db.execute("INSERT OR IGNORE INTO waiting (key, line) VALUES (?, ?)", (key, line)).rowcount == 1

    def remove(self, key: str) -> None:
        self._db.execute("DELETE FROM waiting WHERE key = ?", (key,))

    def pending(self) -> Iterator[bytes]:
        for (line,) in self._db.execute("SELECT line FROM waiting ORDER BY at").fetchall():
            yield line

    def close(self) -> None:
        self._db.close()
