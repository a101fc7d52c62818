"""A gateway with the real parts: a stub upstream, Unix sockets in tmp_path, a ledger in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from nanohost.clock import Clock, SystemClock
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import ModelCall
from nanohost.gateway.model_service import Upstream
from nanohost.model import SessionId
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.messages_api import StubMessagesApi

KEY = "sk-ant-api03-the-real-one"
MESSAGES = "http://localhost/v1/messages?beta=true"


def make_request_body(text: str = "hello", *, stream: bool = True) -> dict[str, object]:
    """The body of a request for an answer."""
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-test", "max_tokens": 100, "stream": stream, "messages": messages}


class CallLedger:
    """Where model calls are recorded. `error` is raised, `gate` is waited for, before one counts as recorded."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self._written = asyncio.Condition()

    async def record(self, calls: Sequence[ModelCall]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        async with self._written:
            self.calls.extend(calls)
            self._written.notify_all()

    async def wait_for_recorded(self, count: int = 1) -> list[ModelCall]:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), self._written:
            await self._written.wait_for(lambda: len(self.calls) >= count)
        return self.calls


class GatewayTestHost:
    """Opens gateways and clients; closes them in the right order after the test."""

    def __init__(self, stack: AsyncExitStack, folder: Path, ledger: CallLedger) -> None:
        self._stack = stack
        self._folder = folder
        self._ledger = ledger
        self.budget_notices: list[tuple[SessionId, str]] = []

    async def _on_budget_notice(self, session: SessionId, over: str) -> None:
        self.budget_notices.append((session, over))

    def gateway(self, upstream: Upstream, *, grace_s: float = 5.0, clock: Clock | None = None) -> Gateway:
        return Gateway(
            upstream=upstream,
            record=self._ledger.record,
            clock=clock or SystemClock(),
            grace_s=grace_s,
            on_throttled=self._on_budget_notice,
        )

    async def open(self, upstream: Upstream, *, clock: Clock | None = None) -> Gateway:
        gateway = self.gateway(upstream, clock=clock)
        await self._stack.enter_async_context(gateway.opened())
        return gateway

    def socket(self, session: str) -> Path:
        """The path of a session's socket; its folder is created."""
        path = self._folder / session / "run" / "gateway.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    async def client(self, socket: Path) -> aiohttp.ClientSession:
        """A client that can reach one socket, as a container."""
        connector = aiohttp.UnixConnector(str(socket))
        return await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def session(self, gateway: Gateway, name: str = "s1") -> aiohttp.ClientSession:
        """A client of an attached session."""
        await gateway.attach(SessionId(name), self.socket(name))
        return await self.client(self.socket(name))


@pytest.fixture
def ledger() -> CallLedger:
    return CallLedger()


@pytest.fixture
async def api() -> AsyncIterator[StubMessagesApi]:
    async with StubMessagesApi(key=KEY) as api:
        yield api


@pytest.fixture
def upstream(api: StubMessagesApi) -> Upstream:
    return Upstream(base_url=api.base_url, api_key=KEY)


@pytest.fixture
async def host(tmp_path: Path, ledger: CallLedger) -> AsyncIterator[GatewayTestHost]:
    async with AsyncExitStack() as stack:
        yield GatewayTestHost(stack, tmp_path, ledger)


@pytest.fixture
async def gateway(host: GatewayTestHost, upstream: Upstream) -> Gateway:
    return await host.open(upstream)


@pytest.fixture
async def client(host: GatewayTestHost, gateway: Gateway) -> aiohttp.ClientSession:
    """The client of session s1."""
    return await host.session(gateway)
