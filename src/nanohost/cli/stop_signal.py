"""Handles SIGINT, SIGTERM and SIGHUP: the first stops in order, the second ends the process at once.

SIGHUP is a terminal's window that is closed; a process that was told to ignore it, by nohup say, goes on. Signals are
heard in a thread of its own: the event loop may be what hangs.

Ending anywhere is safe: what must survive is on disk before anybody is told so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import TypeVarTuple

Ts = TypeVarTuple("Ts")

EXIT_INTERRUPTED = 130


class StopRequested(Exception):
    """A signal asked to stop. Raised where `handle_stop_signals` is left, after everything inside was left in order."""


class SignalSafeEventLoop(asyncio.SelectorEventLoop):
    """A library that adds a handler of a signal to the usual loop (prompt_toolkit, to know of another width) takes the
    descriptor at which `handle_stop_signals` listens, and nobody hears the others. With this one it does not."""

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        signal.signal(sig, lambda _number, _frame: self.call_soon_threadsafe(callback, *args))

    def remove_signal_handler(self, sig: int) -> bool:
        return signal.signal(sig, signal.SIG_DFL) not in (signal.SIG_DFL, signal.SIG_IGN, None)


MarkStopping = Callable[[], None]
"""Says that what is inside ends by itself: from now on the first signal cuts nothing, since a stop is under way."""


@asynccontextmanager
async def handle_stop_signals(on_stop: Callable[[], None] = lambda: None) -> AsyncIterator[MarkStopping]:
    """While entered, the first signal cancels this task, whether it starts, serves or waits. `on_stop` is called when a
    stop begins, perhaps again, and perhaps from a thread."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None, "signals stop a task"
    asked, leaves = False, False

    def on_signal(number: signal.Signals) -> None:
        nonlocal asked
        if not asked:
            asked = True
            on_stop()
            loop.call_soon_threadsafe(cancel)
        elif number is not signal.SIGHUP:  # the kernel and the shell may both say that the window is closed
            os._exit(EXIT_INTERRUPTED)

    def cancel() -> None:
        if not leaves:
            task.cancel()

    def leaving() -> None:
        nonlocal leaves
        leaves = True
        on_stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    with _listen_for_signals(numbers, on_signal):
        try:
            yield leaving
        except asyncio.CancelledError:
            if not asked:
                raise
            task.uncancel()
            raise StopRequested from None
        finally:
            leaves = True


@contextmanager
def _listen_for_signals(
    signals: Sequence[signal.Signals], on_signal: Callable[[signal.Signals], None]
) -> Iterator[None]:
    """Tell of these signals from a thread. Python's own handlers wait for the main thread; the byte that it writes for
    each signal does not."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        while heard := ours.recv(1):
            if heard[0] in signals:
                on_signal(signal.Signals(heard[0]))

    listening = threading.Thread(target=listen, name="signals", daemon=True)
    before = {number: signal.signal(number, _ignore_signal) for number in signals}
    descriptor_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    listening.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
        listening.join()
        ours.close()


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """It has been heard by the thread."""
