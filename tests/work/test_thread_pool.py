"""Thread pools: the current work of a thread is known, and shutting down does not wait for ever."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work import thread_pool
from nanohost.work.thread_pool import ThreadPool, running_call
from nanohost_protocol.layout import SessionLayout
from tests.support.invariants import wait_until


def wait(_about: object, hangs: threading.Event) -> None:
    hangs.wait()


def at_work() -> str:
    """The current work of the pool's thread; empty while there is none."""
    found = [running_call(thread.ident) for thread in (each for each in threading.enumerate() if each.name == "kind_0")]
    return next((work.description for work in found if work is not None), "")


@pytest.mark.parametrize("about", [Path("/somewhere"), SessionLayout(Path("/somewhere"))])
async def test_the_current_work_of_a_thread_is_listed_with_its_paths(about: object) -> None:
    hangs, pool = threading.Event(), ThreadPool("kind", 1)
    loop = asyncio.get_running_loop()
    working = loop.run_in_executor(pool, partial(wait, about), hangs)
    try:
        await wait_until(lambda: bool(at_work()))
        assert at_work() == "wait /somewhere"
    finally:
        hangs.set()
        await working
        pool.shutdown()


async def test_a_thread_of_asyncios_default_executor_is_listed_too() -> None:
    hangs = threading.Event()
    pool = ThreadPool("kind", 1)
    asyncio.get_running_loop().set_default_executor(pool)
    working = asyncio.ensure_future(asyncio.to_thread(wait, Path("/somewhere"), hangs))
    try:
        await wait_until(lambda: bool(at_work()))
        assert at_work() == "wait /somewhere"
    finally:
        hangs.set()
        await working
    assert at_work() == ""


def test_shutdown_waits_for_running_work_with_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "SHUTDOWN_TIMEOUT_S", 0.01)
    hangs, pool = threading.Event(), ThreadPool("kind", 1)
    working = pool.submit(wait, None, hangs)
    try:
        pool.shutdown()
        assert not working.done()
    finally:
        hangs.set()
    working.result(timeout=scaled_timeout(HANG_TIMEOUT_S))
