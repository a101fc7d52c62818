"""Reads lines from standard input."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TextIO


async def read_lines(stdin: TextIO) -> AsyncIterator[str]:
    """Yields lines as they are typed. A daemon thread reads them, since a read of a terminal cannot be cancelled."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        with suppress(RuntimeError):  # the loop is closed
            with suppress(OSError, ValueError):  # the terminal is gone, which also ends the input
                for line in stdin:
                    loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\n"))
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line
