"""One session's way to the model: a Unix socket in its run/ folder. Whoever connects to it is that session.

Nothing a client sends can change whose calls these are. A container may open as many connections as it likes: beyond
a number they are turned away, so that it can use up neither the host's descriptors nor another session's share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from nanohost.gateway.unix_socket import listen_at, remove_socket

MAX_CONNECTIONS = 32
IDLE_CONNECTION_S = 75.0
_CLOSE_S = 1.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Endpoint:
    """A listening socket and the requests that came in by it."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._requests: set[asyncio.Task[object]] = set()

    async def listen(self) -> None:
        """Raises OSError when the socket cannot be made."""
        self._http = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=IDLE_CONNECTION_S,
        )
        loop = asyncio.get_running_loop()
        listener = await asyncio.to_thread(listen_at, self._path)
        self._server = await loop.create_unix_server(self._protocol, sock=listener)

    def is_at(self, path: Path) -> bool:
        """Listening there, and nobody took the name away."""
        return self._path == path and path.is_socket()

    async def close(self, *, grace_s: float) -> None:
        """Take no new requests, wait up to `grace_s` seconds for those under way, end the rest."""
        self._server.close()
        with suppress(OSError):  # a name that cannot be removed leads nowhere any more
            await asyncio.to_thread(remove_socket, self._path)
        self._http.pre_shutdown()
        if self._requests and grace_s > 0:
            await asyncio.wait(self._requests, timeout=grace_s)
        late = list(self._requests)
        for request in late:
            request.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self._http.shutdown(_CLOSE_S)

    def _protocol(self) -> asyncio.Protocol:
        return self._http() if len(self._http.connections) < MAX_CONNECTIONS else _TurnedAway()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            return await self._handler(request)
        except asyncio.CancelledError:
            # A plain close would wait for a reader that may never read.
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._requests.discard(task)


class _TurnedAway(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        transport.close()
