"""python -m tests.crash: every crash point many times, kills at random, and what a host stands on taken away.

Prints one table and writes crash.json; with --write, docs/reliability.md as well. With --only NAME ... those runs alone
are made again, and crash.json keeps the others as they were. The exit code is 1 when anything was lost, repeated or
left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import structlog

from nanohost.errors import NanohostError
from nanohost.runtimes.docker_engine import connect_engine
from nanohost.runtimes.docker_image import ensure_image
from nanohost_protocol.crash_points import HOST_POINTS, RUNNER_POINTS
from tests.crash.fault_injection import CASES, WITH_DOCKER, Case
from tests.crash.faults import FaultUnavailable
from tests.crash.measurements import Result
from tests.crash.report import render_page, render_summary
from tests.crash.runs import PASSES_PER_POINT, SoakTest, run_host_kills_at, run_runner_kills_at, run_soak

RESULT = Path("crash.json")
PAGE = Path("docs/reliability.md")
KILLS = 20
MAX_PARALLEL = 3
"""Runs that share the machine; three keep two cores busy."""
LOW_CPU_CASES = {"bad channel", "bad channel, no keys", "container fills its disk", "deaf container"}
"""Runs that mostly wait: they share what the others leave."""
MAX_PARALLEL_LOW_CPU = 2
SENDS = ("sender.intended", "sender.sent", "sender.open", "sender.settled")
SOAKS = (
    SoakTest(runtime="process", messages=2000, host_kills=200, runner_kills=200),
    SoakTest(runtime="docker", messages=400, host_kills=40, runner_kills=40, seed=3, is_forked=False),
    SoakTest(
        runtime="process", messages=400, host_kills=40, runner_kills=40, seed=2, idempotent=False, is_forked=False
    ),
)


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    wanted = _arguments()
    kept = [result for result in _load_previous() if result.name not in wanted.only] if wanted.only else []
    with tempfile.TemporaryDirectory(prefix="nanohost-crash-") as folder:
        outcomes = asyncio.run(_run_all(Path(folder), frozenset(wanted.only), wanted.part))
    results = [*kept, *(outcome for outcome in outcomes if isinstance(outcome, Result))]
    failures = [str(outcome) for outcome in outcomes if isinstance(outcome, AssertionError)]
    skipped = [str(outcome) for outcome in outcomes if isinstance(outcome, FaultUnavailable)]
    RESULT.write_text(json.dumps(_write_results(results, failures, skipped), indent=1) + "\n", encoding="utf-8")
    if wanted.write:
        PAGE.write_text(render_page(results), encoding="utf-8")
    print(render_summary(results))
    for word, sentences in (("FAILED", failures), ("NOT MEASURED", skipped)):
        for sentence in sentences:
            print(f"{word} {sentence}", file=sys.stderr)
    return int(bool(failures) or not all(result.is_sound for result in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="runs by the name in the table")
    parser.add_argument("--part", type=int, default=1, metavar="N", help="an Nth of the kills and messages")
    return parser.parse_args()


def _load_previous() -> list[Result]:
    if not RESULT.exists():
        return []
    runs = json.loads(RESULT.read_text(encoding="utf-8"))["runs"]
    return [Result(**{**run, "missing": tuple(run["missing"])}) for run in runs]


async def _is_docker_ready() -> bool:
    try:
        connect_engine().close()
        await ensure_image(progress=lambda line: print(line, file=sys.stderr))
    except NanohostError as error:
        print(f"no run with Docker: {error}", file=sys.stderr)
        return False
    return True


def _list_runs(*, docker: bool, part: int) -> list[tuple[str, Case]]:
    """The longest first, so that the last one does not run alone."""
    kills = max(PASSES_PER_POINT, KILLS // part)
    soaks = [soak.part(part) for soak in SOAKS if docker or soak.runtime != "docker"]
    return [
        *((soak.name, partial(run_soak, soak)) for soak in soaks),
        *((name, case) for name, case in CASES.items() if docker or name not in WITH_DOCKER),
        *((point, partial(run_runner_kills_at, point, kills=kills)) for point in RUNNER_POINTS),
        *((point, partial(run_host_kills_at, point, kills=kills)) for point in HOST_POINTS),
        *((point, partial(run_host_kills_at, point, kills=kills, idempotent=False)) for point in SENDS),
    ]


async def _run_all(
    folder: Path, only: Iterable[str], part: int
) -> Sequence[Result | AssertionError | FaultUnavailable]:
    runs = [run for run in _list_runs(docker=await _is_docker_ready(), part=part) if not only or run[0] in only]
    places, beside = asyncio.Semaphore(MAX_PARALLEL), asyncio.Semaphore(MAX_PARALLEL_LOW_CPU)

    async def one(number: int, name: str, run: Case) -> Result | AssertionError | FaultUnavailable:
        async with beside if name in LOW_CPU_CASES else places:
            try:
                result = await run(folder / f"{number}")
            except FaultUnavailable as error:
                return FaultUnavailable(f"{name}: {error}")
            except Exception as error:
                return AssertionError(f"{name}: {type(error).__name__}: {error}")  # the other runs go on
            print(f"{result.name}: {result.kills} kills in {result.seconds:.0f} s", file=sys.stderr)
            return result

    return await asyncio.gather(*(one(number, name, run) for number, (name, run) in enumerate(runs)))


def _write_results(results: Sequence[Result], failures: Sequence[str], skipped: Sequence[str]) -> dict[str, object]:
    """Sums first, as whoever compares two runs wants them; then every run."""
    killed = ("kills", "host_kills", "container_kills")
    counted = ("events", "lost", "repeated", "ambiguous", "ambiguous_extra", "disordered", "notices")
    left = ("odd", "unfinished", "open_claims", "orphan_containers", "verify_failures")
    sums = {name: sum(getattr(result, name) for result in results) for name in (*killed, *counted, *left)}
    cases = [
        {"name": result.name, "idempotent": result.idempotent, "verdict": "ok" if result.is_sound else "failed"}
        for result in results
        if result.name in CASES
    ]
    runs = [asdict(result) for result in results]
    return {**sums, "failures": list(failures), "not_measured": list(skipped), "cases": cases, "runs": runs}


if __name__ == "__main__":
    sys.exit(main())
