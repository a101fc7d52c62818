"""The host's end of the reader processes: few, started when needed, replaced when one does not come back.

Promises: at most MOST look at once and nobody waits for a look that is late, because a late one gives its place back
while it goes on (up to MOST_LATE of them; beyond that it is killed at once). Every look ends: the reader's own timer
ends it, and ours if that does not. Leaving kills what is left, so that no look keeps a host from stopping.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from nanohost.mailbox.queries import Query
from nanohost.mailbox.reader_client import (
    DEADLINE_S,
    MOST_ANSWER,
    NET_S,
    AllLate,
    Looked,
    LookHung,
    ended,
    request,
    spawn,
)
from nanohost.mailbox.reader_process import LENGTH
from nanohost_protocol.errors import ProtocolError

T = TypeVar("T")

MOST = 2
"""Looks at once. A look takes 0.3 ms; the machine has few processors, and the host needs one."""
MOST_LATE = 4
LATE_S = 0.25
"""A look that takes longer gives its place to others."""
STREAM_BUFFER = 1024 * 1024
KILLED = -9

_log = structlog.get_logger()


class Readers:
    """Reader processes. `late_s` and `deadline_s`: see LATE_S and DEADLINE_S."""

    def __init__(self, *, late_s: float = LATE_S, deadline_s: float = DEADLINE_S) -> None:
        self._late_s = late_s
        self._deadline_s = deadline_s
        self._places = asyncio.Semaphore(MOST)
        self._idle: list[_Reader] = []
        self._asked: set[asyncio.Future[Looked]] = set()
        self._late = 0
        self._is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Leaving ends all readers, whatever they are at."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            for asked in self._asked:
                asked.cancel()
            await asyncio.gather(*self._asked, return_exceptions=True)
            idle, self._idle = self._idle, []
            await asyncio.gather(*(reader.end() for reader in idle))

    @property
    def late(self) -> int:
        """Looks that have given their place back and go on."""
        return self._late

    def processes(self) -> tuple[int, ...]:
        """Process ids of the readers that wait for a look."""
        return tuple(reader.pid for reader in self._idle)

    async def look(self, path: Path, query: Query[T], *, busy_s: float) -> Looked:
        """What the query finds in an outbound.db or why it cannot, and the processor seconds that took.

        `busy_s`: how long to wait for a lock. Raises LookHung, AllLate, and ProtocolError when the process ended for
        another reason.
        """
        words = request(path, query, busy_s=busy_s, deadline_s=self._deadline_s)
        asking = await self._begin(words, path)
        try:
            if not asking.done() and self._late >= MOST_LATE:
                raise AllLate
            self._late += 1
            try:
                return await asyncio.wait_for(asyncio.shield(asking), self._deadline_s + NET_S)
            finally:
                self._late -= 1
        except TimeoutError:
            raise LookHung(f"{path} did not let itself be read") from None
        except asyncio.CancelledError:
            if self._is_open:
                raise
            raise _stopping(path) from None
        finally:
            asking.cancel()

    async def _begin(self, words: bytes, path: Path) -> asyncio.Future[Looked]:
        """A look that has its answer, or is late."""
        async with self._places:
            if not self._is_open:
                raise _stopping(path)
            reader = self._idle.pop() if self._idle else await _Reader.start()
            asking = asyncio.ensure_future(self._ask_one(reader, words, path))
            self._asked.add(asking)
            asking.add_done_callback(self._asked.discard)
            try:
                await asyncio.wait({asking}, timeout=self._late_s)
            except asyncio.CancelledError:
                asking.cancel()
                raise
        return asking

    async def _ask_one(self, reader: _Reader, words: bytes, path: Path) -> Looked:
        try:
            looked = await reader.ask(words)
        except (EOFError, ConnectionError, ValueError, KeyError, TypeError) as error:
            raise ended(path, await reader.end(), self._deadline_s) from error
        except BaseException:
            await reader.end()
            raise
        if self._is_open and len(self._idle) < MOST and not looked.is_last:
            self._idle.append(reader)
        else:
            await reader.end()
        return looked


def _stopping(path: Path) -> ProtocolError:
    return ProtocolError(f"{path} is not looked at any more: the host is stopping")


class _Reader:
    """One process and the socket to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._incoming = incoming
        self._outgoing = outgoing

    @staticmethod
    async def start() -> _Reader:
        ours, theirs = socket.socketpair()
        with theirs:
            spawning = asyncio.ensure_future(asyncio.to_thread(spawn, theirs))
            try:
                process = await asyncio.shield(spawning)
            except asyncio.CancelledError:
                ours.close()
                abandoned = await spawning  # a thread cannot be cancelled, and its process is to be reaped
                abandoned.kill()
                await asyncio.to_thread(abandoned.wait)
                raise
        incoming, outgoing = await asyncio.open_connection(sock=ours, limit=STREAM_BUFFER)
        return _Reader(process, incoming, outgoing)

    async def ask(self, words: bytes) -> Looked:
        """Raises EOFError or ConnectionError when the process ended, ValueError and its like for what is no answer."""
        self._outgoing.write(len(words).to_bytes(LENGTH, "big") + words)
        await self._outgoing.drain()
        length = int.from_bytes(await self._incoming.readexactly(LENGTH), "big")
        if length > MOST_ANSWER:
            raise ValueError(f"an answer of {length} bytes")
        return Looked.decoded(await self._incoming.readexactly(length))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def end(self) -> int:
        """Kill it if it is still there. Its exit code; KILLED for one that the kernel does not let go."""
        self._process.kill()
        self._outgoing.close()
        waiting = asyncio.ensure_future(asyncio.to_thread(self._process.wait, NET_S))
        try:
            return await asyncio.shield(waiting)
        except subprocess.TimeoutExpired:
            _log.error("reader_process_stays", pid=self._process.pid, hint="is the disk below sessions/ all right?")
            return KILLED
