"""python -m benchmarks: measure, print one table, write bench.json."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from pathlib import Path

import structlog

from benchmarks import idle, round_trips
from benchmarks.measure import Measurement, table, write
from nanohost.errors import NanohostError
from nanohost.runtimes.docker_image import ensure_image

RESULT = Path("bench.json")


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    try:
        measurements = asyncio.run(_measure())
    except NanohostError as error:
        print(f"bench: {error}\n  try: {error.hint}", file=sys.stderr)
        return 1
    print(f"{_machine()}\n\n{table(measurements)}")
    write(measurements, RESULT)
    return 0


async def _measure() -> list[Measurement]:
    image = await ensure_image(base_image=None, progress=lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="nanohost-bench-") as folder:
        root = Path(folder)
        return [*await round_trips.measure(root, image), *await idle.measure(root)]


def _machine() -> str:
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
