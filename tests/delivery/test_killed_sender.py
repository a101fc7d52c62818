"""A host killed in the middle of a long message continues with the next part."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.delivery.test_parts import LONG, words

REPOSITORY = Path(__file__).parents[2]


async def deliver(tmp_path: Path, *, kill_at: str | None = None) -> int:
    """Run a host until the message is delivered, or until it is killed. Returns its exit code."""
    environment = {**os.environ, "NANOHOST_CRASH_AT": kill_at or ""}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.delivery.killed_sender", str(tmp_path / "home"), str(tmp_path / "platform")),
        cwd=REPOSITORY,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.behaviour("DL-06", "DL-05")
@pytest.mark.parametrize(
    ("kill_at", "sent_twice"),
    [("sender.sent:3", 1), ("sender.settled:3", 0)],
)
async def test_only_the_part_in_progress_is_sent_again_after_a_kill(
    tmp_path: Path, kill_at: str, sent_twice: int
) -> None:
    assert await deliver(tmp_path, kill_at=kill_at) == -signal.SIGKILL
    assert await deliver(tmp_path) == 0
    lines = [json.loads(line) for line in (tmp_path / "platform").read_text().splitlines()]
    seen = {line["key"]: line["text"] for line in lines}
    assert words(*seen.values()) == words(LONG)
    times = list(Counter(line["key"] for line in lines).values())
    assert times == [1, 1, 1 + sent_twice, *[1] * (len(seen) - 3)]
