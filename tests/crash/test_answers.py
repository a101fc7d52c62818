"""A host that is killed between an answer and the session that waits for it."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.crash.measurements import wait_until_done
from tests.crash.platform import FakePlatform
from tests.crash.processes import HostProcess
from tests.crash.workload import FOLDER, prepare_workload_home

ASK = {
    "tool": "ask_user_question",
    "arguments": {"question": "Which?", "options": ["Red", "Blue"]},
    "answer": "so: {result}",
}
QUESTION = "From the agent `main`:\nWhich?\n1. Red\n2. Blue"


def records(root: Path, sql: str) -> Sequence[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{Home(root).database}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


@pytest.mark.behaviour("AP-09")
@pytest.mark.parametrize("point", ["answers.claimed", "routing.written:2", "routing.recorded:2", "collector.open"])
async def test_an_answer_counts_once_whenever_the_host_is_killed(tmp_path: Path, point: str) -> None:
    platform = FakePlatform()
    async with platform.opened():
        settings = {"runtime": "process", "durable": False}
        host = HostProcess(tmp_path / "home", platform.port, settings)
        await prepare_workload_home(host.root, 1)
        (host.root / "groups" / FOLDER / "script.json").write_text(json.dumps([{"match": "^ask", "actions": [ASK]}]))
        try:
            host.start(crash_at=point)
            platform.write("m1", "c0", "ask me")
            if not point.startswith("collector"):
                await platform.wait_until_seen({("c0", QUESTION)}, HANG_TIMEOUT_S)
                platform.write("m2", "c0", "2")
            assert await asyncio.to_thread(host.wait_for_exit, scaled_timeout(HANG_TIMEOUT_S)) == -signal.SIGKILL
            if not point.startswith("collector"):
                platform.write("m3", "c0", "1")
            host.start()
            await platform.wait_until_seen({("c0", QUESTION)}, HANG_TIMEOUT_S)
            if point.startswith("collector"):
                platform.write("m2", "c0", "2")
            await _until_answered(platform)
            await wait_until_done(host.root)
            assert await asyncio.to_thread(host.stop) == 0
        finally:
            await asyncio.to_thread(host.cleanup)
        said = [copy.text for copy in platform.seen if copy.text.startswith("so: ")]
        assert said == ['so: <answer from="Ann" id="4">Blue</answer>']
        assert records(host.root, "SELECT status, answer FROM questions") == [("answered", "Blue")]
        checked = await asyncio.to_thread(host.command, "verify")
        assert checked.returncode == 0, checked.stdout + checked.stderr


async def _until_answered(platform: FakePlatform) -> None:
    try:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while not any(copy.text.startswith("so: ") for copy in platform.seen):  # noqa: ASYNC110 - by what is seen
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"people have seen {[copy.text for copy in platform.seen]}") from None
