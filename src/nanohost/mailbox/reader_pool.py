"""Runs a small pool of reader processes: starts them when needed, and replaces one that does not return.

Promises: at most MAX_READS run at once, and none waits for a slow read: a slow read frees its slot and continues (at
most MAX_SLOW_READS of them; beyond that it is killed at once). Every read ends: by the reader's own timer, or by ours
if that fails. Exit kills the remaining readers, so that no read keeps the host from stopping.
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
    KILL_GRACE_S,
    MAX_ANSWER_BYTES,
    READ_TIMEOUT_S,
    ReadersBusy,
    ReadResult,
    ReadTimedOut,
    encode_request,
    reader_exit_error,
    spawn_reader,
)
from nanohost.mailbox.reader_process import LENGTH_BYTES
from nanohost_protocol.errors import ProtocolError

T = TypeVar("T")

MAX_READS = 2
"""Reads at once. A read takes 0.3 ms; the machine has few processors, and the host needs one."""
MAX_SLOW_READS = 4
SLOW_AFTER_S = 0.25
"""A read that takes longer frees its slot for others."""
STREAM_BUFFER_BYTES = 1024 * 1024
KILLED_EXIT_CODE = -9

_log = structlog.get_logger()


class ReaderPool:
    """A pool of reader processes. `slow_after_s` and `deadline_s`: see SLOW_AFTER_S and READ_TIMEOUT_S."""

    def __init__(self, *, slow_after_s: float = SLOW_AFTER_S, deadline_s: float = READ_TIMEOUT_S) -> None:
        self._slow_after_s = slow_after_s
        self._deadline_s = deadline_s
        self._read_slots = asyncio.Semaphore(MAX_READS)
        self._idle: list[_ReaderProcess] = []
        self._requests: set[asyncio.Future[ReadResult]] = set()
        self._slow_reads = 0
        self._is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Accept reads while entered. Exit kills all readers, also busy ones."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            for request in self._requests:
                request.cancel()
            await asyncio.gather(*self._requests, return_exceptions=True)
            idle, self._idle = self._idle, []
            await asyncio.gather(*(reader.kill() for reader in idle))

    @property
    def slow_reads(self) -> int:
        """The number of slow reads that freed their slot and continue."""
        return self._slow_reads

    def idle_pids(self) -> tuple[int, ...]:
        """Returns the process ids of the idle readers."""
        return tuple(reader.pid for reader in self._idle)

    async def read(self, path: Path, query: Query[T], *, busy_s: float) -> ReadResult:
        """Returns the result of the query on an outbound.db, or its error, and the processor seconds that it took.

        `busy_s`: how long to wait for a lock. Raises ReadTimedOut, ReadersBusy, and ProtocolError if the process ended
        for another reason.
        """
        payload = encode_request(path, query, busy_s=busy_s, deadline_s=self._deadline_s)
        request = await self._start_read(payload, path)
        try:
            if not request.done() and self._slow_reads >= MAX_SLOW_READS:
                raise ReadersBusy
            self._slow_reads += 1
            try:
                return await asyncio.wait_for(asyncio.shield(request), self._deadline_s + KILL_GRACE_S)
            finally:
                self._slow_reads -= 1
        except TimeoutError:
            raise ReadTimedOut(f"{path} did not let itself be read") from None
        except asyncio.CancelledError:
            if self._is_open:
                raise
            raise _stopping_error(path) from None
        finally:
            request.cancel()

    async def _start_read(self, payload: bytes, path: Path) -> asyncio.Future[ReadResult]:
        """Start a read in a free slot. Returns when it is answered, or slow."""
        async with self._read_slots:
            if not self._is_open:
                raise _stopping_error(path)
            reader = self._idle.pop() if self._idle else await _ReaderProcess.start()
            request = asyncio.ensure_future(self._request(reader, payload, path))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
            try:
                await asyncio.wait({request}, timeout=self._slow_after_s)
            except asyncio.CancelledError:
                request.cancel()
                raise
        return request

    async def _request(self, reader: _ReaderProcess, payload: bytes, path: Path) -> ReadResult:
        try:
            result = await reader.request(payload)
        except (EOFError, ConnectionError, ValueError, KeyError, TypeError) as error:
            raise reader_exit_error(path, await reader.kill(), self._deadline_s) from error
        except BaseException:
            await reader.kill()
            raise
        if self._is_open and len(self._idle) < MAX_READS and not result.is_retiring:
            self._idle.append(reader)
        else:
            await reader.kill()
        return result


def _stopping_error(path: Path) -> ProtocolError:
    return ProtocolError(f"{path} is not looked at any more: the host is stopping")


class _ReaderProcess:
    """One process and the socket to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._incoming = incoming
        self._outgoing = outgoing

    @staticmethod
    async def start() -> _ReaderProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            spawning = asyncio.ensure_future(asyncio.to_thread(spawn_reader, theirs))
            try:
                process = await asyncio.shield(spawning)
            except asyncio.CancelledError:
                ours.close()
                abandoned = await spawning  # a thread cannot be cancelled, and its process must be reaped
                abandoned.kill()
                await asyncio.to_thread(abandoned.wait)
                raise
        incoming, outgoing = await asyncio.open_connection(sock=ours, limit=STREAM_BUFFER_BYTES)
        return _ReaderProcess(process, incoming, outgoing)

    async def request(self, payload: bytes) -> ReadResult:
        """Send a request and return the answer. Raises EOFError or ConnectionError if the process ended, ValueError,
        KeyError or TypeError if the answer is invalid."""
        self._outgoing.write(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
        await self._outgoing.drain()
        length = int.from_bytes(await self._incoming.readexactly(LENGTH_BYTES), "big")
        if length > MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of {length} bytes")
        return ReadResult.decode(await self._incoming.readexactly(length))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def kill(self) -> int:
        """Kill the process if it still runs. Returns its exit code; KILLED_EXIT_CODE if the kernel does not end it."""
        self._process.kill()
        self._outgoing.close()
        waiting = asyncio.ensure_future(asyncio.to_thread(self._process.wait, KILL_GRACE_S))
        try:
            return await asyncio.shield(waiting)
        except subprocess.TimeoutExpired:
            _log.error(
                "reader_process_unkillable", pid=self._process.pid, hint="is the disk below sessions/ all right?"
            )
            return KILLED_EXIT_CODE
