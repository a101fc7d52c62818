"""Threads for blocking work, by the kind of work, so that what hangs in one kind keeps no other waiting.

A thread cannot be ended. So it is known what each is at (`running_call`), for whoever has to say what hangs, and
leaving them has a limit, where Python waits for ever.
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
"""For which work that began is waited for when its threads are left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCall:
    """What a thread is at, and since when on the monotonic clock."""

    description: str
    since: float


class ThreadPool(ThreadPoolExecutor):
    """At most `max_threads` threads, called `name` and a number."""

    def __init__(self, name: str, max_threads: int) -> None:
        super().__init__(max_threads, thread_name_prefix=name)

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        return super().submit(_tracked, work, arguments, named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. `wait` for what began, SHUTDOWN_TIMEOUT_S at most."""
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        until = time.monotonic() + SHUTDOWN_TIMEOUT_S
        for thread in self._threads if wait else ():
            thread.join(max(0.0, until - time.monotonic()))


def running_call(thread: int | None) -> RunningCall | None:
    """What the thread with this identifier is at, if it is at something and one of these."""
    known = _running.get(thread) if thread is not None else None
    return None if known is None else RunningCall(description=_describe(known[0], known[1]), since=known[2])


_running: dict[int, tuple[Callable[..., object], tuple[object, ...], float]] = {}


def _tracked(work: Callable[..., T], arguments: tuple[Any, ...], named: dict[str, Any]) -> T:
    me = threading.get_ident()
    _running[me] = (work, arguments, time.monotonic())
    try:
        return work(*arguments, **named)
    finally:
        del _running[me]


def _describe(work: Callable[..., object], arguments: tuple[object, ...]) -> str:
    """The function's name and the paths that it was given; asyncio and we wrap functions up in others."""
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
