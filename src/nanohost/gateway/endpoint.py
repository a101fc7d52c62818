"""Listens on a Unix socket in a session's run/ folder. Every client of that socket is that session.

Nothing that a client sends can change which session its calls belong to. A container may open any number of
connections: above a limit they are rejected, so that it cannot use up the host's descriptors or another session's
share, and if it opens them too fast they wait in the socket's queue.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nanohost.gateway.rate_limit import CallLimiter
from nanohost.model import SessionId

MAX_CONNECTIONS = 32
KEEPALIVE_TIMEOUT_S = 75.0
_SHUTDOWN_TIMEOUT_S = 1.0
_BACKLOG = 100
"""Connections that wait in the kernel; the default of asyncio's servers."""
_ACCEPT_RETRY_S = 1.0
"""Seconds until the next accept when the host has no free descriptors; asyncio's servers wait as long."""

Handler = Callable[[SessionId, web.BaseRequest], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


class SessionEndpoint:
    """A listening socket and the requests that arrive on it."""

    def __init__(self, path: Path, session: SessionId, handler: Handler, limiter: CallLimiter) -> None:
        self._path = path
        self._session = session
        self._handler = handler
        self._limiter = limiter
        self._requests: set[asyncio.Task[object]] = set()

    async def listen(self) -> None:
        """Starts to listen. Raises OSError when the socket cannot be created."""
        self._http = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            logger=self._http_logger(),
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_TIMEOUT_S,
        )
        self._listener = await asyncio.to_thread(listen_at, self._path)
        self._listener.listen(_BACKLOG)
        self._accept_task = asyncio.create_task(self._accept_connections(), name=f"model socket of {self._session}")

    def is_listening_at(self, path: Path) -> bool:
        """Returns whether it listens at this path, and the socket file still exists."""
        return self._path == path and path.is_socket()

    async def close(self, *, grace_s: float) -> None:
        """Accepts no new requests, waits up to `grace_s` seconds for running ones, and ends the rest."""
        self._accept_task.cancel()
        await asyncio.gather(self._accept_task, return_exceptions=True)
        self._listener.close()
        with suppress(OSError):  # a socket file that cannot be removed is harmless
            await asyncio.to_thread(remove_socket, self._path)
        self._http.pre_shutdown()
        if self._requests and grace_s > 0:
            await asyncio.wait(self._requests, timeout=grace_s)
        late = list(self._requests)
        for request in late:
            request.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self._http.shutdown(_SHUTDOWN_TIMEOUT_S)

    async def _accept_connections(self) -> None:
        """Accepts connections one after the other, as fast as the budget allows."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("gateway_accept_failed", session=self._session, error=str(error))
                await asyncio.sleep(_ACCEPT_RETRY_S)
                continue
            try:
                await self._limiter.admit_connection(self._session)
                await loop.connect_accepted_socket(self._create_protocol, connection)
            except asyncio.CancelledError:
                connection.close()
                raise
            except Exception as error:  # the error of one connection: go on with the next
                connection.close()
                log.error("gateway_connection_failed", session=self._session, error=str(error))

    def _http_logger(self) -> logging.Logger:
        """Returns the logger for the HTTP library. Bytes that are no request count as a failure of the client."""

        def is_ours(record: logging.LogRecord) -> bool:
            error = record.exc_info[1] if record.exc_info else None
            if not isinstance(error, HttpProcessingError):
                return record.levelno >= logging.INFO
            if self._limiter.record_malformed(self._session):
                log.info("gateway_request_rejected", session=self._session, method="", path="", error=str(error)[:200])
            return False

        logger = logging.Logger("aiohttp.server", logging.DEBUG)
        logger.parent = logging.getLogger("aiohttp.server")
        logger.addFilter(is_ours)
        return logger

    def _create_protocol(self) -> asyncio.Protocol:
        return self._http() if len(self._http.connections) < MAX_CONNECTIONS else _RejectedConnection()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            return await self._handler(self._session, request)
        except asyncio.CancelledError:
            # A plain close would wait for a client that may never read.
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._requests.discard(task)


class _RejectedConnection(asyncio.Protocol):
    """Rejects a connection above the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        transport.close()


def listen_at(path: Path) -> socket.socket:
    """Binds a socket that every user may connect to; the folders above decide who can reach it.

    Replaces a socket that an earlier host left. Raises OSError when the folder is missing, or the path exists and is no
    socket.
    """
    remove_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(path) as name:
            listener.bind(str(name))
        path.chmod(0o666)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def remove_socket(path: Path) -> None:
    """Removes a socket file, if it exists. Raises FileExistsError if the path is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there and is not a socket")
    path.unlink(missing_ok=True)


@contextmanager
def _short_path(path: Path) -> Iterator[Path]:
    """Yields a short path to the same file."""
    with tempfile.TemporaryDirectory(prefix="nanohost-") as folder:
        link = Path(folder, "d")
        link.symlink_to(path.parent.absolute(), target_is_directory=True)
        yield link / path.name
