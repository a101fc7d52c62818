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

INITIAL_BACKOFF_S = 0.25
MAX_BACKOFF_S = 60.0

_log = structlog.get_logger()


class KeyedWorkers(Generic[K]):
    """Workers by key. `work(key)` does all that is to be done now; if it raises it is tried again after a pause."""

    def __init__(self, name: str, work: Callable[[K], Awaitable[None]], clock: Clock) -> None:
        self._name = name
        self._work = work
        self._clock = clock
        self._workers: dict[K, asyncio.Task[None]] = {}
        self._notified: set[K] = set()
        self._waiting: dict[K, asyncio.Event] = {}
        self._retry_now: dict[K, asyncio.Event] = {}
        """Of each key that is worked on: set when it is not to pause after its next failure."""
        self._is_open = False
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def opened(self, *, grace_s: float = 5.0) -> AsyncIterator[None]:
        """Take pokes while entered. On leaving, work in progress has `grace_s` seconds, then it is cancelled."""
        self._is_open = True
        self._closing.clear()
        try:
            yield
        finally:
            self._is_open = False
            self._closing.set()
            self._notified.clear()
            await self._drain(grace_s)

    def notify(self, key: K) -> None:
        """There may be work under this key. Returns at once; ignored when not open."""
        if not self._is_open:
            return
        if key in self._workers:
            self._notified.add(key)
            if key in self._waiting:
                self._waiting[key].set()
            return
        self._workers[key] = asyncio.create_task(self._run_worker(key), name=f"{self._name}:{key}")

    def notify_now(self, key: K) -> None:
        """The same, and a pause after a failure does not keep it waiting: that is tried again at once, and paused after
        as before if it fails. For what a person did and waits for, never for what work itself brings about."""
        self.notify(key)
        if key in self._retry_now:
            self._retry_now[key].set()

    def notify_waiting(self, predicate: Callable[[K], bool]) -> None:
        """Poke every key that fits and is in a light nap."""
        for key in [key for key in self._waiting if predicate(key)]:
            self.notify(key)

    async def sleep(self, seconds: float) -> bool:
        """Wait inside work. False: the lanes are closing, stop where you are."""
        return await self._sleep(seconds, asyncio.Event())

    async def wait(self, key: K, seconds: float) -> bool:
        """The same, but False also when this key was poked: look again at what there is to do, unless `closing`."""
        poked = self._waiting[key] = asyncio.Event()
        if key in self._notified:
            poked.set()
        try:
            return await self._sleep(seconds, poked) and not poked.is_set()
        finally:
            del self._waiting[key]
            self._notified.discard(key)

    async def _sleep(self, seconds: float, wakeup: asyncio.Event) -> bool:
        waits = [self._clock.sleep(seconds), self._closing.wait(), wakeup.wait()]
        naps = {asyncio.ensure_future(wait) for wait in waits}
        try:
            await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for nap in naps:
                nap.cancel()
        return self._is_open

    @property
    def is_closing(self) -> bool:
        """No new work: finish what is due now."""
        return not self._is_open

    def is_active(self, key: K) -> bool:
        """Whether this key is worked on, or is about to be, or pauses after a failure. False: all that it was notified
        of is done."""
        return key in self._workers

    def active_count(self) -> int:
        """How many keys are being worked on."""
        return len(self._workers)

    async def _run_worker(self, key: K) -> None:
        pause_s = INITIAL_BACKOFF_S
        hurried = self._retry_now[key] = asyncio.Event()
        try:
            while True:
                self._notified.discard(key)
                hurried.clear()
                try:
                    await self._work(key)
                except (Exception, asyncio.CancelledError) as error:
                    if isinstance(error, asyncio.CancelledError) and is_cancelled():
                        raise
                    self._log_failure(key, error, pause_s)
                    if not await self._sleep(pause_s, hurried):
                        return
                    pause_s = min(pause_s * 2, MAX_BACKOFF_S)
                    continue
                pause_s = INITIAL_BACKOFF_S
                if key not in self._notified:
                    return
        finally:
            del self._workers[key], self._retry_now[key]

    def _log_failure(self, key: K, error: BaseException, backoff_s: float) -> None:
        expected = isinstance(error, NanohostError)
        _log.warning(
            "worker_failed",
            lane=self._name,
            key=str(key),
            error=str(error) or type(error).__name__,
            retry_in_s=backoff_s,
            exc_info=None if expected else error,
        )

    async def _drain(self, grace_s: float) -> None:
        if not self._workers:
            return
        _, late = await asyncio.wait(self._workers.values(), timeout=grace_s)
        for task in late:
            _log.warning("worker_cancelled", lane=self._name, task=task.get_name())
            task.cancel()
        if late:
            await asyncio.wait(late)


def is_cancelled() -> bool:
    """Whether this very task is asked to end. A CancelledError says less: a library that cancels a future of its own
    lets whoever waits for it have one too, and work must not end by that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class KeyedLock(Generic[K]):
    """Turns on a key, for work that several lanes may come to. Keys do not wait for each other; who waits is served in
    the order of coming. Not reentrant. A key that nobody works on is not kept."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[K, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, key: K) -> AsyncIterator[None]:
        """Alone with this key while entered."""
        lock = self._locks.setdefault(key, asyncio.Lock())  # lives as long as somebody holds it or waits
        async with lock:
            yield
