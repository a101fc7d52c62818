"""python -m tests.crash: every crash point many times, and kills at random; writes crash.json and prints one table.

With --write, docs/reliability.md as well. The exit code is 1 when anything was lost, repeated or left behind.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from nanohost.errors import NanohostError
from nanohost.runtimes.docker_engine import reach_engine
from nanohost.runtimes.docker_image import ensure_image
from nanohost_protocol.crash_points import HOST, RUNNER
from tests.crash.measured import Result
from tests.crash.page import page, summary
from tests.crash.runs import Soak, host_killed_at, runners_killed_at, soaked

RESULT = Path("crash.json")
PAGE = Path("docs/reliability.md")
KILLS = 20
AT_ONCE = 3
"""Runs that share the machine; two cores are busy with three."""
SENDS = ("sender.intended", "sender.sent", "sender.open", "sender.settled")


class Run(Protocol):
    def __call__(self, root: Path) -> Coroutine[object, object, Result]: ...


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="nanohost-crash-") as folder:
        outcomes = asyncio.run(_all(Path(folder)))
    results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    failures = [str(outcome) for outcome in outcomes if isinstance(outcome, AssertionError)]
    RESULT.write_text(json.dumps(_record(results, failures), indent=1) + "\n", encoding="utf-8")
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(results), encoding="utf-8")
    print(summary(results))
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return int(bool(failures) or not all(result.is_sound for result in results))


async def _docker_is_ready() -> bool:
    try:
        reach_engine().close()
        await ensure_image(progress=lambda line: print(line, file=sys.stderr))
    except NanohostError as error:
        print(f"no run with Docker: {error}", file=sys.stderr)
        return False
    return True


def _runs(*, docker: bool) -> list[Run]:
    """The longest first, so that the last one does not run alone."""
    soaks = [
        Soak(runtime="process", messages=600, host_kills=25, runner_kills=30),
        Soak(runtime="process", messages=400, host_kills=15, runner_kills=20, seed=2, idempotent=False),
    ]
    if docker:
        soaks.append(Soak(runtime="docker", messages=400, host_kills=15, runner_kills=20, seed=3))
    return [
        *(partial(soaked, soak) for soak in soaks),
        *(partial(runners_killed_at, point, kills=KILLS) for point in RUNNER),
        *(partial(host_killed_at, point, kills=KILLS) for point in HOST),
        *(partial(host_killed_at, point, kills=KILLS, idempotent=False) for point in SENDS),
    ]


async def _all(folder: Path) -> Sequence[Result | AssertionError]:
    runs = _runs(docker=await _docker_is_ready())
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, run: Run) -> Result | AssertionError:
        async with places:
            try:
                result = await run(root=folder / f"{number}")
            except AssertionError as error:
                return error
            print(f"{result.name}: {result.kills} kills in {result.seconds:.0f} s", file=sys.stderr)
            return result

    return await asyncio.gather(*(one(number, run) for number, run in enumerate(runs)))


def _record(results: Sequence[Result], failures: Sequence[str]) -> dict[str, object]:
    """Sums first, as whoever compares two runs wants them; then every run."""
    counted = ("kills", "events", "lost", "repeated", "ambiguous", "ambiguous_extra", "notices")
    left = ("unfinished", "open_claims", "orphan_containers", "verify_failures")
    sums = {name: sum(getattr(result, name) for result in results) for name in (*counted, *left)}
    return {**sums, "failures": list(failures), "runs": [asdict(result) for result in results]}


if __name__ == "__main__":
    sys.exit(main())
