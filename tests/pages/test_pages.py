"""Generated documentation of content is up to date, and no kind of content is without a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.testing.content import UNSUPPORTED_CONTENT, ContentKind
from nanohost.testing.simulated_chat import simulator_names
from tests.pages import Block, all_blocks, content
from tests.support.cases import PLATFORMS, ROOT, LocatedCase, load_cases


@pytest.mark.parametrize("block", all_blocks(), ids=str)
def test_a_page_shows_the_output_of_the_tests(block: Block) -> None:
    assert block.current_text() == block.render(), "run make docs"


def test_every_supported_kind_of_a_platform_has_a_test() -> None:
    assert content.find_untested() == []


def test_an_untested_kind_is_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UNSUPPORTED_CONTENT, "terminal", {})
    assert "terminal: poll" in content.find_untested()


def test_the_table_has_every_platform_with_cases_or_a_simulator() -> None:
    assert content.COLUMNS.keys() == {*PLATFORMS, *simulator_names(), "terminal"} == UNSUPPORTED_CONTENT.keys()


@pytest.mark.parametrize("one", [one for one in load_cases() if "kind" in one.case], ids=str)
def test_a_case_is_of_a_kind_supported_by_its_platform(one: LocatedCase) -> None:
    assert one.case["kind"] in list(ContentKind)
    assert one.platform is not None
    assert one.case["kind"] not in UNSUPPORTED_CONTENT[one.platform]


def test_a_test_with_a_content_mark_is_in_a_listed_file_and_of_a_supported_kind() -> None:
    of = {path: platform for platform in content.COLUMNS for path in content.test_files(platform)}
    marked = [
        (path, test, kind) for path in (ROOT / "tests").rglob("*.py") for test, kind in content.content_marks(path)
    ]
    assert marked
    assert [f"{path.name}::{test}" for path, test, _ in marked if path not in of] == []
    assert [
        f"{path.name}::{test}: {kind}" for path, test, kind in marked if kind in UNSUPPORTED_CONTENT[of[path]]
    ] == []


def test_a_page_without_its_marks_is_an_error_that_names_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no table")
    with pytest.raises(ValueError, match=r"page.md has no <!-- fish: generated -->"):
        Block(page=page, render=str, about="fish").write()
    assert page.read_text() == "no table"


def test_text_around_a_block_is_left_unchanged(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- fish: generated -->\nold\n<!-- end -->\nafter\n<!-- end -->\n")
    Block(page=page, render=lambda: "new", about="fish").write()
    assert page.read_text() == "before\n<!-- fish: generated -->\nnew\n<!-- end -->\nafter\n<!-- end -->\n"
