"""A runner whose clock is shifted as its host's, and that misbehaves in its session's first life.

python faulty_runner.py MODE OFFSET agent_runner --install I --session S --lease L

plain       does not misbehave
deaf        lives and takes no message
stubborn    works, and does not end when it is told to, in any life
hoarder     fills its folder, and takes no message as long as it is full, in any life
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from agent_runner import __main__ as entry
from agent_runner.loop import Runner, utc_now
from agent_runner.signals import RunnerSignals
from nanohost_protocol.heartbeat import run_heartbeat
from nanohost_protocol.layout import SessionLayout

HOARD_MB = 24
POLL_INTERVAL_S = 0.1


class StopIgnoringSignals(RunnerSignals):
    """Ignores signals."""

    def stop(self) -> None:
        return


def main() -> int:
    mode, offset, _, *arguments = sys.argv[1:]
    sys.argv[1:] = arguments
    now = partial(_shifted, Path(offset))
    vars(entry).update(utc_now=now, Runner=partial(Runner, now=now))
    layout = SessionLayout(Path(os.environ["NANOHOST_WORKSPACE"]))
    if mode == "stubborn":
        vars(entry).update(RunnerSignals=StopIgnoringSignals)
    elif mode == "hoarder":
        _fill_disk(layout)
    elif _is_first_container(layout) and mode == "deaf":
        _ignore_messages(layout)
    return entry.main()


def _shifted(offset: Path) -> datetime:
    return utc_now() + timedelta(seconds=float(offset.read_text()))


def _is_first_container(layout: SessionLayout) -> bool:
    lived = layout.state_dir / "lived"
    first = not lived.exists()
    lived.touch()
    return first


def _ignore_messages(layout: SessionLayout) -> None:
    with run_heartbeat(layout.heartbeat):
        while True:
            signal.pause()


def _fill_disk(layout: SessionLayout) -> None:
    if _is_first_container(layout):
        for number in range(HOARD_MB):
            (layout.out_dir / f"hoard-{number}").write_bytes(b"\1" * 1024**2)
    with run_heartbeat(layout.heartbeat):
        while any(layout.out_dir.glob("hoard-*")):
            time.sleep(POLL_INTERVAL_S)


if __name__ == "__main__":
    sys.exit(main())
