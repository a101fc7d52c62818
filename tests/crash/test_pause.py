"""kill -9 around a pause: it is kept, it is answered once, and waiting work is done once after it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from nanohost.chat_commands.pause import PAUSED_TEXT
from nanohost.testing.time_limits import scaled_timeout
from tests.crash.platform import FakePlatform
from tests.crash.processes import HostProcess
from tests.crash.workload import FOLDER, prepare_workload_home

LIMIT_S = 60.0
SCRIPT = [{"match": "long", "attempt": 1, "actions": [{"until_file": "never"}]}]


@pytest.mark.behaviour("SE-12")
@pytest.mark.parametrize("point", ["host_requests.open", "host_requests.committed"])
async def test_a_pause_survives_a_kill_and_every_message_is_answered_once_after_it(tmp_path: Path, point: str) -> None:
    home = tmp_path / "home"
    async with FakePlatform().opened() as platform:
        host = HostProcess(home, platform.port, {"runtime": "process"})
        await prepare_workload_home(home, 2)
        (home / "groups" / FOLDER / "script.json").write_text(json.dumps(SCRIPT))
        assert host.command("roles", "create", "wire:ann", "owner").returncode == 0
        try:
            async with asyncio.timeout(scaled_timeout(LIMIT_S)):
                await _paused_and_killed(host, platform, point)
                platform.write("m3", "c0", "hi")
                await platform.wait_until_seen({("c0", PAUSED_TEXT)})
                await asyncio.to_thread(host.kill)
                assert (await asyncio.to_thread(host.command, "status")).stdout.startswith("PAUSED ")
                host.start()
                await _none_runs(host)
                assert (await asyncio.to_thread(host.command, "resume")).returncode == 0
                await platform.wait_until_seen({("c0", "echo: hi"), ("c0", "echo: long")})
        finally:
            await asyncio.to_thread(host.cleanup)
    seen = platform.texts()
    answers = {text: count for (chat, text), count in seen.items() if chat == "c0"}
    assert answers == {PAUSED_TEXT: 1, "echo: hi": 1, "echo: long": 1}
    told = Counter(text.split(":")[0].split(",")[0].split(" since")[0] for (chat, text) in seen if chat == "c1")
    assert set(told) <= {"Paused", "Interrupted in the middle of a turn"}
    assert told["Paused"] == 1


async def _paused_and_killed(host: HostProcess, platform: FakePlatform, point: str) -> None:
    """A long turn runs, /pause is said, the host dies at the point, and the next one is started."""
    host.start()
    platform.write("m1", "c0", "long")
    while not host.runner_pids():  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.05)
    await asyncio.to_thread(host.kill)
    host.start(crash_at=point)
    platform.write("m2", "c1", "/pause")
    assert await asyncio.to_thread(host.wait_for_exit, scaled_timeout(LIMIT_S)) is not None
    host.start()
    await _none_runs(host)


async def _none_runs(host: HostProcess) -> None:
    while await asyncio.to_thread(host.runner_pids):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.05)
