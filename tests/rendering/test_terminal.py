"""Markdown in a terminal: styled, wrapped at words, and without control sequences of its author."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.rendering.tables import display_width
from nanohost.rendering.terminal import MIN_COLUMNS, render_for_terminal

SGR = re.compile(r"\x1b\[\d+m")


def visible_text(markdown: str, columns: int = 40, *, colours: bool = True) -> str:
    """The visible text, without the escape codes."""
    return SGR.sub("", render_for_terminal(markdown, columns, use_colours=colours))


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("**Hello** *there*", "\x1b[1mHello\x1b[22m \x1b[3mthere\x1b[23m"),
        ("~~no~~", "\x1b[9mno\x1b[29m"),
        ("## Today", "\x1b[1mToday\x1b[22m"),
        ("say `ls -l`", "say \x1b[36mls -l\x1b[39m"),
    ],
)
def test_formatting_becomes_terminal_styles(markdown: str, shown: str) -> None:
    assert render_for_terminal(markdown, 40, use_colours=True) == shown


def test_without_colours_code_keeps_its_backticks() -> None:
    assert render_for_terminal("say `ls -l` **now**", 40, use_colours=False) == "say `ls -l` \x1b[1mnow\x1b[22m"


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("one\ntwo", ["one", "two"]),
        ("- one\n- two\n  - three", ["• one", "• two", "  • three"]),
        ("3. one\n4. two", ["3. one", "4. two"]),
        ("> quoted words", ["│ quoted words"]),
        ("```python\nif x:\n    y()\n```", ["    if x:", "        y()"]),
        ("[here](https://example.org/a)", ["here (https://example.org/a)"]),
        ("| a | b |\n|---|---|\n| 1 | 22 |", ["a  b", "─  ──", "1  22"]),
        ("a <b>bold</b> word", ["a bold word"]),
    ],
)
def test_each_kind_of_markdown_is_rendered_as_shown(markdown: str, lines: list[str]) -> None:
    assert visible_text(markdown).splitlines() == lines


def test_long_lines_are_wrapped_between_words_with_an_indent() -> None:
    text = "- the **quick brown fox** jumps over the lazy dog"
    assert visible_text(text, 20).splitlines() == ["• the quick brown", "  fox jumps over the", "  lazy dog"]


def test_wide_characters_take_two_columns() -> None:
    assert visible_text("日本 日本 日本", 10).splitlines() == ["日本 日本", "日本"]


def test_a_word_longer_than_a_line_is_not_broken() -> None:
    assert visible_text("see " + "x" * 50, 20).splitlines() == ["see", "x" * 50]


@given(st.text(), st.integers(1, 60), st.booleans())
def test_rendered_text_has_no_control_sequences_but_styles(text: str, columns: int, colours: bool) -> None:
    left = SGR.sub("", render_for_terminal(text, columns, use_colours=colours))
    assert not [one for one in left if one in "\x1b\x9b\x07\r\x08"]


@given(st.lists(st.text("abc ", min_size=1, max_size=12), min_size=1), st.integers(MIN_COLUMNS, 30))
def test_no_word_is_lost_and_no_line_is_too_long(words: list[str], columns: int) -> None:
    text = " ".join(words).lstrip()  # four spaces at the beginning are a block of code, which is not wrapped
    lines = visible_text(text, columns).splitlines()
    assert " ".join(lines).split() == text.split()
    assert all(display_width(line) <= columns or " " not in line.strip() for line in lines)
