"""A good session beside hostile ones: what they do to its round trips, and to the host's memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.measure import Measurement, median
from benchmarks.round_trips import REPLY_LIMIT_S, host
from tests.hostile.agents import start_hostile_agent
from tests.support.flow import RunningHost

SAMPLES = 60
HOSTILE = ("lock",) * 4 + ("fill_table",) * 3 + ("flood_requests",) * 3
MEMORY = ("large_state", "large_text")
CHAT = "good"


async def measure(root: Path, image: str) -> list[Measurement]:
    """One host beside ten hostile sessions, and one for each way to make it grow."""
    ratio = await _beside_ten(root / "ten", image)
    grown = max([await _growth(root / name, image, name) for name in MEMORY])
    return [
        Measurement(
            key="hostile10_ratio",
            what="warm trip beside ten sessions that hold locks, fill tables, flood requests, against before",
            value=ratio,
            target=1.5,
        ),
        Measurement(
            key="hostile_rss_mb",
            what="growth of the host beside a container that keeps 250 MB in its file",
            value=grown,
            unit="MB",
            target=20.0,
        ),
    ]


async def _beside_ten(root: Path, image: str) -> float:
    async with host(root, image) as flow:
        await flow.wire(CHAT, CHAT)
        before = await _trips(flow)
        for number, name in enumerate(HOSTILE):
            await start_hostile_agent(flow, name, chat=f"bad-{number}")
        return round(await _trips(flow) / before, 2)


async def _growth(root: Path, image: str, name: str) -> float:
    async with host(root, image) as flow:
        await flow.wire(CHAT, CHAT)
        await _trips(flow)
        before = _resident_mb()
        await start_hostile_agent(flow, name)
        grown = 0.0
        for number in range(SAMPLES):
            await _answered(flow, str(number))
            grown = max(grown, _resident_mb() - before)
    return round(grown, 1)


async def _trips(flow: RunningHost) -> float:
    """The median, in milliseconds."""
    for number in range(10):
        await _answered(flow, f"warm up {number}")
    return median([await _answered(flow, f"warm {number}") for number in range(SAMPLES)])


async def _answered(flow: RunningHost, text: str) -> float:
    """Milliseconds until the good chat has its answer, whatever is sent to others meanwhile."""
    before = len(flow.texts(CHAT))
    began = time.perf_counter()
    await flow.fake.person_writes(text, chat=CHAT)
    while len(flow.texts(CHAT)) == before:
        await flow.fake.wait_for_sent(len(flow.fake.sent) + 1, REPLY_LIMIT_S)
    return (time.perf_counter() - began) * 1000


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2
