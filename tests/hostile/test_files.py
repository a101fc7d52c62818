"""A session's misuse of its own two files stops, throttles or fills nobody but itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from nanohost.containers.ack_processor import OVER_BUDGET_REASON
from nanohost.db import model_calls, roles, users
from nanohost.model import Role
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.rows import Origin
from tests.hostile.agents import RUNTIMES, ask_agent, run_hostile_host, start_hostile_agent, wait_for_stop_reason
from tests.support.container_engines import docker_engine
from tests.support.flow import RunningHost
from tests.support.invariants import wait_until

__all__ = ["docker_engine"]

MESSAGES = 10


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("docker"):
        request.getfixturevalue("docker_engine")


@pytest.mark.case("a companion file of outbound.db that is no regular file")
@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06", "RT-03")
async def test_a_journal_swapped_for_a_pipe_stops_its_own_session_only(tmp_path: Path, kind: str) -> None:
    async with run_hostile_host(tmp_path, kind) as flow:
        await flow.wire("good", "good")
        await start_hostile_agent(flow, "swap_journal")
        asking = asyncio.create_task(_talk(flow))
        assert "outbound.db" in await wait_for_stop_reason(flow)
        assert await asking == [f"echo: {number}" for number in range(MESSAGES)]


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06")
async def test_a_session_that_only_holds_a_lock_is_stopped_and_named(tmp_path: Path, kind: str) -> None:
    async with run_hostile_host(tmp_path, kind) as flow:
        await start_hostile_agent(flow, "lock")
        await flow.fake.person_writes("are you there?", chat="bad")
        assert "outbound.db has been locked for" in await wait_for_stop_reason(flow)


@pytest.mark.case("ten sessions that lock their own outbound.db")
@pytest.mark.behaviour("SE-06", "RT-03")
async def test_a_session_is_answered_while_ten_others_hold_locks(tmp_path: Path) -> None:
    """benchmarks/hostile.py measures how fast."""
    async with run_hostile_host(tmp_path, "process", max_containers=12) as flow:
        await flow.wire("good", "good")
        for number in range(10):
            await start_hostile_agent(flow, "lock", chat=f"bad{number}")
            await flow.fake.person_writes("are you there?", chat=f"bad{number}")
        assert await _talk(flow) == [f"echo: {number}" for number in range(MESSAGES)]


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06")
async def test_a_session_that_blocks_the_hosts_writes_is_stopped_and_named(tmp_path: Path, kind: str) -> None:
    async with run_hostile_host(tmp_path, kind) as flow:
        await start_hostile_agent(flow, "lock_inbound")
        await flow.fake.person_writes("are you there?", chat="bad")
        assert "inbound.db has been locked for" in await wait_for_stop_reason(flow)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
@pytest.mark.behaviour("SE-06")
async def test_no_file_lease_of_a_session_blocks_the_host(tmp_path: Path, kind: str) -> None:
    async with run_hostile_host(tmp_path, kind) as flow:
        await flow.wire("good", "good")
        assert await ask_agent(flow, "hi") == "echo: hi"
        for chat in ("bad", "worse"):
            await start_hostile_agent(flow, "lease_inbound", chat=chat)
            await flow.fake.person_writes("are you there?", chat=chat)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            assert await _talk(flow) == [f"echo: {number}" for number in range(MESSAGES)]
            await wait_until(lambda: all(len(flow.texts(chat)) == 2 for chat in ("bad", "worse")))


@pytest.mark.parametrize("name", ["fill_table", "large_text"])
@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06")
async def test_a_file_that_is_too_expensive_to_read_stops_its_own_session_only(
    tmp_path: Path, kind: str, name: str
) -> None:
    async with run_hostile_host(tmp_path, kind) as flow:
        await flow.wire("good", "good")
        await start_hostile_agent(flow, name)
        assert "outbound.db cannot be read" in await wait_for_stop_reason(flow)
        assert await ask_agent(flow, "hi") == "echo: hi"


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06")
async def test_a_session_that_floods_acks_is_throttled_and_named_and_others_are_answered(
    tmp_path: Path, kind: str
) -> None:
    async with run_hostile_host(tmp_path, kind) as flow:
        await flow.wire("good", "good")
        await start_hostile_agent(flow, "flood_acks")
        session = await flow.session("bad")
        await wait_until(lambda: session.id in flow.host.throttled(), timeout_s=60.0)
        shown = flow.host.report()["sessions_slowed"]
        assert shown == [{"session": session.id, "reason": OVER_BUDGET_REASON}]
        assert await ask_agent(flow, "hi") == "echo: hi"


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06", "GW-02")
async def test_a_session_that_floods_the_gateway_is_throttled_and_named_and_others_are_answered(
    tmp_path: Path, kind: str
) -> None:
    async with run_hostile_host(tmp_path, kind) as flow:
        await flow.wire("good", "good")
        await start_hostile_agent(flow, "flood_gateway")
        for number in range(MESSAGES):
            assert await ask_agent(flow, str(number)) == f"echo: {number}"
        assert (await model_calls.totals(flow.host.store.reports))["calls"] < 1_000
        session = await flow.session("bad")
        shown = flow.host.report()["sessions_slowed"]
        assert shown == [{"session": session.id, "reason": "more than 1,200 requests to the model an hour that fail"}]


@pytest.mark.behaviour("SE-06")
async def test_the_owner_is_notified_of_a_session_that_keeps_flooding_the_gateway(tmp_path: Path) -> None:
    async with run_hostile_host(tmp_path, "process", session_calls_per_hour=36) as flow:
        now, place = flow.host.clock.now(), Origin(channel_type="fake", instance="default", platform_id="d")
        async with flow.host.store.transaction() as tx:
            await users.record_seen(tx, "fake:boss", name="Boss", now=now)
            await users.save_dm(tx, "fake:boss", place, now)
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=now)
        await start_hostile_agent(flow, "flood_gateway")
        await wait_until(lambda: bool(flow.texts("d")))
        session = await flow.session("bad")
        [words] = flow.texts("d")
        assert words.startswith(f"The agent bad writes too much in session {session.id}: more than 6 requests")
        assert words.endswith(f"To stop it: nanohost sessions hold {session.id}")


@pytest.mark.case("a container that keeps 250 MB in its state")
@pytest.mark.parametrize("name", ["large_state", "large_text"])
async def test_data_in_a_containers_file_does_not_stay_in_the_hosts_memory(tmp_path: Path, name: str) -> None:
    async with run_hostile_host(tmp_path, "process") as flow:
        await flow.wire("good", "good")
        await ask_agent(flow, "hi")
        before = _resident_mb()
        await start_hostile_agent(flow, name)
        await ask_agent(flow, "/status", chat="bad")  # reads the container's report of its turn
        for number in range(MESSAGES):
            await ask_agent(flow, str(number))
        assert _resident_mb() - before < 20


async def _talk(flow: RunningHost) -> list[str]:
    return [await ask_agent(flow, str(number)) for number in range(MESSAGES)]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2
