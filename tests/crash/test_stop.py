"""kill -9 around a /stop: it is not lost, it is answered once, and what it stopped does not come back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from nanohost.chat_commands.stop import STOPPED_TEXT
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.errors import FileLocked, FileNotReady
from nanohost_protocol.outbound import outbound_snapshot
from tests.crash.platform import FakePlatform
from tests.crash.processes import HostProcess
from tests.crash.workload import FOLDER, prepare_workload_home

SCRIPT = [
    {"match": "long", "attempt": 1, "actions": [{"hang": True}]},
    {"match": "long", "actions": [{"answer": "it came back"}]},
]


@pytest.mark.behaviour("SE-12")
@pytest.mark.parametrize(
    ("point", "kills_runner"),
    [("routing.written", False), ("routing.recorded", True), ("acks.applied", False)],
)
async def test_a_stop_survives_a_kill_at_any_moment(tmp_path: Path, point: str, kills_runner: bool) -> None:
    home = tmp_path / "home"
    async with FakePlatform().opened() as platform:
        host = HostProcess(home, platform.port, {"runtime": "process"})
        await prepare_workload_home(home, 1)
        (home / "groups" / FOLDER / "script.json").write_text(json.dumps(SCRIPT))
        try:
            async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
                await _stopped_and_killed(host, platform, point, kills_runner=kills_runner)
                await platform.wait_until_seen({("c0", STOPPED_TEXT)})
                platform.write("m3", "c0", "hi")
                await platform.wait_until_seen({("c0", "echo: hi")})
        finally:
            await asyncio.to_thread(host.cleanup)
    assert platform.texts() == Counter({("c0", STOPPED_TEXT): 1, ("c0", "echo: hi"): 1})


async def _stopped_and_killed(host: HostProcess, platform: FakePlatform, point: str, *, kills_runner: bool) -> None:
    """A long turn is stopped, the host dies at the point, perhaps its runner too, and the next host is started."""
    host.start()
    platform.write("m1", "c0", "long")
    while not await asyncio.to_thread(_claimed, host.root):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.05)
    await asyncio.to_thread(host.kill)
    host.start(crash_at=point)
    platform.write("m2", "c0", "/stop")
    assert await asyncio.to_thread(host.wait_for_exit, scaled_timeout(HANG_TIMEOUT_S)) is not None
    if kills_runner:
        host.kill_all_runners()
    host.start()


def _claimed(home: Path) -> bool:
    for path in (home / "sessions").glob("*/*/out/outbound.db"):
        try:
            with outbound_snapshot(path) as box:
                return bool(box.open_claims())
        except (FileNotReady, FileLocked):
            return False
    return False
