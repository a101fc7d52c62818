"""A reader process for code in a thread of its own, as checks are: one look after the other, each with an end."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from nanohost.mailbox.queries import Query
from nanohost.mailbox.reader_client import (
    DEADLINE_S,
    MOST_ANSWER,
    NET_S,
    Looked,
    ended,
    request,
    spawn,
)
from nanohost.mailbox.reader_process import LENGTH

T = TypeVar("T")


class BlockingReader:
    """Starts a process for the first look, and another for the next after one that ended."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def look(self, path: Path, query: Query[T], *, busy_s: float) -> T:
        """What the query finds in an outbound.db. Raises ProtocolError and OSError."""
        words = request(path, query, busy_s=busy_s, deadline_s=self._deadline_s)
        try:
            looked = self._ask(words)
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise ended(path, self.end(), self._deadline_s) from error
        if looked.is_last:
            self.end()
        return looked.value(query, path)

    def end(self) -> int:
        """End the process, if there is one; its exit code."""
        if self._process is None or self._socket is None:
            return 0
        self._socket.close()
        self._process.kill()
        code = self._process.wait()
        self._process = self._socket = None
        return code

    def _ask(self, words: bytes) -> Looked:
        connection = self._connected()
        connection.sendall(len(words).to_bytes(LENGTH, "big") + words)
        length = int.from_bytes(_exactly(connection, LENGTH), "big")
        if length > MOST_ANSWER:
            raise ValueError(f"an answer of {length} bytes")
        return Looked.decoded(_exactly(connection, length))

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            self._socket.settimeout(self._deadline_s + NET_S)
            with theirs:
                self._process = spawn(theirs)
        return self._socket


@contextmanager
def blocking_reader() -> Iterator[BlockingReader]:
    """A reader that is ended on leaving."""
    reader = BlockingReader()
    try:
        yield reader
    finally:
        reader.end()


def _exactly(connection: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        piece = connection.recv(min(length - len(found), 1024 * 1024))
        if not piece:
            raise EOFError("the reader process ended")
        found += piece
    return bytes(found)
