"""The runner as a process: its start, its end, and the state after a SIGKILL."""

import asyncio
import random
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.errors import FileLocked, FileNotReady
from nanohost_protocol.heartbeat import last_heartbeat
from nanohost_protocol.rows import AckStatus
from tests.runner.host_side import WAIT_TIMEOUT_S, SessionHost, wait_for_exit, wait_until


@pytest.fixture
def host(tmp_path: Path) -> SessionHost:
    return SessionHost(tmp_path / "session")


async def test_a_signal_stops_the_runner_in_order(host: SessionHost) -> None:
    host.write_message("m1", "hi")
    process = await host.start_runner()
    await host.wait_for_acks("m1")
    assert last_heartbeat(host.layout.heartbeat) is not None
    process.terminate()
    assert await wait_for_exit(process) == (0, "")


async def test_a_second_runner_of_a_session_is_refused(host: SessionHost) -> None:
    host.write_message("m1", "hi")
    first = await host.start_runner()
    await host.wait_for_acks("m1")
    code, printed = await wait_for_exit(await host.start_runner("lease-2"))
    first.terminate()
    assert code == 75
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ writer_lock_held ", printed)
    assert printed.count("\n") == 1
    assert (await wait_for_exit(first))[0] == 0


@pytest.mark.behaviour("RU-12")
@pytest.mark.parametrize(
    ("version", "words"), [(2, "build the agent's image anew"), (0, "update nanohost on the host")]
)
async def test_an_unsupported_mailbox_version_stops_the_runner_with_a_message(
    host: SessionHost, version: int, words: str
) -> None:
    _stamp(host.layout.inbound_db, version)
    code, printed = await wait_for_exit(await host.start_runner())
    assert code == 78
    assert words in printed
    assert "Traceback" not in printed


def _stamp(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()


async def test_invalid_settings_are_reported_in_one_line(host: SessionHost) -> None:
    code, printed = await wait_for_exit(await host.start_runner(NANOHOST_PROVIDER="oracle"))
    assert code == 64
    assert "claude, demo, scripted" in printed


async def test_the_runner_exits_when_its_host_has_vanished(host: SessionHost) -> None:
    code, printed = await wait_for_exit(
        await host.start_runner(NANOHOST_IDLE_EXIT_S="0.05", NANOHOST_POLL_INTERVAL_S="0.05")
    )
    assert (code, printed.split()[1]) == (0, "idle_timeout_reached")


@pytest.mark.behaviour("RU-08", "RU-09")
async def test_a_claim_of_a_crashed_container_is_not_inherited_by_the_next(host: SessionHost) -> None:
    say: dict[str, object] = {"tool": "send_message", "arguments": {"text": "working"}}
    host.write_script(
        {"match": "", "attempt": 1, "actions": [say, {"crash": True}]}, _rule("", [say, {"answer": "done"}])
    )
    host.write_message("m1", "hi")
    assert (await wait_for_exit(await host.start_runner("lease-1")))[0] == -signal.SIGKILL
    process = await host.start_runner("lease-2")
    abandoned = await host.wait_for_acks("m1", status=AckStatus.ABANDONED)
    assert abandoned["m1"].container_id == "lease-1"
    host.retry(abandoned["m1"])
    acks = await host.wait_for_acks("m1")
    process.terminate()
    await wait_for_exit(process)
    assert acks["m1"].container_id == "lease-2"
    assert host.texts() == ["working", "done"]


def _rule(match: str, actions: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {"match": match, "actions": actions}


async def test_no_heavy_module_is_imported_before_the_first_poll(host: SessionHost) -> None:
    code = "import agent_runner.__main__, sys; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", code], env=host.environment(), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    loaded = {name.split(".")[0] for name in printed.decode().split()}
    assert not loaded & {"claude_agent_sdk", "pydantic", "mcp", "anyio", "structlog", "nanohost", "email", "http"}


@pytest.mark.behaviour("RU-08")
@pytest.mark.parametrize("seed", range(3))
async def test_kills_at_random_moments_lose_no_message_and_repeat_none(host: SessionHost, seed: int) -> None:
    """Every message is answered once and its tool message sent once, however often the runner dies."""
    say: dict[str, object] = {"tool": "send_message", "arguments": {"text": "saw {text}"}}
    host.write_script(_rule("", [say, {"sleep_s": 0.001}, {"answer": "did {text}"}]))
    chance = random.Random(seed)
    numbers = range(12)
    for number in numbers:
        host.write_message(f"m{number}", str(number))
    for life in range(8):
        process = await host.start_runner(f"lease-{life}")
        await asyncio.sleep(chance.uniform(0.07, 0.13))
        process.kill()
        await wait_for_exit(process)
        _allow_again(host)
    process = await host.start_runner("last")
    await _until_all_done(host, [f"m{number}" for number in numbers])
    process.terminate()
    await wait_for_exit(process)
    wanted = Counter([f"saw {number}" for number in numbers] + [f"did {number}" for number in numbers])
    assert Counter(host.texts()) == wanted
    assert all(row.seq % 2 == 1 for row in host.sent())


async def _until_all_done(host: SessionHost, ids: list[str]) -> None:
    """Act as the container manager: retry claims of a dead container."""
    async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
        while True:
            found = await host.wait_for(lambda outbound: outbound.acks_after(0) or None)
            acks = {ack.message_id: ack for ack in found}
            if all(id in acks and acks[id].status is AckStatus.COMPLETED for id in ids):
                return
            _allow_again(host, AckStatus.ABANDONED)
            await asyncio.sleep(0.02)


def _allow_again(host: SessionHost, *statuses: AckStatus) -> None:
    """Retry the claims of a dead container. A half-written file reads as unchanged."""
    with suppress(FileNotReady, FileLocked):
        for ack in host.acks().values():
            if ack.status in (statuses or (AckStatus.PROCESSING, AckStatus.ABANDONED)):
                host.retry(ack)


async def test_the_heartbeat_continues_while_a_turn_hangs(host: SessionHost) -> None:
    host.write_script(_rule("", [{"hang": True}]))
    host.write_message("m1", "hi")
    process = await host.start_runner()
    await host.wait_for_acks("m1", status=AckStatus.PROCESSING)
    seen = datetime.now(UTC)
    await wait_until(lambda: (last_heartbeat(host.layout.heartbeat) or seen) > seen)
    process.terminate()
    assert (await wait_for_exit(process))[0] == 0
    assert host.acks()["m1"].status is AckStatus.ABANDONED
