"""Runs the gateway: one socket per session, the only way to the model, and the model's key, which stays in the host.

    async with gateway.opened():
        await gateway.attach(session_id, layout.gateway_socket)     # before its container starts
        ...
        await gateway.detach(session_id)                            # when its container is gone

Promises: the key is in no container; a session's socket works only while it is attached; sessions do not wait for each
other; each has a budget; every call for an answer is recorded. It has no durable state: after a restart the sockets are
created again, in folders that running containers still have mounted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from nanohost.clock import Clock
from nanohost.errors import HomeError, SettingsError
from nanohost.gateway.call_recorder import CallRecorder, RecordCalls
from nanohost.gateway.endpoint import SessionEndpoint
from nanohost.gateway.forward import Forwarder
from nanohost.gateway.model_health import InconclusiveCheck, ModelHealth, ModelProblem
from nanohost.gateway.model_service import Upstream
from nanohost.gateway.probe import probe
from nanohost.gateway.rate_limit import CallLimiter, CallRateLimits, OnThrottled, call_limits_from_settings
from nanohost.gateway.settings import CallSettings
from nanohost.model import SessionId
from nanohost.net.proxies import InvalidProxyError, aiohttp_options, proxy_for


async def _ignore_throttled(_: SessionId, __: str) -> None:
    """Ignores throttling, for a gateway without a callback."""


class Gateway:
    """The gateway of one host.

    `record` is awaited with batches of POST /v1/messages, in parallel to the streams: if it is slow or fails, no
    running call is affected. `on_throttled` is awaited once for a session that stays over its budget.
    """

    def __init__(
        self,
        *,
        upstream: Upstream,
        record: RecordCalls,
        clock: Clock,
        call_limits: CallRateLimits | None = None,
        on_throttled: OnThrottled = _ignore_throttled,
        grace_s: float = 10.0,
    ) -> None:
        self._upstream = upstream
        self._recorder = CallRecorder(record)
        self._limiter = CallLimiter(
            clock=clock, call_limits=call_limits or call_limits_from_settings(CallSettings()), on_throttled=on_throttled
        )
        self.health = ModelHealth(upstream, clock)
        self._clock = clock
        self._grace_s = grace_s
        self._forwarder: Forwarder | None = None
        self._http: aiohttp.ClientSession | None = None
        self._endpoints: dict[SessionId, SessionEndpoint] = {}
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Forwards requests while entered.

        On leaving, accepts no new requests, gives open streams `grace_s` seconds to finish, ends the rest, and waits
        until every call is recorded. Raises SettingsError for a proxy that cannot be used.
        """
        # No limit over all sessions: one with many streams would block the others. Each socket has its own limit.
        way = aiohttp_options(self._proxy(), limit=0)
        async with aiohttp.ClientSession(**way, cookie_jar=aiohttp.DummyCookieJar()) as http:
            self._http = http
            self._forwarder = Forwarder(
                upstream=self._upstream,
                http=http,
                recorder=self._recorder,
                health=self.health,
                limiter=self._limiter,
                clock=self._clock,
            )
            try:
                yield
            finally:
                await self._close()

    def _proxy(self) -> str | None:
        try:
            return proxy_for(self._upstream.base_url)
        except InvalidProxyError as error:
            raise SettingsError(f"the way to the model: {error}", hint="correct the variable, or unset it") from error

    async def check(self) -> ModelProblem | InconclusiveCheck | None:
        """Checks address and key with a request like a session's. Returns the problem; None if there is none."""
        if self._http is None:
            raise RuntimeError("check needs an opened gateway")
        match found := await probe(self._http, self._upstream):
            case None:
                self.health.mark_healthy()
            case InconclusiveCheck():
                self.health.mark_reachable()
            case ModelProblem():
                self.health.report_problem(found)
        return found

    async def attach(self, session_id: SessionId, socket_path: Path) -> None:
        """Listens for a session. When it returns, the container can connect; it may be attached already.

        The folder must exist. Raises HomeError when the socket cannot be created there.
        """
        async with self._lock:
            if self._forwarder is None:
                raise RuntimeError("attach needs an opened gateway")
            current = self._endpoints.get(session_id)
            if current is not None:
                if current.is_listening_at(socket_path):
                    return
                await self._close_endpoint(session_id)
            endpoint = SessionEndpoint(socket_path, session_id, self._forwarder.handle, self._limiter)
            try:
                await endpoint.listen()
            except OSError as error:
                raise HomeError(
                    f"The model socket of session {session_id} cannot be made at {socket_path}: {error}.",
                    hint=f"ls -la {socket_path.parent}",
                ) from error
            self._endpoints[session_id] = endpoint

    async def detach(self, session_id: SessionId) -> None:
        """Stops listening for a session and ends its open streams; it need not be attached."""
        async with self._lock:
            await self._close_endpoint(session_id)

    def throttled(self) -> dict[SessionId, str]:
        """Returns the sessions that are over their budget, with the limit that each exceeds."""
        return self._limiter.throttled()

    async def _close_endpoint(self, session_id: SessionId) -> None:
        endpoint = self._endpoints.pop(session_id, None)
        if endpoint is not None:
            await endpoint.close(grace_s=0)

    async def _close(self) -> None:
        async with self._lock:
            self._forwarder = self._http = None
            await self._limiter.close()
            endpoints = list(self._endpoints.values())
            self._endpoints.clear()
            await asyncio.gather(*(endpoint.close(grace_s=self._grace_s) for endpoint in endpoints))
        await self._recorder.flush()
