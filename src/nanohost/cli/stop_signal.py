"""Handles SIGINT, SIGTERM and SIGHUP: the first stops in order, the second ends the process at once.

SIGHUP means that a terminal's window was closed; a process that ignores it, as with nohup, continues. Signals are
handled in a separate thread, because the event loop may hang.

Ending at any point is safe: data that must survive is on disk before it is acknowledged.
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
    """A signal requested a stop. Raised on leaving `handle_stop_signals`, after everything inside was closed in
    order."""


class SignalSafeEventLoop(asyncio.SelectorEventLoop):
    """An event loop whose signal handlers do not use the wakeup descriptor.

    With the default loop, a library that adds a signal handler (as prompt_toolkit does for changes of the width) takes
    over the descriptor that `handle_stop_signals` listens on, and other signals are lost.
    """

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        signal.signal(sig, lambda _number, _frame: self.call_soon_threadsafe(callback, *args))

    def remove_signal_handler(self, sig: int) -> bool:
        return signal.signal(sig, signal.SIG_DFL) not in (signal.SIG_DFL, signal.SIG_IGN, None)


MarkStopping = Callable[[], None]
"""Marks that a stop has begun: from now on the first signal cancels nothing."""


@asynccontextmanager
async def handle_stop_signals(on_stop: Callable[[], None] = lambda: None) -> AsyncIterator[MarkStopping]:
    """Cancels this task at the first signal while entered. `on_stop` is called when a stop begins, perhaps more than
    once, and perhaps from another thread."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None, "signals stop a task"
    asked, leaves = False, False

    def on_signal(number: signal.Signals) -> None:
        nonlocal asked
        if not asked:
            asked = True
            on_stop()
            loop.call_soon_threadsafe(cancel)
        elif number is not signal.SIGHUP:  # the kernel and the shell may both send it for a closed window
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
    """Calls `on_signal` from a thread. Python runs signal handlers only in the main thread, but writes a byte for each
    signal at once, which the thread reads."""
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
    """Does nothing: the thread handles the signal."""
