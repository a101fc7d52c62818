"""A host that is killed while it carries out a request of an agent."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.testing.time_limits import scaled_timeout
from tests.crash.measurements import wait_until_done
from tests.crash.platform import FakePlatform
from tests.crash.processes import HostProcess
from tests.crash.workload import FOLDER, prepare_workload_home

LIMIT_S = 40.0
REMIND = {"tool": "schedule_task", "arguments": {"prompt": "time is up", "at": "in 1 s"}}
WRONG = {"tool": "schedule_task", "arguments": {"prompt": "p", "cron": "whenever"}}
RULES = [
    {"match": "^remind", "actions": [REMIND, {"answer": "yes"}]},
    {"match": "^wrong", "actions": [WRONG]},
    {"match": "was refused", "actions": [{"answer": "told"}]},
]


@asynccontextmanager
async def host_and_person(root: Path) -> AsyncIterator[tuple[HostProcess, FakePlatform]]:
    platform = FakePlatform()
    async with platform.opened():
        host = HostProcess(root, platform.port, {"runtime": "process", "durable": False})
        await prepare_workload_home(root, 1)
        (root / "groups" / FOLDER / "script.json").write_text(json.dumps(RULES))
        try:
            yield host, platform
        finally:
            await asyncio.to_thread(host.cleanup)


def records(root: Path, sql: str) -> Sequence[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{Home(root).database}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


@pytest.mark.behaviour("TK-05")
@pytest.mark.parametrize(
    ("text", "point", "seen", "tasks"),
    [
        ("remind", "actions.entered", ["yes", "echo: time is up"], 1),
        ("remind", "actions.done", ["yes", "echo: time is up"], 1),
        ("wrong", "actions.done", ["told"], 0),
    ],
)
async def test_a_request_is_carried_out_and_reported_once_across_crashes(
    tmp_path: Path, text: str, point: str, seen: list[str], tasks: int
) -> None:
    async with host_and_person(tmp_path / "home") as (host, platform):
        host.start(crash_at=point)
        platform.write("m1", "c0", text)
        assert await asyncio.to_thread(host.wait_for_exit, scaled_timeout(LIMIT_S)) == -signal.SIGKILL
        host.start()
        async with asyncio.timeout(scaled_timeout(LIMIT_S)):
            await platform.wait_until_seen({("c0", one) for one in seen})
        await wait_until_done(host.root)
        assert await asyncio.to_thread(host.stop) == 0
        assert sorted(copy.text for copy in platform.seen) == sorted(seen)
        assert records(host.root, "SELECT count(*) FROM tasks") == [(tasks,)]
        assert records(host.root, "SELECT DISTINCT notified FROM actions") == [(1,)]
        checked = await asyncio.to_thread(host.command, "verify")
        assert checked.returncode == 0, checked.stdout + checked.stderr
