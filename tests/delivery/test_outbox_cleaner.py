"""Sent files are removed from outbox/ step by step, each session in turn, outside the senders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from nanohost.delivery import files, outbox_cleaner
from nanohost.delivery.outbox_cleaner import STEP_PAUSE_S, OutboxCleaner
from nanohost.model import SessionId
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.layout import SessionLayout
from tests.support.folders import MANY_FILES, fill_folder
from tests.support.invariants import wait_until

FULL, OTHER = SessionId("full"), SessionId("other")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def removing(clock: ManualClock) -> AsyncIterator[OutboxCleaner]:
    removing = OutboxCleaner(clock)
    async with removing.opened():
        yield removing


def sent(folder: Path, session: SessionId, files: int) -> SessionLayout:
    """A session whose agent left so many files beside the sent one, and the rest of its copy."""
    layout = SessionLayout(folder / session)
    (layout.out_dir / "outbox").mkdir(parents=True)
    fill_folder(layout.out_dir / "outbox" / "o1", files)
    (layout.root / "sending" / "o1").mkdir(parents=True)
    return layout


def is_gone(layout: SessionLayout) -> bool:
    return not (layout.out_dir / "outbox" / "o1").exists() and not files.list_copies(layout)


async def test_a_session_with_very_many_files_does_not_delay_others(
    folder: Path, removing: OutboxCleaner, clock: ManualClock
) -> None:
    full, other = sent(folder, FULL, MANY_FILES), sent(folder, OTHER, 3)
    removing.add(FULL, full, "o1")
    await clock.wait_for_sleeper()
    removing.add(OTHER, other, "o1")
    await clock.advance(STEP_PAUSE_S)
    await wait_until(lambda: is_gone(other))
    assert not is_gone(full)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not is_gone(full):
            await clock.advance(STEP_PAUSE_S)


async def test_files_not_removed_when_the_host_stops_are_known_to_the_next(folder: Path, clock: ManualClock) -> None:
    layout = sent(folder, FULL, MANY_FILES)
    removing = OutboxCleaner(clock)
    async with removing.opened():
        removing.add(FULL, layout, "o1")
        await clock.wait_for_sleeper()
    assert files.list_copies(layout) == ["o1"]


async def test_a_session_that_keeps_adding_files_is_skipped_until_the_next_start(
    folder: Path, removing: OutboxCleaner, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_cleaner, "MAX_STEPS", 2)
    layout = sent(folder, FULL, MANY_FILES)
    with structlog.testing.capture_logs() as log:
        removing.add(FULL, layout, "o1")
        for _ in range(2):
            await clock.wait_for_sleeper()
            await clock.advance(STEP_PAUSE_S)
        await wait_until(lambda: "outbox_removal_failed" in [line["event"] for line in log])
    assert files.list_copies(layout) == ["o1"]
