"""Ends a command within a known time, whatever hangs.

A thread that waits for a disk that does not answer cannot be ended; asyncio and Python wait for their threads for ever.
So a stop as a whole has a time limit, and threads that remain when everything is closed have THREAD_JOIN_TIMEOUT_S. The
log names the tasks and threads that are late, and the process ends with its own exit code. That is safe at any point:
data that must survive is on disk before it is acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

import structlog

from nanohost.cli.settings import StopSettings
from nanohost.cli.stop_signal import EXIT_INTERRUPTED, SignalSafeEventLoop
from nanohost.errors import NanohostError
from nanohost.work.thread_pool import ThreadPool, running_call

T = TypeVar("T")

STOP_TIMEOUT_S = StopSettings().stop_limit_s
"""Seconds, the default of the setting. Every stage of a host has a shorter limit of its own; systemd waits for 90 s."""
THREAD_JOIN_TIMEOUT_S = 5.0
"""Seconds. nanohost's own threads have ended by then (see nanohost.work.thread_pool); a channel's library may have
others."""
EXIT_TIMED_OUT = 1
LOG_TIMEOUT_S = 2.0
"""Seconds to write the log: its reader may be what hangs."""
MAX_REPORTED = 20
MAX_FRAMES = 200
STDLIB_DIR = str(Path(os.__file__).parent)
"""The folder of Python's own code, whose frames do not show which part waits."""
MAX_WORKERS = min(32, (os.cpu_count() or 1) + 4)
"""The default number of asyncio."""

_log = structlog.get_logger()


class ShutdownGuard:
    """Runs a command and ends the process if it does not end by itself. One at a time, entered in the main thread."""

    def __init__(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._existing_threads: set[threading.Thread] = set()
        self._timeout_thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finished = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> ShutdownGuard:
        self._existing_threads = set(threading.enumerate())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for remaining threads. Logs a raised error before it ends the process because of them."""
        until = time.monotonic() + THREAD_JOIN_TIMEOUT_S
        for thread in self._remaining_threads():
            thread.join(max(0.0, until - time.monotonic()))
        if self._remaining_threads():
            self._force_exit(THREAD_JOIN_TIMEOUT_S, error)
        self._finished.set()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Does what asyncio.run does, with worker threads whose current work is known."""
        with asyncio.Runner(loop_factory=SignalSafeEventLoop) as runner:
            return runner.run(self._run_with_workers(main))

    def start_timeout(self) -> None:
        """Starts the time limit of the stop. Callable from any thread; a second call changes nothing."""
        with self._lock:
            if self._timeout_thread is None:
                self._timeout_thread = threading.Thread(target=self._enforce_timeout, name="ending", daemon=True)
                self._timeout_thread.start()

    async def _run_with_workers(self, main: Coroutine[Any, Any, T]) -> T:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPool("worker", MAX_WORKERS))
        return await main

    def _enforce_timeout(self) -> None:
        if not self._finished.wait(self._timeout_s):
            self._force_exit(self._timeout_s, None)

    def _remaining_threads(self) -> list[threading.Thread]:
        """Returns the threads that Python would wait for at its end."""
        ours = {threading.current_thread(), threading.main_thread(), *self._existing_threads}
        return [thread for thread in threading.enumerate() if not thread.daemon and thread not in ours]

    def _force_exit(self, after_s: float, error: BaseException | None) -> None:
        code = EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else EXIT_TIMED_OUT
        late = [
            thread
            for thread in (threading.main_thread(), *self._remaining_threads())
            if thread is not threading.current_thread()
        ]
        saying = threading.Thread(target=self._log_timeout, args=(after_s, code, late, error), daemon=True)
        saying.start()
        saying.join(LOG_TIMEOUT_S)
        os._exit(code)

    def _log_timeout(
        self, after_s: float, code: int, late: Sequence[threading.Thread], error: BaseException | None
    ) -> None:
        if isinstance(error, NanohostError):
            from nanohost.cli.main import print_error

            print_error(error)
        _log.error(
            "stop_timed_out",
            after_s=after_s,
            threads=[_describe_thread(thread) for thread in late if not _is_idle(thread)][:MAX_REPORTED],
            tasks=list(_describe_pending_tasks(self._loop))[:MAX_REPORTED],
            exit_code=code,
            hint="does the disk answer? dmesg; df -h",
            exc_info=error if isinstance(error, Exception) and not isinstance(error, NanohostError) else None,
        )
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _describe_thread(thread: threading.Thread) -> str:
    """Describes a thread and its current work, with the paths it works on if it is nanohost's own."""
    work = running_call(thread.ident)
    at = "" if work is None else f" {work.description} for {time.monotonic() - work.since:.0f} s,"
    return f"{thread.name}:{at} in {_format_location(*_collect_frames(_current_frame(thread)))}"


def _is_idle(thread: threading.Thread) -> bool:
    """Returns whether it is a pool's thread that waits for work."""
    frame = _current_frame(thread)
    return frame is not None and frame.f_globals.get("__name__") == "concurrent.futures.thread"


def _collect_frames(inner: FrameType | None) -> Iterator[FrameType]:
    """Yields the frames, the outermost first."""
    frames: list[FrameType] = []
    while inner is not None and len(frames) < MAX_FRAMES:
        frames.append(inner)
        inner = inner.f_back
    return reversed(frames)


def _current_frame(thread: threading.Thread) -> FrameType | None:
    return sys._current_frames().get(thread.ident or 0)


def _format_location(*frames: FrameType) -> str:
    """Formats the innermost frame, of Python's own code only if there is no other. Reads no source: the disk may
    hang."""
    telling = [frame for frame in frames if not frame.f_code.co_filename.startswith(STDLIB_DIR)]
    for frame in (telling or frames)[-1:]:
        return f"{frame.f_code.co_name} ({frame.f_code.co_filename.rpartition(os.sep)[2]}:{frame.f_lineno})"
    return "its end"


def _describe_pending_tasks(loop: asyncio.AbstractEventLoop | None) -> Iterator[str]:
    if loop is None or loop.is_closed():
        return
    for task in asyncio.all_tasks(loop):
        frames = [frame for frame in islice(_coroutine_frames(task.get_coro()), MAX_FRAMES) if frame is not None]
        yield f"{task.get_name()}: in {_format_location(*frames)}"


def _coroutine_frames(awaitable: object) -> Iterator[FrameType | None]:
    """Yields the frames of a coroutine, of what it awaits, and of the generators of context managers."""
    while hasattr(awaitable, "cr_frame") or hasattr(awaitable, "ag_frame"):
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "ag_frame", None)
        yield frame
        awaited = getattr(awaitable, "cr_await", None) or getattr(awaitable, "ag_await", None)
        manager = getattr(frame, "f_locals", {}).get("self")
        awaitable = awaited if hasattr(awaited, "cr_frame") else getattr(manager, "gen", None)
