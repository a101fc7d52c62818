"""What grows and what must not: bursts, histories, more sessions than containers, a restart with all alive."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from benchmarks.measure import Measurement, median
from benchmarks.round_trips import burst, host, trip
from nanohost.config.home import Home
from nanohost.errors import NanohostError
from tests.crash.platform import FakePlatform
from tests.crash.processes import HostProcess

LONG_BURST = 1000
HISTORY = 1000
SAMPLES = 40
CROWD = 50
CROWD_CONTAINERS = 5
ALIVE = 20
LIMIT_S = 180.0


async def measure(root: Path, image: str) -> list[Measurement]:
    """All of them, one host after the other."""
    return [
        *await _burst_and_history(root / "long", image),
        *await _crowd(root / "crowd", image),
        *await _restart(root / "restart"),
    ]


async def _burst_and_history(root: Path, image: str) -> list[Measurement]:
    """The burst is the history: a warm trip before it and after it should cost the same."""
    async with host(root, image) as flow:
        await flow.wire()
        for number in range(SAMPLES):
            await trip(flow, f"warm up {number}", "c1")
        fresh = median([await trip(flow, f"fresh {number}", "c1") for number in range(SAMPLES)])
        seconds, in_order = await burst(flow, LONG_BURST)
        late = median([await trip(flow, f"late {number}", "c1") for number in range(SAMPLES)])
    return [
        Measurement(
            key="burst1000_s", what=f"burst of {LONG_BURST} into one session", value=seconds, unit="s", target=15.0
        ),
        Measurement(key="burst1000_in_order", what="… each answered, in order", value=in_order, target=True),
        Measurement(
            key="history_ratio",
            what=f"warm round trip after {HISTORY} messages, against before",
            value=round(late / fresh, 2),
            target=1.5,
        ),
    ]


async def _crowd(root: Path, image: str) -> list[Measurement]:
    """More sessions than containers, all written to at once: everybody is served, and who came first comes first."""
    async with host(root, image, max_containers=CROWD_CONTAINERS) as flow:
        for number in range(CROWD):
            await flow.wire(f"crowd-{number:02}")
        began = time.perf_counter()
        for number in range(CROWD):
            await flow.fake.person_writes("hello", chat=f"crowd-{number:02}")
        sent = await flow.fake.wait_for_sent(CROWD, LIMIT_S)
        seconds = round(time.perf_counter() - began, 2)
    served = [int(message.address.platform_id[-2:]) for message in sent]
    furthest = max(abs(place - number) for place, number in enumerate(served))
    return [
        Measurement(
            key="crowd50_s",
            what=f"{CROWD} sessions due, {CROWD_CONTAINERS} containers: all served",
            value=seconds,
            unit="s",
        ),
        Measurement(
            key="crowd50_furthest",
            what="… served how far from the order of arrival",
            value=furthest,
            unit="places",
            target=CROWD_CONTAINERS,
        ),
    ]


async def _restart(root: Path) -> list[Measurement]:
    """kill -9 of `nanohost run` with containers alive: how long until the next one serves, and who was adopted."""
    platform = FakePlatform()
    async with platform.opened():
        daemon = HostProcess(root, platform.port, {"runtime": "docker", "max_containers": ALIVE})
        try:
            await asyncio.to_thread(_wire, daemon)
            daemon.start()
            for number in range(ALIVE):
                platform.write(f"m{number}", f"c{number}", "hello")
            await platform.wait_until_seen({(f"c{number}", "echo: hello") for number in range(ALIVE)}, LIMIT_S)
            before = set(daemon.runner_pids())
            daemon.kill()
            seconds = await asyncio.to_thread(_start_again, daemon)
            undisturbed = before == set(daemon.runner_pids())
            daemon.stop()
        finally:
            daemon.cleanup()
    return [
        Measurement(
            key="restart20_s",
            what=f"kill -9 with {ALIVE} containers alive: ready again",
            value=seconds,
            unit="s",
            target=2.0,
        ),
        Measurement(key="restart20_undisturbed", what="… every container went on", value=undisturbed, target=True),
    ]


def _wire(daemon: HostProcess) -> None:
    _must(daemon, "agents", "create", "main")
    for number in range(ALIVE):
        chat = ["--channel", "wire", "--chat", f"c{number}", "--group", "main", "--unknown", "public"]
        _must(daemon, "wirings", "create", *chat)


def _must(daemon: HostProcess, *words: str) -> str:
    done = daemon.command(*words)
    if done.returncode != 0:
        raise NanohostError(done.stderr)
    return done.stdout


def _start_again(daemon: HostProcess) -> float:
    """Seconds until the new host answers on its control socket with all its containers."""
    Home(daemon.root).control_socket.unlink(missing_ok=True)
    began = time.perf_counter()
    daemon.start()
    while not Home(daemon.root).control_socket.exists():
        if time.perf_counter() - began > LIMIT_S:
            raise NanohostError("the host did not come back")
        time.sleep(0.01)
    seconds = round(time.perf_counter() - began, 2)
    containers = json.loads(_must(daemon, "status", "--json"))["host"]["containers"]
    if len(containers) != ALIVE:
        raise NanohostError(f"{len(containers)} of {ALIVE} containers were adopted")
    return seconds
