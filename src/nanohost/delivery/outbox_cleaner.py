"""Deletes files in outbox/ after they were sent, in a separate thread.

A container may have written millions of files, and may keep writing while they are removed. So removal is done in
steps, one per session in turn, with pauses; after MAX_STEPS the rest stays until the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from nanohost.clock import Clock
from nanohost.delivery import files
from nanohost.model import SessionId
from nanohost.work.keyed_workers import KeyedWorkers
from nanohost.work.thread_pool import ThreadPool
from nanohost.work.tree_removal import STEP_S, RemovalResult
from nanohost_protocol.layout import SessionLayout

STEP_PAUSE_S = 3 * STEP_S
"""Seconds between two steps of any sessions: removal uses at most a quarter of one processor."""
MAX_STEPS = 2_000
"""A hundred seconds of removal: enough for more files than a session may have. A container that keeps adding files is
not waited for."""

_log = structlog.get_logger()


class OutboxCleaner:
    """Removes sent files. One per host. `files.list_copies` finds what is still to be removed after a restart."""

    def __init__(self, clock: Clock) -> None:
        self._workers = KeyedWorkers[SessionId]("removing", self._process, clock)
        self._step_lock = asyncio.Lock()
        self._pending: dict[SessionId, dict[str, SessionLayout]] = {}
        self._thread: ThreadPool | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Removes files while entered. Leaving waits only for the current step."""
        self._thread = ThreadPool("removal", 1)
        try:
            async with self._workers.opened():
                yield
        finally:
            self._thread.shutdown(wait=False)

    def add(self, session: SessionId, layout: SessionLayout, out_id: str) -> None:
        """Queues outbox/<row> of this session for removal, and then the rest of its copy. Returns at once."""
        self._pending.setdefault(session, {})[out_id] = layout
        self._workers.notify(session)

    async def _process(self, session: SessionId) -> None:
        while waiting := self._pending.get(session):
            out_id, layout = next(iter(waiting.items()))
            progress = await self._remove(layout, out_id)
            if self._workers.is_closing:
                return
            if progress is not RemovalResult.REMOVED:
                _log.warning("outbox_removal_failed", session=session, folder=str(layout.out_dir / "outbox" / out_id))
            del waiting[out_id]
        self._pending.pop(session, None)

    async def _remove(self, layout: SessionLayout, out_id: str) -> RemovalResult:
        """Removes the files step by step, in turn with the steps of other sessions."""
        progress = RemovalResult.INCOMPLETE
        for _ in range(MAX_STEPS):
            async with self._step_lock:
                progress = await self._run_in_thread(layout, out_id)
                if progress is not RemovalResult.INCOMPLETE or not await self._workers.sleep(STEP_PAUSE_S):
                    break
        return progress

    async def _run_in_thread(self, layout: SessionLayout, out_id: str) -> RemovalResult:
        assert self._thread is not None, "removals are opened before they are used"
        return await asyncio.get_running_loop().run_in_executor(self._thread, _remove_step, layout, out_id)


def _remove_step(layout: SessionLayout, out_id: str) -> RemovalResult:
    progress = files.remove_outbox_step(layout, out_id)
    if progress is not RemovalResult.INCOMPLETE:
        files.delete_copy(layout, out_id)
    return progress
