"""Runs one worker for each key, never two; different keys do not wait for each other.

A notification says that there may be work for a key. A notification during work makes the worker run once more. The
work itself is found in the database, so a lost notification only causes a delay, and an extra one costs one look-up.
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
    """Workers by key. `work(key)` does all the work that is due now; if it raises, it is retried after a pause."""

    def __init__(self, name: str, work: Callable[[K], Awaitable[None]], clock: Clock) -> None:
        self._name = name
        self._work = work
        self._clock = clock
        self._workers: dict[K, asyncio.Task[None]] = {}
        self._notified: set[K] = set()
        self._waiting: dict[K, asyncio.Event] = {}
        self._retry_now: dict[K, asyncio.Event] = {}
        """For each active key: set to skip the pause after a failure."""
        self._is_open = False
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def opened(self, *, grace_s: float = 5.0) -> AsyncIterator[None]:
        """Accept notifications while entered. On exit, work in progress has `grace_s` seconds, then it is cancelled."""
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
        """Run the worker of this key, since there may be work. Returns at once; ignored when not open."""
        if not self._is_open:
            return
        if key in self._workers:
            self._notified.add(key)
            if key in self._waiting:
                self._waiting[key].set()
            return
        self._workers[key] = asyncio.create_task(self._run_worker(key), name=f"{self._name}:{key}")

    def notify_now(self, key: K) -> None:
        """Like `notify`, and end a pause after a failure, so that the work is retried at once; if it fails again, the
        usual pause follows. Use it for what a person did and waits for, never for what the work itself causes."""
        self.notify(key)
        if key in self._retry_now:
            self._retry_now[key].set()

    def notify_waiting(self, predicate: Callable[[K], bool]) -> None:
        """Notify every key that matches and is inside `wait`."""
        for key in [key for key in self._waiting if predicate(key)]:
            self.notify(key)

    async def sleep(self, seconds: float) -> bool:
        """Sleep inside work. Returns False if the workers are closing: then the work should stop."""
        return await self._sleep(seconds, asyncio.Event())

    async def wait(self, key: K, seconds: float) -> bool:
        """Like `sleep`, but also returns False when this key is notified: check again for work, unless `is_closing`."""
        notified = self._waiting[key] = asyncio.Event()
        if key in self._notified:
            notified.set()
        try:
            return await self._sleep(seconds, notified) and not notified.is_set()
        finally:
            del self._waiting[key]
            self._notified.discard(key)

    async def _sleep(self, seconds: float, wakeup: asyncio.Event) -> bool:
        waits = [self._clock.sleep(seconds), self._closing.wait(), wakeup.wait()]
        tasks = {asyncio.ensure_future(wait) for wait in waits}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return self._is_open

    @property
    def is_closing(self) -> bool:
        """Whether the workers are closing: no new work, only finish what is due now."""
        return not self._is_open

    def is_active(self, key: K) -> bool:
        """Whether this key is worked on, or is about to be, or pauses after a failure. False: all that it was notified
        of is done."""
        return key in self._workers

    def active_count(self) -> int:
        """Returns the number of keys with a running worker."""
        return len(self._workers)

    async def _run_worker(self, key: K) -> None:
        pause_s = INITIAL_BACKOFF_S
        retry_now = self._retry_now[key] = asyncio.Event()
        try:
            while True:
                self._notified.discard(key)
                retry_now.clear()
                try:
                    await self._work(key)
                except (Exception, asyncio.CancelledError) as error:
                    if isinstance(error, asyncio.CancelledError) and is_cancelled():
                        raise
                    self._log_failure(key, error, pause_s)
                    if not await self._sleep(pause_s, retry_now):
                        return
                    pause_s = min(pause_s * 2, MAX_BACKOFF_S)
                    continue
                pause_s = INITIAL_BACKOFF_S
                if key not in self._notified:
                    return
        finally:
            del self._workers[key], self._retry_now[key]

    def _log_failure(self, key: K, error: BaseException, backoff_s: float) -> None:
        is_expected = isinstance(error, NanohostError)
        _log.warning(
            "worker_failed",
            lane=self._name,
            key=str(key),
            error=str(error) or type(error).__name__,
            retry_in_s=backoff_s,
            exc_info=None if is_expected else error,
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
    """Whether the current task was cancelled. A CancelledError alone does not tell: a library that cancels its own
    future also raises one in the task that awaits it, and that must not end the work."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class KeyedLock(Generic[K]):
    """A lock for each key, for work that several kinds of workers do. Keys do not wait for each other; waiters are
    served in order of arrival. Not reentrant. A lock that nobody uses is not kept."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[K, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, key: K) -> AsyncIterator[None]:
        """Hold the key's lock while entered."""
        lock = self._locks.setdefault(key, asyncio.Lock())  # weak: lives while it is held or waited for
        async with lock:
            yield
