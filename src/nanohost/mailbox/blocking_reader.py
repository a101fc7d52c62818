"""Reads outbound.db files in a reader process from blocking code, such as checks: one read at a time, each with a
deadline."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from nanohost.mailbox.queries import Query
from nanohost.mailbox.reader_client import (
    KILL_GRACE_S,
    MAX_ANSWER_BYTES,
    READ_TIMEOUT_S,
    ReadResult,
    encode_request,
    reader_exit_error,
    spawn_reader,
)
from nanohost.mailbox.reader_process import LENGTH_BYTES

T = TypeVar("T")


class BlockingReader:
    """Starts a process for the first read, and a new one for the next read after a process ended."""

    def __init__(self, *, deadline_s: float = READ_TIMEOUT_S) -> None:
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def read(self, path: Path, query: Query[T], *, busy_s: float) -> T:
        """Returns the result of the query on an outbound.db. Raises ProtocolError and OSError."""
        payload = encode_request(path, query, busy_s=busy_s, deadline_s=self._deadline_s)
        try:
            result = self._request(payload)
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise reader_exit_error(path, self.close(), self._deadline_s) from error
        if result.is_retiring:
            self.close()
        return result.parse(query, path)

    def close(self) -> int:
        """Kill the process, if there is one. Returns its exit code."""
        if self._process is None or self._socket is None:
            return 0
        self._socket.close()
        self._process.kill()
        code = self._process.wait()
        self._process = self._socket = None
        return code

    def _request(self, payload: bytes) -> ReadResult:
        connection = self._connect()
        connection.sendall(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
        length = int.from_bytes(_read_exactly(connection, LENGTH_BYTES), "big")
        if length > MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of {length} bytes")
        return ReadResult.decode(_read_exactly(connection, length))

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            self._socket.settimeout(self._deadline_s + KILL_GRACE_S)
            with theirs:
                self._process = spawn_reader(theirs)
        return self._socket


@contextmanager
def blocking_reader() -> Iterator[BlockingReader]:
    """Provide a reader that is closed on exit."""
    reader = BlockingReader()
    try:
        yield reader
    finally:
        reader.close()


def _read_exactly(connection: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        piece = connection.recv(min(length - len(found), 1024 * 1024))
        if not piece:
            raise EOFError("the reader process ended")
        found += piece
    return bytes(found)
