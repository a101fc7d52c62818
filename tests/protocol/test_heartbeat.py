"""The heartbeat shows that a process is alive, whatever its event loop does."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.heartbeat import last_heartbeat, run_heartbeat

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def until_after(path: Path, moment: datetime) -> datetime:
    """Wait, giving the heartbeat thread nothing but time."""
    give_up_at = time.monotonic() + scaled_timeout(HANG_TIMEOUT_S)
    while time.monotonic() < give_up_at:
        beat = last_heartbeat(path)
        if beat is not None and beat > moment:
            return beat
        time.sleep(0)
    raise AssertionError("no beat came")


@pytest.mark.behaviour("SE-06")
def test_the_heartbeat_begins_at_once_and_continues_while_the_caller_is_busy(tmp_path: Path) -> None:
    path = tmp_path / ".heartbeat"
    assert last_heartbeat(path) is None
    with run_heartbeat(path, interval_s=0.01):
        first = until_after(path, LONG_AGO)
        assert abs(first - datetime.now(UTC)) < timedelta(seconds=scaled_timeout(10))
        os.utime(path, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))
        until_after(path, LONG_AGO)


def test_the_heartbeat_stops_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / ".heartbeat"
    with run_heartbeat(path, interval_s=0.001):
        until_after(path, LONG_AGO)
    os.utime(path, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))
    assert last_heartbeat(path) == LONG_AGO


def test_an_unwritable_folder_stops_the_heartbeat_and_not_the_runner(tmp_path: Path) -> None:
    with run_heartbeat(tmp_path / "missing" / ".heartbeat", interval_s=0.001):
        pass
    assert last_heartbeat(tmp_path / "missing" / ".heartbeat") is None


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    os.utime(target, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))
    link = tmp_path / ".heartbeat"
    link.symlink_to(target)
    beat = last_heartbeat(link)
    assert beat is not None
    assert beat > LONG_AGO


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a file system that keeps any time")
@pytest.mark.parametrize("since_1970_s", [2**40, 2**55, -(2**40)])
def test_an_invalid_time_counts_as_no_heartbeat(since_1970_s: int) -> None:
    path = Path("/dev/shm") / f"heartbeat-{os.getpid()}"
    path.touch()
    try:
        os.utime(path, (since_1970_s, since_1970_s))
        assert last_heartbeat(path) is None
    finally:
        path.unlink()
