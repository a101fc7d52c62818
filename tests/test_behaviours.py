"""The list of behaviours and the tests that prove them name the same ids."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.marks import mark_texts

ROOT = Path(__file__).parent.parent
LISTED = re.compile(r"^\* ([A-Z]{2}-\d{2}) ", re.MULTILINE)


def test_every_behaviour_is_named_by_a_test() -> None:
    listed = set(LISTED.findall((ROOT / "docs" / "behaviours.md").read_text(encoding="utf-8")))
    named = {id for path in (ROOT / "tests").rglob("*.py") for id in mark_texts(path, "behaviour")}
    assert listed
    assert listed - named == set()
