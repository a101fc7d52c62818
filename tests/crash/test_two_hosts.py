"""Two hosts on one home: one serves, the other says who does and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.people import People, furnish
from tests.crash.platform import Platform
from tests.crash.victims import HostProcess

ROUNDS = 3
LIMIT_S = 20.0
LOOK_S = 0.1


@pytest.mark.behaviour("SE-01", "SE-02")
async def test_of_two_hosts_that_start_together_one_serves_and_the_next_takes_over_when_it_is_killed(
    tmp_path: Path,
) -> None:
    platform = Platform()
    async with platform.opened():
        hosts = [HostProcess(tmp_path, platform.port, {"runtime": "process"}, log=name) for name in ("a.log", "b.log")]
        await furnish(tmp_path, chats=1)
        people = People(platform, chats=1)
        try:
            for _ in range(ROUNDS):
                people.write()
                winner = await _race(hosts)
                await platform.until_seen(people.expected(), LIMIT_S)
                await asyncio.to_thread(winner.kill)
        finally:
            for host in hosts:
                await asyncio.to_thread(host.end)
    assert set(platform.texts().values()) == {1}


async def _race(hosts: list[HostProcess]) -> HostProcess:
    """Start both; the one that is refused ends with a sentence that names the other's process."""
    for host in hosts:
        host.start()
    async with asyncio.timeout(LIMIT_S):
        loser = await _first_to_end(hosts)
    [winner] = [host for host in hosts if host is not loser]
    assert str(winner.pid) in loser.log.read_text()
    return winner


async def _first_to_end(hosts: list[HostProcess]) -> HostProcess:
    while True:
        for host in hosts:
            code = await asyncio.to_thread(host.exited_within, LOOK_S)
            if code is not None:
                assert code > 0
                return host
