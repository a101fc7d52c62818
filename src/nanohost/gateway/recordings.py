"""Calls on their way into the ledger: one queue for all sessions, written in batches by one task.

No call that the service answered is left out because there are too many: when too many wait, no new ones are made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from nanohost.gateway.model_call import ModelCall

BATCH = 100
"""Written in one transaction: a few milliseconds, for which all others who write wait."""
MOST_WAITING = 5_000
"""Some megabytes, and the bursts of four sessions: so many come together only when the disk stands still."""

Record = Callable[[Sequence[ModelCall]], Awaitable[None]]

log = structlog.get_logger(__name__)


class Recordings:
    """`record` keeps some calls, or raises and keeps none of them."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._waiting: deque[ModelCall] = deque()
        self._writer: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether more calls should be made. Those that are under way have room always."""
        return len(self._waiting) < MOST_WAITING

    def put(self, call: ModelCall) -> None:
        """Have it written soon."""
        self._waiting.append(call)
        if len(self._waiting) == MOST_WAITING:
            log.warning("gateway.records_wait", waiting=MOST_WAITING)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="record model calls")

    async def written(self) -> None:
        """Wait until nothing waits."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                if len(batch) == 1 or await self._failure(batch) is not None:
                    await self._write_singly(batch)
        finally:
            self._writer = None

    async def _write_singly(self, batch: Sequence[ModelCall]) -> None:
        """One that cannot be written takes no other with it."""
        errors = [error for call in batch if (error := await self._failure([call])) is not None]
        if errors:
            log.error("gateway.record_failed", calls=len(errors), error=str(errors[-1]))

    async def _failure(self, batch: Sequence[ModelCall]) -> Exception | None:
        try:
            await self._record(batch)
        except Exception as error:  # whatever the ledger's trouble is, the stream is not to blame
            return error
        return None
