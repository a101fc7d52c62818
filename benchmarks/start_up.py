"""What a short command costs: whole processes against `python -c pass`, by turns."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.idle import serving
from benchmarks.measure import Measurement
from nanohost.config.home import Home

TURNS = 40
PROGRAM = str(Path(sys.executable).with_name("nanohost"))
NOTHING = (sys.executable, "-c", "pass")


async def measure(root: Path) -> list[Measurement]:
    """Help without a host, status of an idle host, and status where none runs."""
    return await asyncio.to_thread(_measure, Home(root / "start-up"))


def _measure(home: Home) -> list[Measurement]:
    status = (PROGRAM, "--home", str(home.root), "status")
    with serving(home):
        with_host = ratio(status)
    return [
        Measurement(
            key="cli_help_ratio",
            what="nanohost --help, whole process, against python -c pass",
            value=ratio((PROGRAM, "--help")),
            target=4,
        ),
        Measurement(
            key="cli_status_ratio",
            what="nanohost status of a running host, against the same",
            value=with_host,
            target=6,
        ),
        Measurement(
            key="cli_status_stopped_ratio",
            what="… where no host runs, and the database is opened",
            value=ratio(status),
        ),
    ]


def ratio(command: Sequence[str]) -> float:
    """The median time of a command by that of a Python that does nothing, each in its turn."""
    mine, nothing = [], []
    for _ in range(TURNS):
        nothing.append(_seconds(NOTHING))
        mine.append(_seconds(command))
    return round(statistics.median(mine) / statistics.median(nothing), 2)


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=os.environ)
    return time.perf_counter() - began
