"""Answers are forwarded as they arrive, and every call is recorded however it ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import CallOutcome, Usage
from nanohost.gateway.model_service import Upstream
from nanohost.model import SessionId
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.gateway.conftest import MESSAGES, CallLedger, GatewayTestHost, make_request_body
from tests.support.messages_api import (
    OVERLOADED,
    DroppedConnection,
    Garbage,
    StubMessagesApi,
    Text,
    Tokens,
    ToolUse,
    rate_limited,
)


async def test_an_answer_is_forwarded_unchanged_and_recorded(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    api.replies.append(Text("Hello there.", Tokens(input=3, output=77, cache_read=40, cache_written=5)))
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        body = await answer.text()
    assert body.startswith("event: message_start\n")
    assert body.endswith('data: {"type": "message_stop"}\n\n')
    (call,) = await ledger.wait_for_recorded()
    assert (call.session_id, call.model, call.status) == ("s1", "claude-test", 200)
    assert call.usage == Usage(tokens_in=3, tokens_out=77, tokens_cached=40, tokens_cache_written=5)
    assert (call.outcome, call.error) == (CallOutcome.COMPLETED, "")
    assert call.duration_ms >= 0


async def test_an_answer_without_streaming_is_recorded_too(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    api.replies.append(ToolUse("Bash", {"command": "date"}, tokens=Tokens(output=9)))
    async with client.post(MESSAGES, json=make_request_body(stream=False)) as answer:
        assert (await answer.json())["stop_reason"] == "tool_use"
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.usage.tokens_out) == (CallOutcome.COMPLETED, 9)


@pytest.mark.behaviour("GW-03")
async def test_a_chunk_arrives_while_the_next_is_still_held_back(
    api: StubMessagesApi, client: aiohttp.ClientSession
) -> None:
    gate = asyncio.Event()
    api.replies.append(Text("first second", gate=gate))
    async with (
        asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)),
        client.post(MESSAGES, json=make_request_body()) as answer,
    ):
        seen = b""
        while b'"first "' not in seen:
            seen += await answer.content.readany()
        assert b"second" not in seen
        gate.set()
        assert b'"second"' in await answer.content.read()


@pytest.mark.behaviour("GW-03")
async def test_a_slow_reader_slows_only_itself(
    api: StubMessagesApi, host: GatewayTestHost, gateway: Gateway, client: aiohttp.ClientSession
) -> None:
    api.default = Text(("x" * 100_000 + " ") * 150)
    other = await host.session(gateway, "s2")
    async with (
        asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)),
        client.post(MESSAGES, json=make_request_body("slow")) as slow,
    ):
        for quick in (client, other):
            async with quick.post(MESSAGES, json=make_request_body("quick")) as answer:
                assert len(await answer.read()) > 15_000_000
        assert not api.messages[0].ended.is_set(), "the gateway read ahead of its client"
        assert (await slow.read()).endswith(b'"message_stop"}\n\n')


@pytest.mark.behaviour("GW-03")
async def test_a_client_that_disconnects_ends_the_upstream_request(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    api.replies.append(Text("first second", Tokens(input=6), gate=asyncio.Event()))
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        await answer.content.readany()
        answer.close()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        await api.messages[0].ended.wait()
    assert api.messages[0].is_abandoned
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.usage.tokens_in) == (CallOutcome.ABANDONED, 6)


async def test_a_truncated_stream_is_truncated_for_the_client_and_recorded(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    api.replies.append(DroppedConnection())
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.status, call.usage.tokens_in) == (CallOutcome.TRUNCATED, 200, 10)


async def test_an_unreadable_answer_is_forwarded_and_recorded_as_truncated(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    api.replies.append(Garbage())
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert await answer.read() == Garbage().body
    (call,) = await ledger.wait_for_recorded()
    assert (call.outcome, call.usage, call.model) == (CallOutcome.TRUNCATED, Usage(), "claude-test")


async def test_refusals_of_the_service_reach_the_client_unchanged(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    api.replies += [rate_limited(7), OVERLOADED]
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert (await answer.json())["error"]["type"] == "rate_limit_error"
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert answer.status == 529
    limited, overloaded = await ledger.wait_for_recorded(2)
    assert (limited.outcome, limited.status, limited.model) == (CallOutcome.REJECTED, 429, "claude-test")
    assert overloaded.error == "overloaded_error: Overloaded"


async def test_token_counts_and_model_lists_are_forwarded_without_a_record(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    async with client.post("http://localhost/v1/messages/count_tokens", json=make_request_body()) as answer:
        assert (await answer.json())["input_tokens"] > 0
    async with client.get("http://localhost/v1/models/claude-x") as answer:
        assert (await answer.json())["id"] == "claude-x"
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        await answer.read()
    assert len(await ledger.wait_for_recorded()) == 1
    assert [asked.query for asked in api.messages] == ["beta=true"]


async def test_a_failing_record_does_not_affect_the_stream(
    api: StubMessagesApi, client: aiohttp.ClientSession, ledger: CallLedger
) -> None:
    ledger.error = RuntimeError("disk full")
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert (await answer.read()).endswith(b'"message_stop"}\n\n')
    ledger.error, ledger.gate = None, asyncio.Event()
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        for _ in range(2):
            async with client.post(MESSAGES, json=make_request_body()) as answer:
                await answer.read()
    ledger.gate.set()
    assert len(await ledger.wait_for_recorded(2)) == 2


async def test_an_open_stream_may_finish_when_the_host_stops(
    api: StubMessagesApi, host: GatewayTestHost, upstream: Upstream, ledger: CallLedger
) -> None:
    gate = asyncio.Event()
    api.replies.append(Text("first second", gate=gate))
    stopping = host.gateway(upstream)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        async with stopping.opened():
            client = await host.session(stopping, "s9")
            answer = await client.post(MESSAGES, json=make_request_body())
            await answer.content.readany()
            opening = asyncio.create_task(open_when_turned_away(gate, host.socket("s9")))
        await opening
        assert b'"second"' in await answer.read()
    assert [call.outcome for call in ledger.calls] == [CallOutcome.COMPLETED]


async def open_when_turned_away(gate: asyncio.Event, socket: Path) -> None:
    """Open the gate as soon as the gateway accepts no new request."""
    with suppress(OSError):
        while True:
            _, writer = await asyncio.open_unix_connection(socket)
            writer.close()
            await writer.wait_closed()
    gate.set()


async def test_a_stream_longer_than_the_grace_period_is_ended_and_recorded_before_the_stop_returns(
    api: StubMessagesApi, host: GatewayTestHost, upstream: Upstream, ledger: CallLedger
) -> None:
    api.replies.append(Text("first second", gate=asyncio.Event()))
    stopping = host.gateway(upstream, grace_s=0.05)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        async with stopping.opened():
            client = await host.session(stopping, "s9")
            answer = await client.post(MESSAGES, json=make_request_body())
            await answer.content.readany()
        assert [call.outcome for call in ledger.calls] == [CallOutcome.ABANDONED]
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_closed_gateway_accepts_no_session(host: GatewayTestHost, upstream: Upstream) -> None:
    closed = host.gateway(upstream)
    with pytest.raises(RuntimeError):
        await closed.attach(SessionId("s1"), host.socket("s1"))
