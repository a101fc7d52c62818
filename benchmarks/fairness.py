"""What a flood in one chat costs another one: a warm trip in a quiet chat, before the flood and beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Measurement, median
from benchmarks.round_trips import host
from tests.support.flow import RunningHost

FLOOD = 20_000
WRITERS = 64
"""Messages of the flood that are handed in at a time: as many as a platform hands over in one go."""
WARM_UP = 20
SAMPLES = 60
LIMIT_S = 120.0
FLOODED, QUIET = "flooded", "quiet"


async def measure(root: Path, image: str) -> list[Measurement]:
    async with host(root, image) as flow:
        before, beside = await other_chat(flow, FLOOD)
    return [
        Measurement(key="burst20000_quiet_ms", what="warm round trip in a quiet chat", value=before, unit="ms"),
        Measurement(
            key="burst20000_other_chat_ratio",
            what=f"… while another chat has {FLOOD} messages",
            value=round(beside / before, 2),
            target=2.0,
        ),
    ]


async def other_chat(flow: RunningHost, flood: int) -> tuple[float, float]:
    """The median warm trip of a quiet chat in milliseconds: alone, and from the moment on in which a flood begins in
    another chat, for as long as messages of it come in or wait."""
    await flow.wire(QUIET, folder=QUIET)
    await flow.wire(FLOODED, folder=FLOODED)
    for chat in (FLOODED, QUIET):
        for number in range(WARM_UP):
            await _trip_in(flow, f"warm up {number}", chat)
    before = median([await _trip_in(flow, f"fresh {number}", QUIET) for number in range(SAMPLES)])
    numbers = iter(range(flood))
    floods = [asyncio.create_task(_write(flow, numbers)) for _ in range(WRITERS)]
    try:
        beside = median([await _trip_in(flow, f"beside {number}", QUIET) for number in range(SAMPLES)])
    finally:
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
    return before, beside


async def _write(flow: RunningHost, numbers: Iterator[int]) -> None:
    for number in numbers:
        await flow.fake.person_writes(f"flood {number}", chat=FLOODED, timeout_s=LIMIT_S)


async def _trip_in(flow: RunningHost, text: str, chat: str) -> float:
    """Milliseconds from the event to its own answer, among those of other chats."""
    seen, wanted = len(flow.fake.sent), f"echo: {text}"
    began = time.perf_counter()
    await flow.fake.person_writes(text, chat=chat)
    while not any(one.text == wanted for one in flow.fake.sent[seen:]):
        seen = len(flow.fake.sent)
        await flow.fake.wait_for_sent(seen + 1, LIMIT_S)
    return (time.perf_counter() - began) * 1000
