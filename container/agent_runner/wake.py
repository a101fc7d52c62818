"""Listens on the wake FIFO in the read-only folder `in`. A byte in it means that inbound.db has changed.

Without it everything works by polling, only later. It never carries data.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK_BYTES = 4096


class WakeFifo:
    """The reading end of the FIFO, attached to the event loop."""

    def __init__(self, path: Path, on_wake: Callable[[], None]) -> None:
        self._path = path
        self._on_wake = on_wake
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = None

    def attach(self) -> None:
        """Starts to listen. Does nothing if there is no FIFO."""
        with suppress(OSError):
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._loop.add_reader(self._fd, self._on_readable)

    def detach(self) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _on_readable(self) -> None:
        assert self._fd is not None
        try:
            ended = os.read(self._fd, _CHUNK_BYTES) == b""
        except BlockingIOError:
            return
        if ended:
            self._reopen()
        self._on_wake()

    def _reopen(self) -> None:
        """Opens the FIFO again after the last writer has closed it: the old descriptor would always be readable.

        The new descriptor is opened before the old one is closed, so that a byte written in between is not lost.
        """
        old = self._fd
        assert old is not None
        self._loop.remove_reader(old)
        self._fd = None
        self.attach()
        os.close(old)


@contextmanager
def listen_for_wake(path: Path, on_wake: Callable[[], None]) -> Iterator[None]:
    """Calls `on_wake` on the loop for each byte of the host, while the block runs."""
    fifo = WakeFifo(path, on_wake)
    fifo.attach()
    try:
        yield
    finally:
        fifo.detach()
