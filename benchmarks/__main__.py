"""python -m benchmarks: measure, print one table, write bench.json. With --write, docs/performance.md as well."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
import tempfile
from pathlib import Path

import structlog

from benchmarks import (
    against_base,
    fairness,
    history,
    hostile,
    idle,
    install,
    round_trips,
    scale,
    start_up,
    statements,
    stops,
)
from benchmarks.measure import Measurement, table, write
from nanohost.errors import NanohostError
from nanohost.runtimes.docker_image import ensure_image

RESULT = Path("bench.json")
PAGE = Path("docs/performance.md")
TEXT = """# Performance

{machine}; the machine is shared and virtual, so take ratios before milliseconds. Measured with

    make bench                            prints this table, writes bench.json
    .venv/bin/python -m benchmarks --write   writes this page

{table}

A round trip is measured in a whole host: from the event being handed to intake until the text is handed to the channel.
Containers are Docker's, with every limit and wall on; the disk is synced at each step that must survive. The agent is
scripted and thinks for no time, or it is Claude's real command line asking a stand-in of the Messages API on loopback.
A cold round trip begins with no container: `engine` is routing and Docker until the container's first process,
`interpreter` until our first statement, `first poll` until the message is claimed. The session with 50000 sent rows has
their events, attempts and costs on record too; its trips and those of an empty one are made in one host, by turns. The
idle host is `nanohost run`. What a command costs is the median of whole processes, in turns with `python -c pass`.
What is said against the base build is measured with both builds in turns; the script names the commit.
"""


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        measurements = asyncio.run(_measure())
    except NanohostError as error:
        print(f"bench: {error}\n  {error.advice}", file=sys.stderr)
        return 1
    print(f"{_machine()}\n\n{table(measurements)}")
    write(measurements, RESULT)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(TEXT.format(machine=_machine(), table=table(measurements)), encoding="utf-8")
    return 0


async def _measure() -> list[Measurement]:
    image = await ensure_image(base_image=None, progress=lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="nanohost-bench-") as folder:
        root = Path(folder)
        return [
            *await against_base.measure(root / "against-base"),
            *await round_trips.measure(root, image),
            *await stops.measure(root / "stops", image),
            *await statements.measure(root / "statements"),
            *await scale.measure(root / "scale", image),
            *await hostile.measure(root / "hostile", image),
            *await history.measure(root / "history", image),
            *await fairness.measure(root / "fairness", image),
            *await idle.measure(root),
            *await start_up.measure(root),
            *await install.measure(root),
        ]


def _machine() -> str:
    cores = f"{os.cpu_count()} cores of {_cpu()}"
    return f"{platform.system()} {platform.release()}, {cores}, Python {platform.python_version()}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
