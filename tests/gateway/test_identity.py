"""The socket identifies the session: its calls, their lifetime, and that the key stays on the host."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import aiohttp
import pytest

from nanohost.errors import HomeError
from nanohost.gateway.endpoint import MAX_CONNECTIONS
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import CallOutcome
from nanohost.gateway.model_service import Upstream
from nanohost.model import SessionId
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.gateway.conftest import KEY, MESSAGES, CallLedger, GatewayTestHost, make_request_body
from tests.support.messages_api import UNAUTHORIZED, DroppedConnection, Failure, StubMessagesApi, Text

S1 = SessionId("s1")


@pytest.mark.behaviour("GW-01")
async def test_the_key_is_added_upstream_and_never_returned(
    api: StubMessagesApi, host: GatewayTestHost, gateway: Gateway
) -> None:
    await gateway.attach(S1, host.socket("s1"))
    api.replies += [Text("hi"), UNAUTHORIZED, DroppedConnection()]
    received = b""
    for path in ("/v1/messages", "/v1/messages", "/v1/messages", "/v1/files", "/"):
        received += await exchange(host.socket("s1"), path)
    assert b"message_stop" in received
    assert b"permission_error" in received
    assert KEY.encode() not in received
    assert [asked.headers["x-api-key"] for asked in api.messages] == [KEY] * 3
    assert all("worthless" not in str(asked.headers) for asked in api.requests)


@pytest.mark.behaviour("GW-01")
def test_the_key_is_not_in_any_repr() -> None:
    assert KEY not in repr(Upstream(api_key=KEY))


@pytest.mark.behaviour("GW-02")
async def test_calls_belong_to_the_session_of_the_socket_whatever_the_client_claims(
    host: GatewayTestHost, gateway: Gateway, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    other = await host.session(gateway, "s2")
    for who in (client, other):
        headers = {"x-claude-code-session-id": "s1", "x-api-key": "token-of-s1"}
        async with who.post(MESSAGES, json=make_request_body(), headers=headers) as answer:
            assert answer.status == 200
    assert sorted(call.session_id for call in await ledger.wait_for_recorded(2)) == ["s1", "s2"]


@pytest.mark.behaviour("GW-01")
async def test_a_cookie_of_the_service_is_sent_for_no_session(host: GatewayTestHost, api: StubMessagesApi) -> None:
    """By a host name: clients keep no cookies of an IP address."""
    base_url = api.base_url.replace("127.0.0.1", "localhost")
    gateway = await host.open(Upstream(base_url=base_url, api_key=KEY))
    cookie = {"Set-Cookie": "who=s1; Path=/"}
    api.replies.append(Failure(529, "overloaded_error", "Overloaded", cookie))
    for name in ("s1", "s2", "s1"):
        client = await host.session(gateway, name)
        async with client.post(MESSAGES, json=make_request_body()) as answer:
            await answer.read()
    assert [asked.headers.get("cookie") for asked in api.messages] == [None, None, None]


@pytest.mark.behaviour("GW-02")
async def test_detaching_closes_the_socket_and_open_streams_of_that_session_only(
    api: StubMessagesApi, host: GatewayTestHost, gateway: Gateway, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    gate = asyncio.Event()
    api.default = Text("first second", gate=gate)
    other = await host.session(gateway, "s2")
    async with (
        asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)),
        client.post(MESSAGES, json=make_request_body()) as ending,
        other.post(MESSAGES, json=make_request_body()) as staying,
    ):
        await gateway.detach(S1)
        with pytest.raises(aiohttp.ClientError):
            await ending.read()
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.post(MESSAGES, json=make_request_body())
        gate.set()
        assert b'"second"' in await staying.read()
    assert not host.socket("s1").exists()
    outcomes = {call.session_id: call.outcome for call in await ledger.wait_for_recorded(2)}
    assert outcomes == {"s1": CallOutcome.ABANDONED, "s2": CallOutcome.COMPLETED}


@pytest.mark.behaviour("GW-02")
async def test_an_idle_connection_is_closed_with_its_session(gateway: Gateway, host: GatewayTestHost) -> None:
    await gateway.attach(S1, host.socket("s1"))
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        reader, writer = await asyncio.open_unix_connection(host.socket("s1"))
        writer.write(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        await gateway.detach(S1)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_detaching_a_client_that_never_reads_takes_no_time(
    api: StubMessagesApi, gateway: Gateway, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    api.default = Text(("x" * 100_000 + " ") * 150)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), client.post(MESSAGES, json=make_request_body()):
        await gateway.detach(S1)
        assert (await ledger.wait_for_recorded())[0].outcome is CallOutcome.ABANDONED


async def test_attaching_and_detaching_twice_is_harmless(
    host: GatewayTestHost, gateway: Gateway, client: aiohttp.ClientSession
) -> None:
    await gateway.attach(S1, host.socket("s1"))
    assert await status(client) == 200
    host.socket("s1").unlink()
    await gateway.attach(S1, host.socket("s1"))
    assert await status(client) == 200
    await gateway.detach(S1)
    await gateway.detach(S1)
    await gateway.attach(S1, host.socket("s1"))
    assert await status(client) == 200


async def test_a_socket_left_by_an_earlier_host_is_replaced(host: GatewayTestHost, gateway: Gateway) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(host.socket("s1")))
    client = await host.session(gateway)
    assert await status(client) == 200


async def test_a_file_that_is_not_a_socket_is_not_replaced(host: GatewayTestHost, gateway: Gateway) -> None:
    host.socket("s1").write_text("precious")
    with pytest.raises(HomeError, match="session s1"):
        await gateway.attach(S1, host.socket("s1"))
    assert host.socket("s1").read_text() == "precious"


async def test_a_missing_folder_is_reported_in_a_sentence(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="session s1"):
        await gateway.attach(S1, tmp_path / "nowhere" / "gateway.sock")


async def test_a_home_in_a_deep_folder_works(host: GatewayTestHost, gateway: Gateway, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8, "run")
    deep.mkdir(parents=True)
    (tmp_path / "short").symlink_to(deep)
    await gateway.attach(S1, deep / "gateway.sock")
    assert await status(await host.client(tmp_path / "short" / "gateway.sock")) == 200
    await gateway.detach(S1)
    assert list(deep.iterdir()) == []


async def test_a_container_of_another_user_can_connect(host: GatewayTestHost, gateway: Gateway) -> None:
    await gateway.attach(S1, host.socket("s1"))
    assert stat.S_IMODE(host.socket("s1").stat().st_mode) == 0o666


async def test_a_session_with_too_many_connections_leaves_room_for_others(
    host: GatewayTestHost, gateway: Gateway
) -> None:
    await gateway.attach(S1, host.socket("s1"))
    other = await host.session(gateway, "s2")
    writers = []
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        for _ in range(MAX_CONNECTIONS):
            reader, writer = await asyncio.open_unix_connection(host.socket("s1"))
            writer.write(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writers.append(writer)
        reader, writer = await asyncio.open_unix_connection(host.socket("s1"))
        assert (await reader.read()).startswith(b"HTTP/1.1 429 ")
        assert await status(other) == 200
    for each in [*writers, writer]:
        each.close()
        await each.wait_closed()


async def status(client: aiohttp.ClientSession) -> int:
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        await answer.read()
        return answer.status


async def exchange(path: Path, target: str) -> bytes:
    """All received bytes, status line and headers included."""
    body = b'{"model":"claude-test","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(head.encode() + b"x-api-key: worthless\r\nAuthorization: Bearer worthless\r\n\r\n" + body)
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    return received
