"""What an ordinary message costs the central database: counts, which no busy machine changes much.

Counted from the event being handed to intake until nothing more is asked; one chat, one agent, a warm container.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.measure import Measurement
from tests.support.flow import RunningHost, run_host, scripted_settings

WARM_UP = 3
MESSAGES = 5
QUIET_S = 1.5
"""A host that has come to rest asks something only when a second or more has passed."""
ASKS = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH")
"""Statements; BEGIN, COMMIT and savepoints are not counted."""


async def measure(root: Path) -> list[Measurement]:
    async with run_host(root, settings=scripted_settings()) as flow:
        await flow.wire(script=[{"match": "", "actions": [{"answer": "heard {text}"}]}])
        for number in range(WARM_UP):
            await _trip(flow, f"warm {number}")
        counts = [await _count(flow, f"hello {number}") for number in range(MESSAGES)]
    statements, looks = (round(statistics.median(column)) for column in zip(*counts, strict=True))
    return [
        Measurement(
            key="statements_per_message", what="SQL statements of an ordinary message", value=statements, target=25
        ),
        Measurement(key="outbox_looks_per_message", what="… looks into its outbound.db", value=looks),
    ]


async def _trip(flow: RunningHost, text: str) -> None:
    """A message, its answer, and what the host does after that."""
    before = len(flow.fake.sent)
    await flow.fake.person_writes(text)
    await flow.fake.wait_for_sent(before + 1)
    await asyncio.sleep(QUIET_S)


async def _count(flow: RunningHost, text: str) -> tuple[int, int]:
    looks = flow.host.mailboxes.read_count
    async with _statements(flow) as seen:
        await _trip(flow, text)
    return len(seen), flow.host.mailboxes.read_count - looks


@asynccontextmanager
async def _statements(flow: RunningHost) -> AsyncIterator[list[str]]:
    """What the store is asked while entered."""
    seen: list[str] = []
    connections = [flow.host.store._writer, flow.host.store._reader]

    def see(sql: str) -> None:
        if sql.lstrip().startswith(ASKS):
            seen.append(sql)

    for connection in connections:
        await connection.set_trace_callback(see)
    yield seen
    for connection in connections:
        await connection.set_trace_callback(lambda _: None)
