"""The three kinds of run: a host killed at one point again and again, runners killed at one point, kills at random.

Each has a home, a platform and people of its own, ends with a host that may live, waits until nothing is left to do,
stops that host and counts.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.crash.measured import Result, measured, unfinished
from tests.crash.people import People, furnish
from tests.crash.platform import Platform
from tests.crash.victims import HostProcess

TICK_S = 0.25
TICKS = 80
"""How often somebody writes until a point is reached; then it is not reached at all."""
SETTLE_LIMIT_S = 90.0
PASSAGES = 3
"""A host dies at the first, second, third passage in turn: something was done before, or nothing."""
RESTLESS: Mapping[str, object] = {"idle_timeout_s": 0.3, "sweep_interval_s": 0.2}
"""Settings under which containers come and go all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    name: str
    host: HostProcess
    platform: Platform
    people: People
    idempotent: bool
    began: float

    async def result(self, kills: int) -> Result:
        """Wait until nothing is left to do, stop the host, count."""
        try:
            async with asyncio.timeout(SETTLE_LIMIT_S):
                await self._settled()
        except TimeoutError:
            pass  # what is missing is counted
        left = await asyncio.to_thread(unfinished, self.host.root)
        assert await asyncio.to_thread(self.host.stop) == 0, f"{self.name}: the host did not stop in order"
        return await asyncio.to_thread(
            measured,
            self.name,
            self.host,
            self.platform,
            self.people,
            idempotent=self.idempotent,
            kills=kills,
            unfinished=left,
            seconds=time.monotonic() - self.began,
        )

    async def _settled(self) -> None:
        await self.platform.until_seen(self.people.expected(), SETTLE_LIMIT_S)
        while not await asyncio.to_thread(self._is_done):
            code = await asyncio.to_thread(self.host.exited_within, TICK_S)
            assert code is None, f"{self.name}: the host ended with {code}"

    def _is_done(self) -> bool:
        return self.host.is_ready() and unfinished(self.host.root) == 0


@asynccontextmanager
async def _scene(
    name: str, root: Path, *, chats: int, idempotent: bool, tool_every: int = 3, settings: Mapping[str, object]
) -> AsyncIterator[_Scene]:
    platform = Platform()
    began = time.monotonic()
    async with platform.opened():
        host = HostProcess(root, platform.port, settings, idempotent=idempotent)
        await furnish(root, chats)
        people = People(platform, chats, tool_every=tool_every)
        try:
            yield _Scene(name=name, host=host, platform=platform, people=people, idempotent=idempotent, began=began)
        finally:
            await asyncio.to_thread(host.end)


async def host_killed_at(point: str, root: Path, *, kills: int, idempotent: bool = True) -> Result:
    """Kill the host at a point, start it again, and so on, while people write."""
    restless = RESTLESS if point.startswith("keeper.") else {}
    settings = {"runtime": "process", **restless}
    async with _scene(point, root, chats=6, idempotent=idempotent, settings=settings) as scene:
        for life in range(kills):
            scene.host.start(crash_at=f"{point}:{1 + life % PASSAGES}")
            await _until_killed(scene)
        scene.host.start()
        return await scene.result(scene.host.kills)


async def _until_killed(scene: _Scene) -> None:
    for _ in range(TICKS):
        scene.people.write()
        code = await asyncio.to_thread(scene.host.exited_within, TICK_S)
        if code is not None:
            assert code == -signal.SIGKILL, f"{scene.name}: the host ended with {code}"
            return
    raise AssertionError(f"{scene.name} was not reached")


async def runners_killed_at(point: str, root: Path, *, kills: int) -> Result:
    """Kill the runner of each of so many sessions at a point, then all there is, and let another host mend it."""
    settings = {"runtime": "process", "max_containers": kills, "poll_interval_s": 0.3}
    async with _scene(point, root, chats=kills, idempotent=True, tool_every=1, settings=settings) as scene:
        for _ in range(kills):
            scene.people.write()
        scene.host.start(crash_runner_at=point)
        await _until_deaths(scene, kills)
        deaths = scene.host.deaths()
        await asyncio.to_thread(scene.host.kill)
        await asyncio.to_thread(scene.host.kill_all_runners)  # those that were started again would die once more
        scene.host.start()
        return await scene.result(deaths + scene.host.kills)


async def _until_deaths(scene: _Scene, wanted: int) -> None:
    for _ in range(TICKS):
        code = await asyncio.to_thread(scene.host.exited_within, TICK_S)
        assert code is None, f"{scene.name}: the host ended with {code}"
        if scene.host.deaths() >= wanted:
            return
    raise AssertionError(f"{scene.name} was reached by {scene.host.deaths()} runners only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """Kills at any moment. A message is written every 50 ms, so `messages` also says how long it lasts at least."""

    runtime: str
    messages: int
    host_kills: int
    runner_kills: int
    seed: int = 1
    idempotent: bool = True

    @property
    def name(self) -> str:
        return f"random, {self.runtime}"


EVERY_S = 0.05


async def soaked(soak: Soak, root: Path) -> Result:
    """Kill hosts and runners at random moments while people write."""
    chance = random.Random(soak.seed)
    settings = {"runtime": soak.runtime}
    async with _scene(soak.name, root, chats=4, idempotent=soak.idempotent, settings=settings) as scene:
        scene.host.start()
        _, _, killed = await asyncio.gather(
            _people_write(scene.people, soak.messages),
            _kill_hosts(scene.host, soak.host_kills, chance),
            _kill_runners(scene.host, soak.runner_kills, chance),
        )
        return await scene.result(scene.host.kills + killed)


async def _people_write(people: People, messages: int) -> None:
    for _ in range(messages):
        people.write()
        await asyncio.sleep(EVERY_S)


async def _kill_hosts(host: HostProcess, kills: int, chance: random.Random) -> None:
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.5, 2.0))
        await asyncio.to_thread(host.kill)
        host.start()


async def _kill_runners(host: HostProcess, kills: int, chance: random.Random) -> int:
    killed = 0
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.5, 1.5))
        killed += await asyncio.to_thread(host.kill_a_runner, chance)
    return killed
