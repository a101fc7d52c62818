"""What simulators of platforms on HTTP share: a server that takes its connections along when it goes."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from aiohttp import web

from nanohost.testing.reserved_port import ReservedPort
from nanohost.testing.simulator import Simulator

LARGEST = 2**27
"""Bytes of a request: more than any channel sends."""


class Server:
    """Routes on a port of loopback."""

    def __init__(self, routes: Iterable[web.RouteDef]) -> None:
        self.stopping = asyncio.Event()
        """Set when it goes: whoever hangs until then is let go."""
        self._transports: set[asyncio.Transport] = set()
        app = web.Application(client_max_size=LARGEST, middlewares=[self._noted])
        app.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start(self, port: int) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        for site in list(self._runner.sites):
            await site.stop()
        self.stopping.set()
        self.cut()
        await self._runner.cleanup()

    def cut(self) -> None:
        """Reset every connection there is."""
        for transport in self._transports:
            transport.abort()
        self._transports.clear()

    @web.middleware
    async def _noted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
        return await handler(request)


S = TypeVar("S", bound=Server)


class ServedSimulator(Simulator, Generic[S]):
    """One that is there while its server is. The port is its own for as long as it lives."""

    def __init__(self) -> None:
        super().__init__()
        self._port = ReservedPort()
        self._server: S | None = None

    @abstractmethod
    def _serve(self) -> S:
        """A server that has not started."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port.number}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.end_outage()
        try:
            yield
        finally:
            await self.start_outage()

    async def end_outage(self) -> None:
        if self._server is None:
            self._server = self._serve()
            await self._server.start(self._port.number)

    async def start_outage(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            self.forget_connections()
            await server.stop()

    @abstractmethod
    def forget_connections(self) -> None:
        """They end now."""
