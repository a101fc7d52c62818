"""Removes what containers left in outbox/ once it is sent, in a thread of its own, while everything else goes on.

A container may have put millions of files there, and may go on while they are removed. So it is done in steps, one of
each session in turn, with pauses; after MOST_STEPS the rest stays until the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from nanohost.clock import Clock
from nanohost.delivery import files
from nanohost.lanes import Lanes
from nanohost.model import SessionId
from nanohost.removal import STEP_S, Progress
from nanohost.threads import Threads
from nanohost_protocol.layout import SessionLayout

PAUSE_S = 3 * STEP_S
"""Between two steps, of whatever session: removing takes a quarter of one processor at most."""
MOST_STEPS = 2_000
"""A hundred seconds of removing: more files than a session may have. Who adds more all the time is not followed."""

_log = structlog.get_logger()


class Removals:
    """One per host. What is to be removed is on disk, as the copy that `files.copies` finds: nothing is lost here."""

    def __init__(self, clock: Clock) -> None:
        self._lanes = Lanes[SessionId]("removing", self._serve, clock)
        self._turn = asyncio.Lock()
        self._waiting: dict[SessionId, dict[str, SessionLayout]] = {}
        self._thread: Threads | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Remove while entered. Leaving waits for no more than the step that is under way."""
        self._thread = Threads("removal", 1)
        try:
            async with self._lanes.opened():
                yield
        finally:
            self._thread.shutdown(wait=False)

    def add(self, session: SessionId, layout: SessionLayout, out_id: str) -> None:
        """Remove outbox/<row> of this session, and then what is left of its copy. Returns at once."""
        self._waiting.setdefault(session, {})[out_id] = layout
        self._lanes.poke(session)

    async def _serve(self, session: SessionId) -> None:
        while waiting := self._waiting.get(session):
            out_id, layout = next(iter(waiting.items()))
            progress = await self._remove(layout, out_id)
            if self._lanes.closing:
                return
            if progress is not Progress.GONE:
                _log.warning("outbox_not_removed", session=session, folder=str(layout.out_dir / "outbox" / out_id))
            del waiting[out_id]
        self._waiting.pop(session, None)

    async def _remove(self, layout: SessionLayout, out_id: str) -> Progress:
        """Step by step, each a turn among all sessions' steps."""
        progress = Progress.MORE
        for _ in range(MOST_STEPS):
            async with self._turn:
                progress = await self._in_thread(layout, out_id)
                if progress is not Progress.MORE or not await self._lanes.nap(PAUSE_S):
                    break
        return progress

    async def _in_thread(self, layout: SessionLayout, out_id: str) -> Progress:
        assert self._thread is not None, "removals are opened before they are used"
        return await asyncio.get_running_loop().run_in_executor(self._thread, _step, layout, out_id)


def _step(layout: SessionLayout, out_id: str) -> Progress:
    progress = files.forget_some(layout, out_id)
    if progress is not Progress.MORE:
        files.drop_copy(layout, out_id)
    return progress
