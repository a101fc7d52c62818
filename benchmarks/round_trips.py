"""Round trips through a whole host: event accepted by intake → text handed to the channel. Containers are Docker's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import docker

from benchmarks.measure import Measurement, median, percentile
from nanohost.config.settings import make_settings
from nanohost.db import sessions
from nanohost.runtimes.docker import DockerRuntime
from nanohost_protocol.outbound import outbound_snapshot
from tests.support.flow import RunningHost, run_host
from tests.support.messages_api import StubMessagesApi

WARM_UP = 10
WARM = 150
COLD = 9
COLD_CLAUDE = 5
BURST = 100
FAN = (20, 5)
REPLY_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdTrip:
    """One cold round trip, split. Milliseconds."""

    total: float
    engine: float
    interpreter: float
    first_poll: float
    turn: float
    delivery: float


async def measure(root: Path, image: str) -> list[Measurement]:
    """All of them, one host after the other."""
    return [
        *await _warm_and_burst(root / "warm", image),
        *await _cold(root / "cold", image),
        *await _cold_claude(root / "claude", image),
        *await _fan(root / "fan", image),
    ]


@asynccontextmanager
async def host(
    root: Path, image: str, *, provider: str = "scripted", base_url: str | None = None, max_containers: int = FAN[0]
) -> AsyncIterator[RunningHost]:
    """A host with Docker containers and everything synced, while entered."""
    root.mkdir(parents=True)
    settings = make_settings(
        host={"provider": provider, "runtime": "docker", "timezone": "UTC", "max_containers": max_containers},
        agent={"base_url": base_url},
    )
    runtime = DockerRuntime(install=f"ibench-{root.name}", image=image)
    async with run_host(root, settings=settings, runtime=runtime) as flow:
        yield flow


async def trip(flow: RunningHost, text: str, chat: str) -> float:
    """Milliseconds from the event to the answer in the channel's hands."""
    before = len(flow.fake.sent)
    began = time.perf_counter()
    await flow.fake.person_writes(text, chat=chat)
    await flow.fake.wait_for_sent(before + 1, REPLY_LIMIT_S)
    return (time.perf_counter() - began) * 1000


async def _warm_and_burst(root: Path, image: str) -> list[Measurement]:
    async with host(root, image) as flow:
        await flow.wire()
        for number in range(WARM_UP):
            await trip(flow, f"warm up {number}", "c1")
        trips = [await trip(flow, f"warm {number}", "c1") for number in range(WARM)]
        seconds, in_order = await burst(flow, BURST)
    return [
        Measurement(key="warm_ms_median", what="warm round trip, median", value=median(trips), unit="ms", target=25),
        Measurement(
            key="warm_ms_p95", what="warm round trip, p95", value=percentile(trips, 0.95), unit="ms", target=100
        ),
        Measurement(key="burst100_s", what=f"burst of {BURST} into one session", value=seconds, unit="s", target=2.0),
        Measurement(key="burst100_in_order", what="… each answered, in order", value=in_order, target=True),
    ]


async def burst(flow: RunningHost, count: int) -> tuple[float, bool]:
    """So many messages at once into one session: the seconds until all are answered, and whether in order."""
    before = len(flow.fake.sent)
    texts = [f"burst {number}" for number in range(count)]
    began = time.perf_counter()
    await asyncio.gather(*(flow.fake.person_writes(text) for text in texts))
    sent = await flow.fake.wait_for_sent(before + count, REPLY_LIMIT_S)
    seconds = round(time.perf_counter() - began, 2)
    return seconds, [message.text for message in sent[before:]] == [f"echo: {text}" for text in texts]


async def _cold(root: Path, image: str) -> list[Measurement]:
    async with host(root, image) as flow:
        trips = [await _coldtrip(flow, f"cold-{number}") for number in range(COLD)]
    return [
        Measurement(
            key="cold_ms_median", what="cold round trip, median", value=_of(trips, "total"), unit="ms", target=600
        ),
        *_split("cold", trips),
    ]


async def _cold_claude(root: Path, image: str) -> list[Measurement]:
    async with StubMessagesApi() as api, host(root, image, provider="claude", base_url=api.base_url) as flow:
        trips = [await _coldtrip(flow, f"cold-{number}") for number in range(COLD_CLAUDE)]
    return [
        Measurement(
            key="cold_claude_ms_median",
            what="cold round trip, Claude's command line",
            value=_of(trips, "total"),
            unit="ms",
            target=2600,
        ),
        *_split("cold_claude", trips),
    ]


async def _coldtrip(flow: RunningHost, chat: str) -> ColdTrip:
    """A chat that nobody wrote in before: its container is started for this one message, and stopped after."""
    await flow.wire(chat)
    began = time.time()
    total = await trip(flow, "hello", chat)
    answered = time.time()
    [slot] = flow.host.container_manager.containers()
    assert slot.container is not None
    started = await asyncio.to_thread(_started_at, slot.container.state["id"])
    session = await sessions.get(flow.host.store, slot.session_id)
    layout = flow.host.mailboxes.layout(session)
    with outbound_snapshot(layout.outbound_db) as box:
        [turn] = box.turns()
    assert turn.ended_at is not None
    running = layout.writer_lock.stat().st_ctime
    claimed, ended = turn.started_at.timestamp(), turn.ended_at.timestamp()
    await flow.host.foundation.runtime.stop(slot.container, grace_s=5)
    while flow.host.container_manager.containers():
        await asyncio.sleep(0.01)
    return ColdTrip(
        total=total,
        engine=(started - began) * 1000,
        interpreter=(running - started) * 1000,
        first_poll=(claimed - running) * 1000,
        turn=(ended - claimed) * 1000,
        delivery=(answered - ended) * 1000,
    )


def _started_at(container: str) -> float:
    client = docker.APIClient()
    try:
        text: str = client.inspect_container(container)["State"]["StartedAt"]
    finally:
        client.close()
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def _split(name: str, trips: Sequence[ColdTrip]) -> list[Measurement]:
    return [
        Measurement(key=f"{name}_{part}_ms", what=f"… {part.replace('_', ' ')}", value=_of(trips, part), unit="ms")
        for part in ("engine", "interpreter", "first_poll", "turn", "delivery")
    ]


def _of(trips: Sequence[ColdTrip], part: str) -> float:
    return median([getattr(trip, part) for trip in trips])


async def _fan(root: Path, image: str) -> list[Measurement]:
    chats, messages = FAN
    async with host(root, image) as flow:
        for number in range(chats):
            await flow.wire(f"fan-{number}")
        cold = await _fan_once(flow, "cold")
        warm = await _fan_once(flow, "warm")
    what = f"{chats} sessions × {messages} messages"
    return [
        Measurement(key="fan20x5_cold_s", what=f"{what}, cold", value=cold, unit="s"),
        Measurement(key="fan20x5_warm_s", what=f"{what}, warm", value=warm, unit="s"),
    ]


async def _fan_once(flow: RunningHost, word: str) -> float:
    chats, messages = FAN
    before = len(flow.fake.sent)
    began = time.perf_counter()
    for message in range(messages):
        await asyncio.gather(
            *(flow.fake.person_writes(f"{word} {message}", chat=f"fan-{number}") for number in range(chats))
        )
    await flow.fake.wait_for_sent(before + chats * messages, REPLY_LIMIT_S)
    return round(time.perf_counter() - began, 2)
