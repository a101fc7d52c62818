"""Calls without an answer: each case is an error that a client understands, and a row."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from nanohost.errors import SettingsError
from nanohost.gateway.api_error import MAX_BODY_BYTES
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import CallOutcome
from nanohost.gateway.model_service import Upstream
from tests.gateway.conftest import KEY, MESSAGES, CallLedger, GatewayTestHost, make_request_body
from tests.support.messages_api import StubMessagesApi


async def error_of(answer: aiohttp.ClientResponse) -> tuple[int, str, str]:
    body = await answer.json()
    assert body["type"] == "error"
    return answer.status, body["error"]["type"], body["error"]["message"]


@pytest.mark.behaviour("GW-05")
async def test_without_a_key_the_client_is_told_what_to_set_and_not_to_retry(
    host: GatewayTestHost, ledger: CallLedger
) -> None:
    client = await host.session(await host.open(Upstream(api_key=None)))
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        status, kind, sentence = await error_of(answer)
        assert (status, kind) == (401, "authentication_error")
        assert "ANTHROPIC_API_KEY" in sentence
        assert answer.headers["x-should-retry"] == "false"
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.status) == (CallOutcome.NOT_SENT, 0)


@pytest.mark.behaviour("GW-05")
async def test_a_revoked_key_is_recorded_as_rejected_and_not_retried(
    api: StubMessagesApi, host: GatewayTestHost, ledger: CallLedger
) -> None:
    client = await host.session(await host.open(Upstream(base_url=api.base_url, api_key="sk-ant-revoked")))
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert (await error_of(answer))[:2] == (401, "authentication_error")
        assert answer.headers["x-should-retry"] == "false"
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.status) == (CallOutcome.REJECTED, 401)
    assert call.error == "authentication_error: invalid x-api-key"


async def test_a_custom_service_needs_no_key(host: GatewayTestHost) -> None:
    async with StubMessagesApi() as own:
        client = await host.session(await host.open(Upstream(base_url=own.base_url + "/")))
        async with client.post(MESSAGES, json=make_request_body()) as answer:
            assert answer.status == 200
        assert "x-api-key" not in own.messages[0].headers


async def test_a_service_that_is_down_is_a_retryable_error(
    host: GatewayTestHost, ledger: CallLedger, unused_tcp_port: int
) -> None:
    client = await host.session(
        await host.open(Upstream(base_url=f"http://u:p@127.0.0.1:{unused_tcp_port}", api_key=KEY))
    )
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        status, kind, sentence = await error_of(answer)
    assert (status, kind) == (502, "api_error")
    assert "u:p" not in sentence
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.status, call.usage.tokens_in) == (CallOutcome.UNREACHABLE, 0, 0)


@pytest.fixture
async def redirecting() -> AsyncIterator[str]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"})

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_redirect_is_never_followed(host: GatewayTestHost, ledger: CallLedger, redirecting: str) -> None:
    client = await host.session(await host.open(Upstream(base_url=redirecting, api_key=KEY)))
    async with client.post(MESSAGES, json=make_request_body(), allow_redirects=False) as answer:
        assert (await error_of(answer))[0] == 502
        assert "location" not in answer.headers
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.status) == (CallOutcome.REJECTED, 307)


async def test_a_request_above_the_limit_is_refused_unread(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    async with client.post(MESSAGES, data=io.BytesIO(bytes(MAX_BODY_BYTES + 1))) as answer:
        assert (await error_of(answer))[:2] == (413, "request_too_large")
    assert (await ledger.wait_for_recorded())[0].outcome is CallOutcome.NOT_SENT
    assert api.requests == []


async def test_a_large_request_within_the_limit_is_forwarded_whole(
    api: StubMessagesApi, client: aiohttp.ClientSession
) -> None:
    body = json.dumps(make_request_body("x" * 5_000_000, stream=False)).encode()
    async with client.post(MESSAGES, data=io.BytesIO(body)) as answer:
        assert answer.status == 200
    assert len(api.messages[0].user_text) == 5_000_000


async def test_a_request_of_unknown_length_is_refused(api: StubMessagesApi, client: aiohttp.ClientSession) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    async with client.post(MESSAGES, data=body()) as answer:
        assert (await error_of(answer))[0] == 411
    assert api.requests == []


async def test_other_paths_are_refused_and_probes_answered_by_the_gateway(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    async with client.post("http://localhost/v1/files", data=b"x") as answer:
        status, kind, sentence = await error_of(answer)
    assert (status, kind) == (403, "permission_error")
    assert "POST /v1/files" in sentence
    async with client.head("http://localhost/") as answer:
        assert answer.status == 200
    assert api.requests == []
    assert ledger.calls == []


async def test_an_unreachable_service_does_not_stop_the_gateway_from_opening(
    host: GatewayTestHost, unused_tcp_port: int
) -> None:
    assert isinstance(await host.open(Upstream(base_url=f"http://127.0.0.1:{unused_tcp_port}")), Gateway)


async def test_an_unusable_proxy_prevents_the_gateway_from_opening(
    host: GatewayTestHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "socks4://u:hush@proxy.example")
    with pytest.raises(SettingsError, match="the way to the model: HTTPS_PROXY begins socks4://") as caught:
        await host.open(Upstream(base_url="https://api.example"))
    assert "hush" not in str(caught.value)
