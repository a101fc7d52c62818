"""This build against the base build, both measured now and in turns: what a machine does to one it does to the other.

The base build is cloned into a temporary folder and run with the libraries that are installed. Agents are scripted and
runners are plain processes, so that no image of another build is needed; the disk is synced as ever.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmarks.measure import Measurement
from nanohost.errors import NanohostError

BASE = "015466fb5d8b2a7477afb7cb29372bfb580006a7"
"""The commit that this build is compared with."""
CHECKOUT = Path(__file__).resolve().parent.parent
SOURCES = ("src", "container", ".")
WARM_UP = 20
ROUNDS, TRIPS_A_ROUND = 20, 15
IMPORTS = 30
PROGRAM, ITS_PARSER = "nanohost.cli.main", "argparse"
IMPORT = "import time; began = time.process_time(); import {}; print(time.process_time() - began)"
"""Processor time: an import waits for nothing, and other work on the machine is not counted."""
Pair = tuple[float, float]
"""What this build took, and what the base build took right beside it."""


async def measure(root: Path) -> list[Measurement]:
    """Raises NanohostError where the base commit is not to be had."""
    return await asyncio.to_thread(_measure, root)


def _measure(root: Path) -> list[Measurement]:
    root.mkdir(parents=True)
    base = _clone(root / "base")
    return [
        Measurement(
            key="warm_ratio_to_base",
            what=f"warm round trip, plain process, against the base build ({BASE[:7]})",
            value=_warm_ratio(base, root),
            target=0.85,
        ),
        Measurement(
            key="import_ratio_to_base",
            what="import of nanohost.cli.main, against the same",
            value=_import_ratio(base, PROGRAM),
            target=0.5,
        ),
        Measurement(
            key="argparse_ratio_to_base",
            what="… import of argparse alone, against the base build's nanohost.cli.main",
            value=_import_ratio(base, ITS_PARSER),
        ),
    ]


def _clone(folder: Path) -> Path:
    try:
        _git("clone", "--quiet", "--shared", "--no-checkout", str(CHECKOUT), str(folder))
        _git("-C", str(folder), "checkout", "--quiet", "--detach", BASE)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NanohostError(
            f"the base build, commit {BASE}, is not to be had: {error}", hint="run it in a clone with all its commits"
        ) from error
    return folder


def _git(*arguments: str) -> None:
    subprocess.run(("git", *arguments), check=True)


def _warm_ratio(base: Path, root: Path) -> float:
    """Of the median trips of a round, in two hosts of which one rests."""
    pairs: list[Pair] = []
    with _warm_host(CHECKOUT, root / "warm-new") as new, _warm_host(base, root / "warm-base") as old:
        _round(new, old, WARM_UP)
        for number in range(ROUNDS):
            if number % 2:
                pairs.append(_round(new, old, TRIPS_A_ROUND))
            else:
                pairs.append(_round(old, new, TRIPS_A_ROUND)[::-1])
    return _ratio(pairs)


def _round(first: subprocess.Popen[str], second: subprocess.Popen[str], trips: int) -> Pair:
    return _trip_ms(first, trips), _trip_ms(second, trips)


@contextmanager
def _warm_host(checkout: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    home.mkdir()
    command = (sys.executable, str(CHECKOUT / "benchmarks" / "warm_trips.py"), str(home))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=checkout, env=_environment(checkout), stdin=pipe, stdout=pipe, text=True
    ) as host:
        yield host
        _end_of(host.stdin).close()


def _trip_ms(host: subprocess.Popen[str], trips: int) -> float:
    _end_of(host.stdin).write(f"{trips}\n")
    _end_of(host.stdin).flush()
    took: list[float] = json.loads(_end_of(host.stdout).readline())
    return statistics.median(took)


def _end_of(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None, "it is a pipe"
    return pipe


def _import_ratio(base: Path, module: str) -> float:
    """Of a module in this build, by the whole program in the base build. The first import of each writes its compiled
    files, and is not counted."""
    pairs = [(_import_s(CHECKOUT, module), _import_s(base, PROGRAM)) for _ in range(1 + IMPORTS)]
    return _ratio(pairs[1:])


def _import_s(checkout: Path, module: str) -> float:
    command = (sys.executable, "-c", IMPORT.format(module))
    done = subprocess.run(command, cwd=checkout, env=_environment(checkout), stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def _environment(checkout: Path) -> dict[str, str]:
    """The code of this checkout comes before the one that is installed."""
    path = os.pathsep.join(str(checkout / name) for name in SOURCES)
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}


def _ratio(pairs: Sequence[Pair]) -> float:
    """The median of what this build took by what the base build took."""
    return round(statistics.median(new / old for new, old in pairs), 2)
