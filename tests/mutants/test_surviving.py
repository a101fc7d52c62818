"""The report of surviving mutations; and the configuration of mutations names existing files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.decisions import DECISIONS
from tests.mutants.surviving import MutationChange, is_text_only, load_equivalent, parse_change

ROOT = Path(__file__).parents[2]
DIFF = """\
--- src/nanohost/work/keyed_workers.py
+++ src/nanohost/work/keyed_workers.py
@@ -1,4 +1,4 @@
 def busy(self) -> int:
     \"\"\"How many keys are being worked on.\"\"\"
-    return len(self._workers)
+    return 1 + len(self._workers)
"""


def test_every_listed_module_and_test_exists() -> None:
    named = {*DECISIONS, *(f"tests/{name}" for names in DECISIONS.values() for name in names)}
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_a_mutation_is_identified_by_its_module_and_lines() -> None:
    assert parse_change("nanohost.work.keyed_workers", DIFF) == MutationChange(
        "nanohost.work.keyed_workers", ("return len(self._workers)",), ("return 1 + len(self._workers)",)
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('return Access(allowed=False, reason="not you")', 'return Access(allowed=False, reason="XXnot youXX")', True),
        ('return Close(status="failed")', 'return Close(status="XXfailedXX")', False),
        ('reason=f"no {name}"', 'reason=f"XXno {name}XX"', True),
        ('return Access(allowed=False, reason="no")', 'return Access(allowed=True, reason="no")', False),
        ("return tries > 5", "return tries >= 5", False),
        ('Close(status="failed", notice=None)', "Close(status=None, notice=None)", False),
    ],
)
def test_only_a_change_of_string_literals_is_text_only(old: str, new: str, words: bool) -> None:
    assert is_text_only(MutationChange("m", (old,), (new,))) is words


def test_an_equivalent_mutation_is_listed_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "equal.toml"
    file.write_text('[[change]]\nmodule = "m"\nold = "a"\nnew = """\nb\nc"""\nwhy = "the same"\n')
    assert list(load_equivalent(file)) == [MutationChange("m", ("a",), ("b", "c"))]
    file.write_text('[[change]]\nmodule = "m"\nold = "a"\nnew = "b"\nwhy = ""\n')
    with pytest.raises(AssertionError):
        load_equivalent(file)


def test_each_original_line_of_a_listed_mutation_is_still_in_its_module() -> None:
    """Otherwise the list would grow and describe code that no longer exists."""
    sources = {path.replace("container/", "src/", 1): (ROOT / path).read_text(encoding="utf-8") for path in DECISIONS}
    texts = {path.removeprefix("src/").removesuffix(".py").replace("/", "."): text for path, text in sources.items()}
    for change in load_equivalent():
        assert all(line in texts[change.module] for line in change.old), change
