"""How long a person waits who has had enough: /stop in the middle of a turn, until the host says that it is stopped."""

from __future__ import annotations

from pathlib import Path

import docker

from benchmarks.measure import Measurement, median
from benchmarks.round_trips import host, trip
from tests.support.flow import RunningHost
from tests.support.invariants import wait_for_claims

STOPS = 15
DEAF_STOPS = 3
PROMISED_MS = 2000
"""Behaviour SE-12."""
LIMIT_S = 30.0


async def measure(root: Path, image: str) -> list[Measurement]:
    async with host(root, image) as flow:
        await flow.wire(script=[{"match": "long", "actions": [{"hang": True}]}])
        heard = [await _stop(flow) for _ in range(STOPS)]
        deaf = [await _stop(flow, is_deaf=True) for _ in range(DEAF_STOPS)]
    return [
        Measurement(key="stop_ms_median", what="/stop in a turn, median", value=median(heard), unit="ms"),
        Measurement(key="stop_ms_most", what="… slowest", value=round(max(heard), 1), unit="ms", target=PROMISED_MS),
        Measurement(
            key="stop_deaf_ms_most",
            what="… of a container that stands still",
            value=round(max(deaf), 1),
            unit="ms",
            target=PROMISED_MS,
        ),
    ]


async def _stop(flow: RunningHost, *, is_deaf: bool = False) -> float:
    await flow.fake.person_writes("long")
    await wait_for_claims(flow, timeout_s=LIMIT_S)
    if is_deaf:
        _freeze(flow)
    return await trip(flow, "/stop", "c1")


def _freeze(flow: RunningHost) -> None:
    """Docker's freezer: no signal but SIGKILL ends what stands in it."""
    [slot] = flow.host.container_manager.containers()
    assert slot.container is not None
    client = docker.APIClient()
    try:
        client.pause(slot.container.state["id"])
    finally:
        client.close()
