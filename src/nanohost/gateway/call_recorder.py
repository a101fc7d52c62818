"""Records model calls in the database: one queue for all sessions, written in batches by one task.

No call that the service answered is left out because there are too many: when too many wait, no new ones are made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from nanohost.gateway.model_call import ModelCall

BATCH_SIZE = 100
"""Written in one transaction: a few milliseconds, for which all others who write wait."""
MAX_QUEUED = 5_000
"""Some megabytes, and the bursts of four sessions: so many come together only when the disk stands still."""

RecordCalls = Callable[[Sequence[ModelCall]], Awaitable[None]]

log = structlog.get_logger(__name__)


class CallRecorder:
    """`record` keeps some calls, or raises and keeps none of them."""

    def __init__(self, record: RecordCalls) -> None:
        self._record = record
        self._queue: deque[ModelCall] = deque()
        self._writer: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether more calls should be made. Those that are under way have room always."""
        return len(self._queue) < MAX_QUEUED

    def enqueue(self, call: ModelCall) -> None:
        """Have it written soon."""
        self._queue.append(call)
        if len(self._queue) == MAX_QUEUED:
            log.warning("gateway_record_queue_full", waiting=MAX_QUEUED)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_queue(), name="record model calls")

    async def flush(self) -> None:
        """Wait until nothing waits."""
        if self._writer is not None:
            await self._writer

    async def _write_queue(self) -> None:
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH_SIZE, len(self._queue)))]
                if len(batch) == 1 or await self._try_record(batch) is not None:
                    await self._write_singly(batch)
        finally:
            self._writer = None

    async def _write_singly(self, batch: Sequence[ModelCall]) -> None:
        """One that cannot be written takes no other with it."""
        errors = [error for call in batch if (error := await self._try_record([call])) is not None]
        if errors:
            log.error("gateway_record_failed", calls=len(errors), error=str(errors[-1]))

    async def _try_record(self, batch: Sequence[ModelCall]) -> Exception | None:
        try:
            await self._record(batch)
        except Exception as error:  # whatever the ledger's trouble is, the stream is not to blame
            return error
        return None
