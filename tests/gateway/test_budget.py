"""A session with too many requests is throttled, leaves only the budgeted number of rows, and is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.gateway.call_recorder import BATCH_SIZE, MAX_QUEUED, CallRecorder
from nanohost.gateway.model_call import CallOutcome, ModelCall, Usage
from nanohost.gateway.model_service import Upstream
from nanohost.gateway.rate_limit import COOLDOWN_S, CallBudget, call_limits_from_settings
from nanohost.gateway.settings import CallSettings
from nanohost.model import SessionId
from nanohost.testing.manual_clock import START, ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work.throttle import BURST_SHARE, MAX_PAUSE_S
from tests.gateway.conftest import MESSAGES, CallLedger, GatewayTestHost, make_request_body
from tests.support.invariants import wait_until
from tests.support.messages_api import StubMessagesApi, Text

S1 = SessionId("s1")
NO_KEY = Upstream(api_key=None)
"""Every call fails, and none leaves the host."""
USUAL = call_limits_from_settings(CallSettings())
FAILURES_AT_ONCE = int(USUAL.failures_per_hour * BURST_SHARE)
REQUESTS_AT_ONCE = int(USUAL.requests_per_hour * BURST_SHARE)
CONNECTIONS = 8
EMPTY_CALL = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
FORBIDDEN = b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """A client that sends without waiting for answers, and counts them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.received = b""
        self._reading = asyncio.create_task(self._read(reader))

    def send(self, request: bytes, times: int) -> None:
        self._writer.write(request * times)

    def answers(self, status: int) -> int:
        return self.received.count(f"HTTP/1.1 {status} ".encode())

    async def has_been_left(self) -> None:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await self._reading

    async def leave(self) -> None:
        self._writer.close()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(2**16):
            self.received += data


@asynccontextmanager
async def clients(path: Path, count: int = CONNECTIONS) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            client = Client(*await asyncio.open_unix_connection(path))
            stack.push_async_callback(client.leave)
            found.append(client)
        yield found


def answers(flood: Sequence[Client], status: int) -> int:
    return sum(client.answers(status) for client in flood)


async def all_wait(clock: ManualClock, count: int = CONNECTIONS) -> None:
    """Wait until so many requests wait for the end of their pause, and the monitor for the session."""
    await wait_until(lambda: len(clock.remaining_sleeps_s()) == count + 1)


@pytest.mark.behaviour("SE-06")
async def test_a_flood_of_calls_leaves_only_the_budgeted_number_of_rows(
    host: GatewayTestHost, ledger: CallLedger
) -> None:
    clock = ManualClock()
    gateway = await host.open(NO_KEY, clock=clock)
    await gateway.attach(S1, host.socket("s1"))
    async with clients(host.socket("s1")) as flood:
        for client in flood:
            client.send(EMPTY_CALL, 200)
        await all_wait(clock)
        assert len(ledger.calls) == FAILURES_AT_ONCE
        assert answers(flood, 429) == 0
        for pause_s in (1, 2, 4, 8, 16, 32, 60, 60):
            await clock.advance(pause_s)
            await all_wait(clock)
        spent = FAILURES_AT_ONCE + USUAL.failures_per_hour * clock.monotonic() / 3600
        assert len(ledger.calls) <= spent + 1
        assert answers(flood, 429) == 8 * CONNECTIONS


@pytest.mark.behaviour("SE-06")
async def test_a_flood_of_refused_requests_adds_two_log_lines_beyond_its_budget(host: GatewayTestHost) -> None:
    clock = ManualClock()
    with capture_logs() as lines:
        gateway = await host.open(NO_KEY, clock=clock)
        await gateway.attach(S1, host.socket("s1"))
        async with clients(host.socket("s1")) as flood:
            for client in flood:
                client.send(FORBIDDEN, 100)
            await all_wait(clock)
            assert answers(flood, 403) == FAILURES_AT_ONCE
        await wait_until(lambda: len(clock.remaining_sleeps_s()) >= 1)
        await clock.advance(COOLDOWN_S + 1)
        assert gateway.throttled() == {}
    events = [line["event"] for line in lines]
    assert events.count("gateway_request_rejected") == FAILURES_AT_ONCE
    assert [event for event in events if event != "gateway_request_rejected"] == [
        "session_over_budget",
        "session_within_budget",
    ]
    assert lines[-1]["turned_down"] == CONNECTIONS


