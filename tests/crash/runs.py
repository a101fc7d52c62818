"""The three kinds of run: a host killed at one point again and again, runners killed at one point, kills at random.

Each ends with a host that may live until nothing is left to do.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from nanohost.testing.time_limits import scaled_timeout
from tests.crash.approval_workload import MessageKind
from tests.crash.measurements import Result
from tests.crash.processes import HostProcess
from tests.crash.scenario import STATUS_INTERVAL_S, CrashScenario, prepare_approval_scenario, prepare_scenario

CRASH_POINT_TIMEOUT_S = 20.0
"""How long messages are written before a point counts as not reached."""
PASSES_PER_POINT = 3
"""A host is killed at the first, second, third pass in turn: after some work, or none."""
BUSY_SETTINGS: Mapping[str, object] = {"idle_timeout_s": 0.3, "sweep_interval_s": 0.2}
"""Settings with which containers start and stop all the time."""

APPROVAL_POINTS: Mapping[str, MessageKind | None] = {
    "host_requests.open": None,
    "host_requests.committed": None,
    "answers.claimed": MessageKind.ASK,
    "actions.held": MessageKind.HELD_ACTION,
    "approvals.asking": None,
    "approvals.asked": None,
    "approvals.open": None,
}
"""Points that ordinary messages do not reach, and the kind of message to write more often."""


async def run_host_kills_at(point: str, root: Path, *, kills: int, idempotent: bool = True) -> Result:
    """Kill the host at a point, start it again, and so on, while people write."""
    async with _make_scene_for(point, root, idempotent=idempotent) as scene:
        for life in range(kills):
            scene.host.start(crash_at=f"{point}:{1 + life % PASSES_PER_POINT}")
            await _wait_until_killed(scene)
        scene.host.start()
        return await scene.result()


def _make_scene_for(point: str, root: Path, *, idempotent: bool) -> AbstractAsyncContextManager[CrashScenario]:
    """A scenario with messages that reach the point."""
    if point in APPROVAL_POINTS:
        return prepare_approval_scenario(point, root, settings={"runtime": "process"}, oftener=APPROVAL_POINTS[point])
    restless = BUSY_SETTINGS if point.startswith("keeper.") else {}
    settings = {"runtime": "process", **restless}
    return prepare_scenario(point, root, chats=6, idempotent=idempotent, settings=settings)


async def _wait_until_killed(scene: CrashScenario) -> None:
    ends = time.monotonic() + scaled_timeout(CRASH_POINT_TIMEOUT_S)
    while time.monotonic() < ends:
        scene.workload.write()
        code = await asyncio.to_thread(scene.host.wait_for_exit, STATUS_INTERVAL_S)
        if code is not None:
            assert code == -signal.SIGKILL, f"{scene.name}: the host ended with {code}"
            return
    raise AssertionError(f"{scene.name} was not reached")


async def run_runner_kills_at(point: str, root: Path, *, kills: int) -> Result:
    """Kill the runner of each of so many sessions at a point, then all runners, and let another host recover."""
    settings = {"runtime": "process", "max_containers": kills, "poll_interval_s": 0.3}
    async with prepare_scenario(point, root, chats=kills, tool_every=1, settings=settings) as scene:
        for _ in range(kills):
            scene.workload.write()
        scene.host.start(crash_runner_at=point)
        await _wait_for_deaths(scene, kills)
        deaths = scene.host.count_runner_deaths()
        await asyncio.to_thread(scene.host.kill)
        await asyncio.to_thread(scene.host.kill_all_runners)  # restarted ones would be killed once more
        scene.host.start()
        return await scene.result(deaths)


async def _wait_for_deaths(scene: CrashScenario, wanted: int) -> None:
    ends = time.monotonic() + scaled_timeout(CRASH_POINT_TIMEOUT_S)
    while time.monotonic() < ends:
        code = await asyncio.to_thread(scene.host.wait_for_exit, STATUS_INTERVAL_S)
        assert code is None, f"{scene.name}: the host ended with {code}"
        if scene.host.count_runner_deaths() >= wanted:
            return
    raise AssertionError(f"{scene.name} was reached by {scene.host.count_runner_deaths()} runners only")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakTest:
    """Kills at any moment. The messages are spread over several lives of the host; the last life may finish."""

    runtime: str
    messages: int
    host_kills: int
    runner_kills: int
    seed: int = 1
    idempotent: bool = True
    is_forked: bool = True
    """Whether hosts are forked, or load their code and may be killed during that, too."""

    @property
    def name(self) -> str:
        return f"random, {self.runtime}"

    def part(self, n: int) -> SoakTest:
        """An nth of it."""
        return replace(
            self, messages=self.messages // n, host_kills=self.host_kills // n, runner_kills=self.runner_kills // n
        )


HOST_LIFETIME_S = (0.05, 1.2)
"""How long a host lives: most from the moment it is ready, some from their start, which they may not survive."""
EARLY_KILL_RATE = 0.2
READY_TIMEOUT_S = 30.0
RUNNER_KILL_INTERVAL_S = (0.1, 1.0)
CHATS = 8


async def run_soak(soak: SoakTest, root: Path) -> Result:
    """Kill hosts and runners at random moments while people write."""
    chance = random.Random(soak.seed)
    settings = {"runtime": soak.runtime}
    forked, idempotent = soak.is_forked, soak.idempotent
    async with prepare_scenario(
        soak.name, root, chats=CHATS, idempotent=idempotent, settings=settings, forked=forked
    ) as scene:
        scene.host.start()
        await asyncio.gather(_people_and_host_kills(scene, soak, chance), _kill_runners(scene.host, soak, chance))
        return await scene.result(soak.runner_kills)


async def _people_and_host_kills(scene: CrashScenario, soak: SoakTest, chance: random.Random) -> None:
    for life in range(soak.host_kills):
        if chance.random() > EARLY_KILL_RATE:
            await scene.wait_until("it serves", scene.host.is_ready, within_s=READY_TIMEOUT_S)
        life_s = chance.uniform(*HOST_LIFETIME_S)
        writes = soak.messages * (life + 1) // soak.host_kills - scene.workload.write_count
        for _ in range(writes):
            scene.workload.write()
            await asyncio.sleep(life_s / writes)
        await asyncio.to_thread(scene.host.kill)
        scene.host.start()


async def _kill_runners(host: HostProcess, soak: SoakTest, chance: random.Random) -> None:
    """Kill runners until so many died; there is not always one."""
    killed = 0
    while killed < soak.runner_kills:
        await asyncio.sleep(chance.uniform(*RUNNER_KILL_INTERVAL_S))
        killed += await asyncio.to_thread(host.kill_random_runner, chance)
