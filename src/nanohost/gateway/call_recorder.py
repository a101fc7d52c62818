"""Records model calls in the database: one queue for all sessions, written in batches by one task.

No answered call is left out because there are too many: when too many wait, the gateway accepts no new ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import structlog

from nanohost.db import model_calls
from nanohost.db.database import Store, Transaction
from nanohost.gateway.model_call import ModelCall
from nanohost.gateway.prices import cost_usd

BATCH_SIZE = 100
"""Calls written in one transaction: a few milliseconds, during which all other writers wait."""
MAX_QUEUED = 5_000
"""Calls, some megabytes: the bursts of four sessions. So many wait only if the disk does not respond."""

RecordCalls = Callable[[Sequence[ModelCall]], Awaitable[None]]

log = structlog.get_logger(__name__)


class CallRecorder:
    """Writes calls in batches. `record` stores a batch, or raises and stores none of it."""

    def __init__(self, record: RecordCalls) -> None:
        self._record = record
        self._queue: deque[ModelCall] = deque()
        self._writer: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether new calls should be accepted. Running calls always have room."""
        return len(self._queue) < MAX_QUEUED

    def enqueue(self, call: ModelCall) -> None:
        """Queues a call for writing."""
        self._queue.append(call)
        if len(self._queue) == MAX_QUEUED:
            log.warning("gateway_record_queue_full", waiting=MAX_QUEUED)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_queue(), name="record model calls")

    async def flush(self) -> None:
        """Waits until the queue is written."""
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
        """Writes calls one by one, so that one that cannot be written does not affect others."""
        errors = [error for call in batch if (error := await self._try_record([call])) is not None]
        if errors:
            log.error("gateway_record_failed", calls=len(errors), error=str(errors[-1]))

    async def _try_record(self, batch: Sequence[ModelCall]) -> Exception | None:
        try:
            await self._record(batch)
        except Exception as error:  # an error of the database must not affect the stream
            return error
        return None


def model_call_recorder(
    store: Store, *, priced_as: str
) -> Callable[[Sequence[ModelCall]], Coroutine[object, object, None]]:
    """Returns a function that records model calls with their cost at the prices of the host `priced_as`.

    It records all the calls it is given in one transaction.
    """

    async def record(calls: Sequence[ModelCall]) -> None:
        async with store.transaction() as tx:
            for call in calls:
                await _record_call(tx, call, priced_as)

    return record


async def _record_call(tx: Transaction, call: ModelCall, priced_as: str) -> None:
    await model_calls.add(
        tx,
        session=call.session_id,
        model=call.model or None,
        started_at=call.started_at,
        duration_ms=call.duration_ms,
        status=call.status,
        tokens_in=call.usage.tokens_in,
        tokens_out=call.usage.tokens_out,
        tokens_cached=call.usage.tokens_cached,
        tokens_cache_written=call.usage.tokens_cache_written,
        tokens_cache_written_1h=call.usage.tokens_cache_written_1h,
        cost_usd=cost_usd(call.model, call.usage, host=priced_as),
        error=call.error or None,
    )
