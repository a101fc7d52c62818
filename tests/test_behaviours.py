"""The list of behaviours and the tests that prove them name the same ids."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LISTED = re.compile(r"^\* ([A-Z]{2}-\d{2}) ", re.MULTILINE)


def test_every_behaviour_is_named_by_a_test() -> None:
    listed = set(LISTED.findall((ROOT / "docs" / "behaviours.md").read_text(encoding="utf-8")))
    named = {id for path in (ROOT / "tests").rglob("*.py") for id in _named_in(path)}
    assert listed
    assert listed - named == set()


def _named_in(path: Path) -> Iterator[str]:
    """The ids given to `behaviour(...)` anywhere in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "behaviour":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
