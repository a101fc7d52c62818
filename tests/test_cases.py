"""Each case of tests/cases/ is shown by a test: one that is added there is noticed.

The files of the platforms and of Markdown are run case by case by the tests that read them. A case of any other file
says in words what becomes of it, and is named by the test that shows it: @pytest.mark.case("its name").
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
RUN_FROM_THE_FILE = {"discord_slack_whatsapp.json", "markdown.json", "telegram.json", "whatsapp.json"}
"""By tests/channels/*/test_cases.py, tests/rendering/test_cases.py and what reads tests/support/arrivals.py."""


def test_every_case_is_named_by_a_test() -> None:
    cases = Counter(
        str(case["name"])
        for file in (TESTS / "cases").glob("*.json")
        if file.name not in RUN_FROM_THE_FILE
        for case in json.loads(file.read_text(encoding="utf-8"))
    )
    named = {name for path in TESTS.rglob("*.py") for name in _named_in(path)}
    assert cases
    assert [name for name, count in cases.items() if count > 1] == []
    assert cases.keys() - named == set(), "no test names these: see the top of this file"
    assert named - cases.keys() == set(), "there are no such cases"


def _named_in(path: Path) -> Iterator[str]:
    """The names given to `pytest.mark.case(...)` anywhere in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.case":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
