"""Signals: the first one stops in order, unless a stop is already in progress."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from nanohost.cli.stop_signal import StopRequested, handle_stop_signals
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.invariants import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_cancels_the_running_task(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    async def wait_for_a_signal() -> None:
        async with handle_stop_signals():
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()

    with pytest.raises(StopRequested):
        await asyncio.wait_for(wait_for_a_signal(), scaled_timeout(HANG_TIMEOUT_S))
    assert signal.getsignal(number) is before


async def test_a_first_signal_does_not_cancel_a_stop_in_progress_and_a_second_one_exits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    async with (
        asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)),
        handle_stop_signals(lambda: asked.append("again")) as leaving,
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        while not asked:  # the event loop must not run before
            pass
        leaving()
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await wait_until(lambda: bool(exits))
    assert exits == [130]
