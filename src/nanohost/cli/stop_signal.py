"""What SIGINT, SIGTERM and SIGHUP do: the first stops in order, the second ends the process where it stands.

SIGHUP is a terminal's window that is closed; a process that was told to ignore it, by nohup say, goes on.

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

    def on_signal(number: signal.Signals) -> None:
        nonlocal asked
        if not asked:
            asked = True
            task.cancel()
        elif number is not signal.SIGHUP:  # the kernel and the shell may both say that the window is closed
            os._exit(NOW)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
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
