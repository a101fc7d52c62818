"""kill -9 around a /stop: it is not lost, it is answered once, and what it stopped does not come back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from nanohost.chat_commands.stop import STOPPED
from nanohost.testing.limits import HANG_S, seconds
from nanohost_protocol.errors import Busy, NotReady
from nanohost_protocol.outbound import reading_outbound
from tests.crash.people import FOLDER, furnish
from tests.crash.platform import Platform
from tests.crash.victims import HostProcess

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
    async with Platform().opened() as platform:
        host = HostProcess(home, platform.port, {"runtime": "process"}, forked=True)
        await furnish(home, 1)
        (home / "groups" / FOLDER / "script.json").write_text(json.dumps(SCRIPT))
        try:
            async with asyncio.timeout(seconds(HANG_S)):
                await _stopped_and_killed(host, platform, point, kills_runner=kills_runner)
                await platform.until_seen({("c0", STOPPED)})
                platform.write("m3", "c0", "hi")
                await platform.until_seen({("c0", "echo: hi")})
        finally:
            await asyncio.to_thread(host.end)
    assert platform.texts() == Counter({("c0", STOPPED): 1, ("c0", "echo: hi"): 1})


async def _stopped_and_killed(host: HostProcess, platform: Platform, point: str, *, kills_runner: bool) -> None:
    """A long turn is stopped, the host dies at the point, perhaps its runner too, and the next host is started."""
    host.start()
    platform.write("m1", "c0", "long")
    while not await asyncio.to_thread(_claimed, host.root):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.05)
    await asyncio.to_thread(host.kill)
    host.start(crash_at=point)
    platform.write("m2", "c0", "/stop")
    assert await asyncio.to_thread(host.exited_within, seconds(HANG_S)) is not None
    if kills_runner:
        host.kill_all_runners()
    host.start()


def _claimed(home: Path) -> bool:
    for path in (home / "sessions").glob("*/*/out/outbound.db"):
        try:
            with reading_outbound(path) as box:
                return bool(box.open_claims())
        except (NotReady, Busy):
            return False
    return False
