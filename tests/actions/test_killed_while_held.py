"""A host that is killed while a request waits for a decision, is decided, or is carried out."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from nanohost.testing.time_limits import scaled_timeout
from tests.actions.test_crash import LIMIT_S, host_and_person, records
from tests.crash.measurements import wait_until_done
from tests.crash.processes import HostProcess
from tests.crash.workload import FOLDER

HELD = "SELECT count(*) FROM audit_log WHERE outcome = 'held' AND action = 'destinations.add'"
ADD = {"tool": "add_destination", "arguments": {"name": "elsewhere", "chat": "c0"}}
RULES = [
    {"match": "^please", "actions": [ADD, {"answer": "asked"}]},
    {"match": "was approved and is done", "actions": [{"answer": "I may"}]},
    {"match": "a person denied it: never", "actions": [{"answer": "I may not"}]},
]


async def make_owner(host: HostProcess) -> None:
    """The person who writes becomes an owner, too."""
    granted = await asyncio.to_thread(host.command, "roles", "create", "wire:ann", "owner")
    assert granted.returncode == 0, granted.stderr
    (host.root / "groups" / FOLDER / "script.json").write_text(json.dumps(RULES))


async def wait_until_killed(host: HostProcess) -> None:
    assert await asyncio.to_thread(host.wait_for_exit, scaled_timeout(LIMIT_S)) == -signal.SIGKILL


@pytest.mark.behaviour("AP-07", "AP-08")
@pytest.mark.parametrize(
    ("point", "words", "answer", "destinations"),
    [
        ("host_requests.open", "/approve {id}", "I may", 1),
        ("host_requests.committed", "/approve {id}", "I may", 1),
        ("actions.entered", "/approve {id}", "I may", 1),
        ("actions.done", "/approve {id}", "I may", 1),
        ("host_requests.committed", "/deny {id} never", "I may not", 0),
    ],
)
async def test_a_held_request_is_asked_decided_carried_out_and_reported_once_across_kills(
    tmp_path: Path, point: str, words: str, answer: str, destinations: int
) -> None:
    async with host_and_person(tmp_path / "home") as (host, platform):
        await make_owner(host)
        host.start(crash_at="actions.held")
        platform.write("m1", "c0", "please")
        await wait_until_killed(host)
        [(approval,)] = records(host.root, "SELECT id FROM approvals")
        assert records(host.root, "SELECT status, approval_id FROM actions") == [("held", approval)]
        host.start(crash_at=point)
        platform.write("m2", "c0", words.format(id=approval))
        await wait_until_killed(host)
        host.start()
        async with asyncio.timeout(scaled_timeout(LIMIT_S)):
            await platform.wait_until_seen({("c0", answer)})
        await wait_until_done(host.root)
        assert await asyncio.to_thread(host.stop) == 0
        assert [copy.text for copy in platform.seen].count(answer) == 1
        assert len([copy for copy in platform.seen if f"/deny {approval}" in copy.text]) <= 1
        assert records(host.root, "SELECT count(*) FROM destinations") == [(destinations,)]
        assert records(host.root, "SELECT notified FROM actions") == [(1,)]
        assert records(host.root, HELD) == [(1,)]
        checked = await asyncio.to_thread(host.command, "verify")
        assert checked.returncode == 0, checked.stdout + checked.stderr
