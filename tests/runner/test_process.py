"""The runner as a process of its own: how it begins, how it ends, and what a SIGKILL leaves."""

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

from nanohost.testing.limits import seconds
from nanohost_protocol.errors import Busy, NotReady
from nanohost_protocol.heartbeat import last_beat
from nanohost_protocol.rows import AckStatus
from tests.runner.host_side import WAIT_S, HostSide, ended, until


@pytest.fixture
def host(tmp_path: Path) -> HostSide:
    return HostSide(tmp_path / "session")


async def test_a_signal_ends_it_in_order(host: HostSide) -> None:
    host.say("m1", "hi")
    process = await host.start()
    await host.acked("m1")
    assert last_beat(host.layout.heartbeat) is not None
    process.terminate()
    assert await ended(process) == (0, "")


async def test_a_second_runner_of_a_session_is_refused(host: HostSide) -> None:
    host.say("m1", "hi")
    first = await host.start()
    await host.acked("m1")
    code, printed = await ended(await host.start("lease-2"))
    first.terminate()
    assert code == 75
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ not_the_writer ", printed)
    assert printed.count("\n") == 1
    assert (await ended(first))[0] == 0


@pytest.mark.behaviour("RU-12")
@pytest.mark.parametrize(
    ("version", "words"), [(2, "build the agent's image anew"), (0, "update nanohost on the host")]
)
async def test_another_version_of_the_mailbox_stops_it_with_words(host: HostSide, version: int, words: str) -> None:
    _stamp(host.layout.inbound_db, version)
    code, printed = await ended(await host.start())
    assert code == 78
    assert words in printed
    assert "Traceback" not in printed


def _stamp(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()


async def test_wrong_settings_are_said_in_one_line(host: HostSide) -> None:
    code, printed = await ended(await host.start(NANOHOST_PROVIDER="oracle"))
    assert code == 64
    assert "claude, demo, scripted" in printed


async def test_it_leaves_when_its_host_has_vanished(host: HostSide) -> None:
    code, printed = await ended(await host.start(NANOHOST_IDLE_EXIT_S="0.05", NANOHOST_POLL_INTERVAL_S="0.05"))
    assert (code, printed.split()[1]) == (0, "idle_exit")


@pytest.mark.behaviour("RU-08", "RU-09")
async def test_a_container_that_crashes_leaves_a_claim_that_the_next_one_does_not_inherit(host: HostSide) -> None:
    say: dict[str, object] = {"tool": "send_message", "arguments": {"text": "working"}}
    host.script({"match": "", "attempt": 1, "actions": [say, {"crash": True}]}, _rule("", [say, {"answer": "done"}]))
    host.say("m1", "hi")
    assert (await ended(await host.start("lease-1")))[0] == -signal.SIGKILL
    process = await host.start("lease-2")
    abandoned = await host.acked("m1", status=AckStatus.ABANDONED)
    assert abandoned["m1"].container_id == "lease-1"
    host.retry(abandoned["m1"])
    acks = await host.acked("m1")
    process.terminate()
    await ended(process)
    assert acks["m1"].container_id == "lease-2"
    assert host.texts() == ["working", "done"]


def _rule(match: str, actions: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {"match": match, "actions": actions}


async def test_nothing_heavy_is_imported_before_it_looks_for_work(host: HostSide) -> None:
    code = "import agent_runner.__main__, sys; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", code], env=host.environment(), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    loaded = {name.split(".")[0] for name in printed.decode().split()}
    assert not loaded & {"claude_agent_sdk", "pydantic", "mcp", "anyio", "structlog", "nanohost", "email", "http"}


@pytest.mark.behaviour("RU-08")
@pytest.mark.parametrize("seed", range(3))
async def test_kills_at_random_moments_lose_nothing_and_say_nothing_twice(host: HostSide, seed: int) -> None:
    """Every message is answered once and its tool message said once, however often the runner dies on the way."""
    say: dict[str, object] = {"tool": "send_message", "arguments": {"text": "saw {text}"}}
    host.script(_rule("", [say, {"sleep_s": 0.001}, {"answer": "did {text}"}]))
    chance = random.Random(seed)
    numbers = range(12)
    for number in numbers:
        host.say(f"m{number}", str(number))
    for life in range(8):
        process = await host.start(f"lease-{life}")
        await asyncio.sleep(chance.uniform(0.07, 0.13))
        process.kill()
        await ended(process)
        _allow_again(host)
    process = await host.start("last")
    await _until_all_done(host, [f"m{number}" for number in numbers])
    process.terminate()
    await ended(process)
    wanted = Counter([f"saw {number}" for number in numbers] + [f"did {number}" for number in numbers])
    assert Counter(host.texts()) == wanted
    assert all(row.seq % 2 == 1 for row in host.sent())


async def _until_all_done(host: HostSide, ids: list[str]) -> None:
    """Play the keeper: allow again what a dead container left."""
    async with asyncio.timeout(seconds(WAIT_S)):
        while True:
            found = await host.seen(lambda outbound: outbound.acks_after(0) or None)
            acks = {ack.message_id: ack for ack in found}
            if all(id in acks and acks[id].status is AckStatus.COMPLETED for id in ids):
                return
            _allow_again(host, AckStatus.ABANDONED)
            await asyncio.sleep(0.02)


def _allow_again(host: HostSide, *statuses: AckStatus) -> None:
    """What the keeper does with the claims of a container that died. A file that is half written is no news yet."""
    with suppress(NotReady, Busy):
        for ack in host.acks().values():
            if ack.status in (statuses or (AckStatus.PROCESSING, AckStatus.ABANDONED)):
                host.retry(ack)


async def test_the_heart_beats_while_a_turn_hangs(host: HostSide) -> None:
    host.script(_rule("", [{"hang": True}]))
    host.say("m1", "hi")
    process = await host.start()
    await host.acked("m1", status=AckStatus.PROCESSING)
    seen = datetime.now(UTC)
    await until(lambda: (last_beat(host.layout.heartbeat) or seen) > seen)
    process.terminate()
    assert (await ended(process))[0] == 0
    assert host.acks()["m1"].status is AckStatus.ABANDONED
