"""The inputs of tests/cases/*.json, and where each of them is run.

Each file is a list of objects. `name`; `kind`: which kind of content it is (see nanohost.testing.content); and what is
given: `input`, or `input_series` for several, or `update`, as the platform sends it. Where it is run:

* `platform`: by that platform's own test, see PLATFORMS. In a file that is named after a platform it may be left out.
* `forms`: by the test of the forms that Markdown is written in.
* `then`, a sentence: by a test of its own, which names it: `@pytest.mark.case("its name")`.

For a case that none of these fits tests/test_cases.py fails, and for one that says something which its test does not
look at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.marks import mark_texts

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "cases"
PLATFORMS = ("telegram", "discord", "slack", "whatsapp", "whatsapp_linked")
RENDERING, DEDICATED_TEST = "rendering", "a test of its own"
_INPUT_KEYS = frozenset({"input", "input_series", "update"})
CASE_KEYS = frozenset({"platform", "name", "kind", "chat", "then", *_INPUT_KEYS})
"""Keys that every case may have. Keys that only one test checks are in that test's own KEYS."""

Case = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedCase:
    """A case and its file: the file's name, without its extension."""

    file: str
    case: Case

    @property
    def platform(self) -> str | None:
        """The platform that it names, whether there is a test of that or not."""
        named: str | None = self.case.get("platform", self.file if self.file in PLATFORMS else None)
        return named

    @property
    def runner(self) -> str:
        """Which test runs it: a platform, RENDERING or DEDICATED_TEST. Raises ValueError that names what is missing."""
        platform = self.platform
        if platform is not None and platform not in PLATFORMS:
            raise ValueError(f"{self}: platform is {platform!r}; there are tests of {', '.join(PLATFORMS)}")
        if "then" in self.case:
            if self.case.get("name") not in cases_named_by_tests():
                raise ValueError(f"{self}: no test is marked @pytest.mark.case({self.case.get('name')!r})")
            return DEDICATED_TEST
        if platform is not None and _INPUT_KEYS & self.case.keys():
            return platform
        if platform is None and "forms" in self.case:
            return RENDERING
        raise ValueError(f"{self}: no test runs it; it needs `platform` and `input`, or `forms`, or `then`")

    def is_run_by(self, runner: str) -> bool:
        """Whether this test runs it. A case that no test runs is reported by tests/test_cases.py."""
        try:
            return self.runner == runner
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.file}.json: {self.case.get('name')}"


@cache
def cases_named_by_tests() -> Mapping[str, str]:
    """The cases that tests name by `pytest.mark.case`, with the test. Of two tests of one case, the last."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    return {name: path.name for path in files for name in mark_texts(path, "case")}


def load_cases(folder: Path = FOLDER) -> list[LocatedCase]:
    """All cases of all files."""
    files = sorted(folder.glob("*.json"))
    return [
        LocatedCase(file=file.stem, case=case)
        for file in files
        for case in json.loads(file.read_text(encoding="utf-8"))
    ]


def cases_for(runner: str, folder: Path = FOLDER) -> list[Case]:
    """The cases of all files that this test runs."""
    return [one.case for one in load_cases(folder) if one.is_run_by(runner)]


def case_id_of(case: Case) -> str:
    """The name, as a test's id."""
    return str(case["name"]).replace(" ", "-")
