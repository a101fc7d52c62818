"""Crash points: where they are, how they are armed, and that they do nothing otherwise."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanohost_protocol import crash_points
from nanohost_protocol.crash_points import ENV_VARIABLE, HOST_POINTS, RUNNER_ENV_VARIABLE, RUNNER_POINTS, CrashTrigger

ROOT = Path(__file__).parent.parent.parent
PASS_TWICE = (
    "from nanohost_protocol.crash_points import crash_point; crash_point('runner.said'); "
    "print(1); crash_point('runner.said')"
)


def test_every_crash_point_is_in_the_code_once() -> None:
    found = Counter(name for folder in ("src", "container") for name in _reached(ROOT / folder))
    assert found == Counter([*HOST_POINTS, *RUNNER_POINTS])


def test_the_reliability_page_has_a_result_for_every_crash_point() -> None:
    written = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert {name for name in [*HOST_POINTS, *RUNNER_POINTS] if f"| {name} " not in written} == set()


def test_without_the_variable_no_crash_point_is_armed() -> None:
    assert crash_points._trigger is None
    assert _passing({}) == (0, "1\n")


@pytest.mark.parametrize(("armed", "said"), [("runner.said", ""), ("runner.said:1", ""), ("runner.said:2", "1\n")])
def test_a_process_ends_at_the_chosen_pass_of_its_crash_point(armed: str, said: str) -> None:
    assert _passing({ENV_VARIABLE: armed}) == (-9, said)


def test_other_crash_points_are_passed() -> None:
    assert _passing({ENV_VARIABLE: "runner.said:3"}) == (0, "1\n")
    assert _passing({ENV_VARIABLE: "runner.claimed"}) == (0, "1\n")


def test_an_unknown_crash_point_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no crash point 'runner\.sang'"):
        CrashTrigger("runner.sang:2")


def test_a_runner_gets_only_its_own_crash_point() -> None:
    assert crash_points.runner_environment({ENV_VARIABLE: "sender.sent", "HOME": "/root"}) == {}
    assert crash_points.runner_environment({ENV_VARIABLE: "sender.sent", RUNNER_ENV_VARIABLE: "runner.said"}) == {
        ENV_VARIABLE: "runner.said"
    }


def _passing(environment: dict[str, str]) -> tuple[int, str]:
    """A process that passes one point twice: its exit code, and its output in between."""
    done = subprocess.run(
        [sys.executable, "-u", "-c", PASS_TWICE], capture_output=True, text=True, env=environment, check=False
    )
    return done.returncode, done.stdout


def _reached(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crash_point":
                yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))
