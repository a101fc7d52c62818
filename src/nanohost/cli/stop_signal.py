"""What SIGINT and SIGTERM do: the first stops in order, the second ends the process where it stands.

Ending anywhere is safe: what must survive is on disk before anybody is told so.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

NOW = 130


class Stopped(Exception):
    """A signal asked to stop. Raised where `stoppable` is left, after everything inside was left in order."""


@asynccontextmanager
async def stoppable() -> AsyncIterator[None]:
    """While entered, the first signal cancels this task, whether it starts, serves or waits."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None, "signals stop a task"
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            os._exit(NOW)
        asked = True
        task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    except asyncio.CancelledError:
        if not asked:
            raise
        task.uncancel()
        raise Stopped from None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
