"""python -m tests.mutants [PART ...]: change the decisions in every small way, and see that a test fails for each.

mutmut makes the changes and runs the tests, in a copy of this tree. Each PART is part of a module's path: only those
are changed. Prints one table, and each change that no test noticed. The exit code is 1 when there is one, but for those
of equal.toml: what changes nothing. A change of a sentence is counted and is no fault: sentences are tested where they
are shown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from nanohost.testing.time_limits import FACTOR_VARIABLE
from tests.mutants.decisions import DECISIONS
from tests.mutants.surviving import MutationChange, is_text_only, load_equivalent, parse_change

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "channels", "whatsapp_bridge", "migrations", "docs", "requirements", "scripts", "Makefile")
RESULT = re.compile(r"^\s*(?P<name>\S+__mutmut_\d+): (?P<status>.+)$", re.MULTILINE)
STATUSES = ("killed", "timeout", "survived", "no tests")
MAX_CHILDREN = "2"
TIME_FACTOR = "0.1"
"""A mutation that makes a test hang is detected by the timeout."""
DIFFS = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
print(json.dumps({name: get_diff_for_mutant(name) for name in sys.argv[1:]}))
"""


def main() -> int:
    parts = sys.argv[1:]
    chosen = {path: tests for path, tests in DECISIONS.items() if not parts or any(part in path for part in parts)}
    with tempfile.TemporaryDirectory(prefix="nanohost-mutants-") as folder:
        tree = Path(folder)
        make_tree(tree, chosen)
        environ = {**os.environ, FACTOR_VARIABLE: TIME_FACTOR}
        run = subprocess.run([*run_mutmut(), "run", "--max-children", MAX_CHILDREN], cwd=tree, check=False, env=environ)
        if run.returncode:
            print("mutmut could not run: see above; the tests have to pass without a change", file=sys.stderr)
            return 1
        results = read_results(tree)
        print_table(results)
        survivors = changes_of(tree, [name for name, status in results.items() if status in STATUSES[2:]])
        modules = {module_of(name) for name in results}
        return report(survivors, [change for change in load_equivalent() if change.module in modules])


def make_tree(tree: Path, decisions: Mapping[str, Sequence[str]]) -> None:
    """The copy. mutmut knows a module by its path below src/, so the runner is there, too."""
    for name in COPIED:
        copy_tree(ROOT / name, tree / name)
    copy_tree(ROOT / "container" / "agent_runner", tree / "src" / "agent_runner")
    copy_tree(ROOT / "container", tree / "container")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tree / "pyproject.toml").write_text(settings + make_config(decisions), encoding="utf-8")


def copy_tree(this: Path, there: Path) -> None:
    if this.is_dir():
        shutil.copytree(this, there, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(this, there)


def make_config(decisions: Mapping[str, Sequence[str]]) -> str:
    """mutmut's settings."""
    modules = [path.replace("container/", "src/", 1) for path in decisions]
    tests = list(dict.fromkeys(f"tests/{name}" for names in decisions.values() for name in names))
    lists = {"source_paths": modules, "also_copy": [*COPIED, "container"]}
    lists["pytest_add_cli_args_test_selection"] = tests
    lists["pytest_add_cli_args"] = ["-p", "no:xdist", "-p", "no:cacheprovider"]
    return "\n[tool.mutmut]\n" + "".join(f"{key} = {values!r}\n" for key, values in lists.items())


def run_mutmut() -> list[str]:
    return [sys.executable, "-m", "mutmut"]


def read_results(tree: Path) -> dict[str, str]:
    """The result of each mutation, by its name."""
    said = subprocess.run(
        [*run_mutmut(), "results", "--all", "true"], cwd=tree, check=True, capture_output=True, text=True
    )
    return {found["name"]: found["status"] for found in RESULT.finditer(said.stdout)}


def print_table(results: Mapping[str, str]) -> None:
    counts = Counter((module_of(name), status) for name, status in results.items())
    modules = sorted({module for module, _ in counts})
    width = max(map(len, modules), default=0)
    others = sorted({status for _, status in counts} - set(STATUSES))
    columns = [*STATUSES, *others]
    print(f"\n{'':{width}}  {'  '.join(columns)}")
    for module in modules:
        print(f"{module:{width}}  {'  '.join(f'{counts[module, one]:{len(one)}}' for one in columns)}")


def module_of(name: str) -> str:
    """nanohost.work.keyed_workers of nanohost.work.keyed_workers.x_is_cancelled__mutmut_1."""
    return re.split(r"\.x[_ǁ]", name)[0]


def changes_of(tree: Path, names: Sequence[str]) -> dict[str, MutationChange]:
    """The diff of each of these mutations. In one process: `mutmut show` takes a second for each."""
    said = subprocess.run(
        [sys.executable, "-c", DIFFS, *names], cwd=tree, check=True, stdout=subprocess.PIPE, text=True
    )
    diffs: dict[str, str] = json.loads(said.stdout)
    return {name: parse_change(module_of(name), diff) for name, diff in diffs.items()}


def report(survivors: Mapping[str, MutationChange], equal: Collection[MutationChange]) -> int:
    words = [name for name, change in survivors.items() if is_text_only(change)]
    unnoticed = {name: change for name, change in survivors.items() if name not in words and change not in equal}
    print(f"\n{len(words)} changes of words, {len(survivors) - len(words) - len(unnoticed)} that change nothing")
    for line in format_survivors(unnoticed):
        print(line)
    stale = [change for change in equal if change not in survivors.values()]
    for change in stale:
        print(f"\nequal.toml names a change that is none any more, or that a test notices: {change}")
    return int(bool(unnoticed or stale))


def format_survivors(unnoticed: Mapping[str, MutationChange]) -> Iterator[str]:
    for name, change in unnoticed.items():
        yield f"\nno test notices {name}:\n" + "\n".join(
            [*(f"    - {line}" for line in change.old), *(f"    + {line}" for line in change.new)]
        )


if __name__ == "__main__":
    sys.exit(main())
