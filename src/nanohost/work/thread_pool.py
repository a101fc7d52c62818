"""Provides thread pools for blocking work, one for each kind of work, so that one kind does not block the others.

A thread cannot be killed. So each thread's current call is tracked (`running_call`), to report what hangs, and a
shutdown has a time limit, while Python would wait for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, TypeVar

from nanohost_protocol.layout import SessionLayout

T = TypeVar("T")

SHUTDOWN_TIMEOUT_S = 5.0
"""How long a shutdown waits for work that began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCall:
    """The call that a thread runs, and since when on the monotonic clock."""

    description: str
    since: float


class ThreadPool(ThreadPoolExecutor):
    """At most `max_threads` threads, named `name` and a number."""

    def __init__(self, name: str, max_threads: int) -> None:
        super().__init__(max_threads, thread_name_prefix=name)

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        return super().submit(_tracked, work, arguments, named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more work. `wait`: wait for work that began, at most SHUTDOWN_TIMEOUT_S."""
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        until = time.monotonic() + SHUTDOWN_TIMEOUT_S
        for thread in self._threads if wait else ():
            thread.join(max(0.0, until - time.monotonic()))


def running_call(thread: int | None) -> RunningCall | None:
    """Returns the call that the thread with this identifier runs; None if it runs none, or is not in a ThreadPool."""
    call = _running.get(thread) if thread is not None else None
    return None if call is None else RunningCall(description=_describe(call[0], call[1]), since=call[2])


_running: dict[int, tuple[Callable[..., object], tuple[object, ...], float]] = {}


def _tracked(work: Callable[..., T], arguments: tuple[Any, ...], named: dict[str, Any]) -> T:
    thread = threading.get_ident()
    _running[thread] = (work, arguments, time.monotonic())
    try:
        return work(*arguments, **named)
    finally:
        del _running[thread]


def _describe(work: Callable[..., object], arguments: tuple[object, ...]) -> str:
    """Returns the function's name and its path arguments. Unwraps functions that asyncio and we have wrapped."""
    parts = list(_unwrap(work, arguments))
    names = [name for part in parts if (name := getattr(part, "__qualname__", ""))]
    paths = [str(part.root if isinstance(part, SessionLayout) else part) for part in parts if _is_path(part)]
    return " ".join([*names[-1:], *dict.fromkeys(paths)]) or type(work).__name__


def _unwrap(work: object, arguments: tuple[object, ...]) -> Iterator[object]:
    yield work
    if isinstance(work, MethodType):
        yield work.__self__
    if isinstance(work, partial):
        yield from _unwrap(work.func, work.args)
    for argument in arguments:
        if callable(argument):
            yield from _unwrap(argument, ())
        else:
            yield argument


def _is_path(part: object) -> bool:
    return isinstance(part, (Path, SessionLayout))
