"""Threads of a kind: what they are at is known, and leaving them does not wait for ever."""

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
    """What its thread is at; empty while there is none, or nothing."""
    found = [running_call(thread.ident) for thread in (each for each in threading.enumerate() if each.name == "kind_0")]
    return next((work.description for work in found if work is not None), "")


@pytest.mark.parametrize("about", [Path("/somewhere"), SessionLayout(Path("/somewhere"))])
async def test_what_a_thread_is_at_is_known_with_its_paths_however_it_was_wrapped_up(about: object) -> None:
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


async def test_a_worker_of_asyncios_own_is_known_as_well() -> None:
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


def test_leaving_threads_waits_for_what_began_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "SHUTDOWN_TIMEOUT_S", 0.01)
    hangs, pool = threading.Event(), ThreadPool("kind", 1)
    working = pool.submit(wait, None, hangs)
    try:
        pool.shutdown()
        assert not working.done()
    finally:
        hangs.set()
    working.result(timeout=scaled_timeout(HANG_TIMEOUT_S))
