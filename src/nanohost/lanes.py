"""Keyed work: one worker a key, never two; different keys do not wait for each other.

A poke says that there may be work under a key. A poke during work means: look once more. Work is found in the
database, not in the poke, so a lost poke only delays and a poke too many costs one look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import structlog

from nanohost.clock import Clock
from nanohost.errors import NanohostError

K = TypeVar("K", bound=Hashable)

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 60.0

_log = structlog.get_logger()


class Lanes(Generic[K]):
    """Workers by key. `work(key)` does all that is to be done now; if it raises it is tried again after a pause."""

    def __init__(self, name: str, work: Callable[[K], Awaitable[None]], clock: Clock) -> None:
        self._name = name
        self._work = work
        self._clock = clock
        self._workers: dict[K, asyncio.Task[None]] = {}
        self._again: set[K] = set()
        self._napping: dict[K, asyncio.Event] = {}
        self._hurried: dict[K, asyncio.Event] = {}
        """Of each key that is worked on: set when it is not to pause after its next failure."""
        self._open = False
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def opened(self, *, grace_s: float = 5.0) -> AsyncIterator[None]:
        """Take pokes while entered. On leaving, work in progress has `grace_s` seconds, then it is cancelled."""
        self._open = True
        self._closing.clear()
        try:
            yield
        finally:
            self._open = False
            self._closing.set()
            self._again.clear()
            await self._finish(grace_s)

    def poke(self, key: K) -> None:
        """There may be work under this key. Returns at once; ignored when not open."""
        if not self._open:
            return
        if key in self._workers:
            self._again.add(key)
            if key in self._napping:
                self._napping[key].set()
            return
        self._workers[key] = asyncio.create_task(self._serve(key), name=f"{self._name}:{key}")

    def hurry(self, key: K) -> None:
        """The same, and a pause after a failure does not keep it waiting: that is tried again at once, and paused after
        as before if it fails. For what a person did and waits for, never for what work itself brings about."""
        self.poke(key)
        if key in self._hurried:
            self._hurried[key].set()

    def poke_napping(self, fits: Callable[[K], bool]) -> None:
        """Poke every key that fits and is in a light nap."""
        for key in [key for key in self._napping if fits(key)]:
            self.poke(key)

    async def nap(self, seconds: float) -> bool:
        """Wait inside work. False: the lanes are closing, stop where you are."""
        return await self._nap(seconds, asyncio.Event())

    async def light_nap(self, key: K, seconds: float) -> bool:
        """The same, but False also when this key was poked: look again at what there is to do, unless `closing`."""
        poked = self._napping[key] = asyncio.Event()
        if key in self._again:
            poked.set()
        try:
            return await self._nap(seconds, poked) and not poked.is_set()
        finally:
            del self._napping[key]
            self._again.discard(key)

    async def _nap(self, seconds: float, poked: asyncio.Event) -> bool:
        waits = [self._clock.sleep(seconds), self._closing.wait(), poked.wait()]
        naps = {asyncio.ensure_future(wait) for wait in waits}
        try:
            await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for nap in naps:
                nap.cancel()
        return self._open

    @property
    def closing(self) -> bool:
        """No new work: finish what is due now."""
        return not self._open

    def busy(self) -> int:
        """How many keys are being worked on."""
        return len(self._workers)

    async def _serve(self, key: K) -> None:
        pause_s = FIRST_PAUSE_S
        hurried = self._hurried[key] = asyncio.Event()
        try:
            while True:
                self._again.discard(key)
                hurried.clear()
                try:
                    await self._work(key)
                except (Exception, asyncio.CancelledError) as error:
                    if isinstance(error, asyncio.CancelledError) and is_cancelled():
                        raise
                    self._report(key, error, pause_s)
                    if not await self._nap(pause_s, hurried):
                        return
                    pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                    continue
                pause_s = FIRST_PAUSE_S
                if key not in self._again:
                    return
        finally:
            del self._workers[key], self._hurried[key]

    def _report(self, key: K, error: BaseException, pause_s: float) -> None:
        expected = isinstance(error, NanohostError)
        _log.warning(
            "work_failed",
            lane=self._name,
            key=str(key),
            error=str(error) or type(error).__name__,
            retry_in_s=pause_s,
            exc_info=None if expected else error,
        )

    async def _finish(self, grace_s: float) -> None:
        if not self._workers:
            return
        _, late = await asyncio.wait(self._workers.values(), timeout=grace_s)
        for task in late:
            _log.warning("work_cut_short", lane=self._name, task=task.get_name())
            task.cancel()
        if late:
            await asyncio.wait(late)


def is_cancelled() -> bool:
    """Whether this very task is asked to end. A CancelledError says less: a library that cancels a future of its own
    lets whoever waits for it have one too, and work must not end by that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class OneAtATime(Generic[K]):
    """Turns on a key, for work that several lanes may come to. Keys do not wait for each other; who waits is served in
    the order of coming. Not reentrant. A key that nobody works on is not kept."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[K, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, key: K) -> AsyncIterator[None]:
        """Alone with this key while entered."""
        lock = self._locks.setdefault(key, asyncio.Lock())  # lives as long as somebody holds it or waits
        async with lock:
            yield