@pytest.mark.behaviour("SE-06")
async def test_bytes_that_are_not_a_request_are_charged_and_leave_no_traceback(
    host: GatewayTestHost, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as lines:
        gateway = await host.open(NO_KEY, clock=ManualClock())
        await gateway.attach(S1, host.socket("s1"))
        for number in range(FAILURES_AT_ONCE + 20):
            async with clients(host.socket("s1"), 1) as (client,):
                client.send(b"GET nonsense %d\r\n\r\n" % number, 1)
                await client.has_been_left()
                assert b" 400 Bad Request" in client.received
    assert [line["event"] for line in lines].count("gateway_request_rejected") == FAILURES_AT_ONCE
    assert gateway.throttled() == {}
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


@pytest.mark.behaviour("SE-06")
async def test_requests_without_a_record_count_too(host: GatewayTestHost) -> None:
    clock = ManualClock()
    gateway = await host.open(NO_KEY, clock=clock)
    await gateway.attach(S1, host.socket("s1"))
    async with clients(host.socket("s1")) as flood:
        for client in flood:
            client.send(PROBE, 400)
        await all_wait(clock)
        assert answers(flood, 200) == REQUESTS_AT_ONCE
        assert gateway.throttled() == {S1: "more than 7,200 requests to the model an hour"}


@pytest.mark.behaviour("SE-06")
async def test_a_client_that_keeps_opening_connections_waits_for_them_to_be_accepted(host: GatewayTestHost) -> None:
    clock = ManualClock()
    gateway = await host.open(NO_KEY, clock=clock)
    await gateway.attach(S1, host.socket("s1"))
    for _ in range(int(USUAL.connections_per_hour * BURST_SHARE)):
        _, writer = await asyncio.open_unix_connection(host.socket("s1"))
        writer.close()
    async with clients(host.socket("s1"), 1) as (client,):
        client.send(PROBE, 1)
        await all_wait(clock, 1)
        assert gateway.throttled() == {S1: "more than 7,200 connections to the model an hour"}
        assert client.received == b""
        await clock.advance(1)
        await wait_until(lambda: client.answers(200) == 1)


@pytest.mark.behaviour("SE-06")
async def test_the_owners_are_notified_once_of_a_session_that_keeps_failing(host: GatewayTestHost) -> None:
    clock = ManualClock()
    gateway = await host.open(NO_KEY, clock=clock)
    await gateway.attach(S1, host.socket("s1"))
    async with clients(host.socket("s1")) as flood:
        for client in flood:
            client.send(EMPTY_CALL, 200)
        await all_wait(clock)
        for pause_s in (1, 2):
            assert host.budget_notices == []
            await clock.advance(pause_s)
            await all_wait(clock)
        for pause_s in (4, 8):
            assert host.budget_notices == [(S1, "more than 1,200 requests to the model an hour that fail")]
            await clock.advance(pause_s)
            await all_wait(clock)


@pytest.mark.behaviour("SE-06")
async def test_other_sessions_are_served_and_a_new_container_keeps_the_old_budget(
    host: GatewayTestHost, api: StubMessagesApi, upstream: Upstream
) -> None:
    clock = ManualClock()
    gateway = await host.open(upstream, clock=clock)
    await gateway.attach(S1, host.socket("s1"))
    other = await host.session(gateway, "s2")
    async with clients(host.socket("s1")) as flood:
        for client in flood:
            client.send(FORBIDDEN, 100)
        await all_wait(clock)
        async with other.post(MESSAGES, json=make_request_body()) as answer:
            assert answer.status == 200
    await gateway.detach(S1)
    await gateway.attach(S1, host.socket("s1"))
    async with clients(host.socket("s1"), 1) as (client,):
        client.send(EMPTY_CALL, 1)
        await wait_until(lambda: len(clock.remaining_sleeps_s()) >= 2)
        await clock.advance(1)
        await wait_until(lambda: client.answers(429) == 1)
    assert b"Retry-After: " in client.received
    assert b"rate_limit_error" in client.received


async def test_a_throttled_session_resumes_when_the_service_answers_again(
    host: GatewayTestHost, api: StubMessagesApi, upstream: Upstream
) -> None:
    clock = ManualClock()
    gateway = await host.open(upstream, clock=clock)
    client = await host.session(gateway)
    async with clients(host.socket("s1")) as flood:
        for one in flood:
            one.send(FORBIDDEN, 100)
        await all_wait(clock)
    await clock.advance(COOLDOWN_S + 1)
    for _ in range(2 * CONNECTIONS):
        async with client.post(MESSAGES, json=make_request_body()) as answer:
            assert answer.status == 200
    assert gateway.throttled() == {}


@pytest.mark.behaviour("SE-06")
async def test_a_client_that_disconnects_midway_is_charged_a_failure(
    host: GatewayTestHost, api: StubMessagesApi, upstream: Upstream, ledger: CallLedger
) -> None:
    clock = ManualClock()
    gateway = await host.open(upstream, clock=clock)
    client = await host.session(gateway)
    api.default = Text("first second", gate=asyncio.Event())
    for _ in range(FAILURES_AT_ONCE):
        async with client.post(MESSAGES, json=make_request_body()) as answer:
            answer.close()
    await ledger.wait_for_recorded(FAILURES_AT_ONCE)
    assert {call.outcome for call in ledger.calls} == {CallOutcome.ABANDONED}
    asking = asyncio.create_task(client.post(MESSAGES, json=make_request_body()))
    await all_wait(clock, 1)
    await clock.advance(1)
    assert (await asking).status == 429
    assert len(ledger.calls) == FAILURES_AT_ONCE


async def test_a_stop_does_not_wait_for_throttled_clients(host: GatewayTestHost) -> None:
    clock = ManualClock()
    gateway = host.gateway(NO_KEY, clock=clock, grace_s=60.0)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        async with gateway.opened():
            await gateway.attach(S1, host.socket("s1"))
            async with clients(host.socket("s1")) as flood:
                for client in flood:
                    client.send(EMPTY_CALL, 200)
                await all_wait(clock)
                await gateway._close()
    assert clock.monotonic() == 0


def call(number: int) -> ModelCall:
    return ModelCall(
        session_id=S1,
        model=str(number),
        usage=Usage(),
        started_at=START,
        duration_ms=1,
        status=200,
        outcome=CallOutcome.COMPLETED,
        error="",
    )


async def test_calls_waiting_to_be_recorded_are_written_in_one_batch() -> None:
    batches: list[list[str]] = []

    async def record(calls: Sequence[ModelCall]) -> None:
        batches.append([one.model for one in calls])
        await asyncio.sleep(0)

    recordings = CallRecorder(record)
    for number in range(250):
        recordings.enqueue(call(number))
    await recordings.flush()
    assert [len(batch) for batch in batches] == [BATCH_SIZE, BATCH_SIZE, 50]
    assert [one for batch in batches for one in batch] == [str(number) for number in range(250)]


async def test_a_call_that_cannot_be_recorded_does_not_affect_others() -> None:
    kept: list[str] = []

    async def record(calls: Sequence[ModelCall]) -> None:
        if any(one.model == "7" for one in calls):
            raise ValueError("7")
        kept.extend(one.model for one in calls)

    recordings = CallRecorder(record)
    for number in range(20):
        recordings.enqueue(call(number))
    with capture_logs() as lines:
        await recordings.flush()
    assert len(kept) == 19
    assert [(line["event"], line["calls"]) for line in lines] == [("gateway_record_failed", 1)]


@pytest.mark.behaviour("SE-06")
async def test_no_call_is_made_while_too_many_wait_to_be_recorded(
    host: GatewayTestHost, api: StubMessagesApi, upstream: Upstream, ledger: CallLedger
) -> None:
    ledger.gate = asyncio.Event()
    gateway = await host.open(upstream)
    client = await host.session(gateway)
    for number in range(MAX_QUEUED + BATCH_SIZE):
        gateway._recorder.enqueue(call(number))
        if number == 0:
            await asyncio.sleep(0)  # the writer has taken the first
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert answer.status == 529
    assert api.messages == []
    ledger.gate.set()
    await ledger.wait_for_recorded(MAX_QUEUED + BATCH_SIZE)
    async with client.post(MESSAGES, json=make_request_body()) as answer:
        assert answer.status == 200


def test_pauses_grow_once_for_simultaneous_requests_up_to_a_minute() -> None:
    budget, now, pauses = CallBudget(USUAL, 0.0), 0.0, []
    for _ in range(9):
        pauses.append(budget.wait_s(now))
        assert budget.wait_s(now + 0.5) == pauses[-1] - 0.5
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S]


def test_an_idle_budget_equals_a_new_one() -> None:
    budget = CallBudget(USUAL, 0.0)
    assert budget.is_full(0.0)
    assert budget.consume_request(0.0)
    budget.consume_failure()
    assert not budget.is_full(1.0)
    assert budget.is_full(10.0)
