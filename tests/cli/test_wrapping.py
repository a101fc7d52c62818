"""Text wider than the terminal is wrapped between words, within its column."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.cli.time_zone_prompt import QUESTION
from nanohost.cli.wrapping import wrap_lines
from nanohost.commands.tables import Json, render_table
from tests.cli.conftest import Shell
from tests.cli.terminal import COLUMNS, run_nanohost_in_terminal

CASES = {
    "short": (["short"], 20),
    "": ([""], 20),
    "  two words and more": (["  two words", "    and more"], 12),
    "    /a/path/that/is/one/word and more": (["    /a/path/that/is/one/word", "      and more"], 14),
    "/a/path/that/is/one/word": (["/a/path/that/is/one/word"], 12),
    "a title   \N{RIGHTWARDS ARROW} what to do": (["a title   \N{RIGHTWARDS ARROW}", "  what to do"], 12),
    "\x1b[1m a drawing   of many\x1b[0m": (["\x1b[1m a drawing   of many\x1b[0m"], 12),
}


@pytest.mark.parametrize("line", CASES)
def test_a_long_line_is_wrapped_between_words_with_an_indent(line: str) -> None:
    parts, columns = CASES[line]
    assert wrap_lines([line], columns) == parts


ROWS: list[dict[str, Json]] = [{"id": "a1", "why": "because of this and of that"}, {"id": "b", "why": None}]


def test_the_last_column_of_a_table_is_wrapped_within_its_column() -> None:
    assert wrap_lines(render_table(ROWS).splitlines(), 28) == [
        "id  why",
        "a1  because of this and of",
        "    that",
        "b   -",
    ]


def test_a_table_that_is_too_wide_is_shown_row_by_row_without_empty_cells() -> None:
    wide: list[dict[str, Json]] = [
        {"id": "a1", "name of it": "x" * 20, **row} for row in ({"why": "this and that"}, {"why": None})
    ]
    assert wrap_lines(["Title", *(f"  {line}" for line in render_table(wide).splitlines()), "", "more"], 30) == [
        "Title",
        "  id          a1",
        f"  name of it  {'x' * 20}",
        "  why         this and that",
        "",
        "  id          a1",
        f"  name of it  {'x' * 20}",
        "",
        "more",
    ]
    assert wrap_lines(render_table(wide).splitlines(), 80) == render_table(wide).splitlines()


def test_aligned_log_lines_are_not_treated_as_a_table() -> None:
    lines = [f"2026-01-05 09:0{number} [info     ] message_sent          chat=c1 seq={number}" for number in (1, 2)]
    assert wrap_lines(lines, 40) == [
        "2026-01-05 09:01 [info     ]",
        "  message_sent          chat=c1 seq=1",
        "2026-01-05 09:02 [info     ]",
        "  message_sent          chat=c1 seq=2",
    ]


@pytest.mark.behaviour("OP-05")
def test_no_word_is_broken_on_a_terminal_and_piped_lines_are_not_wrapped(shell: Shell) -> None:
    assert shell.run("agents", "create", "main").code == 0
    for words in (["status"], ["agents", "get", "of-a-name-that-nobody-has-and-that-is-long"]):
        with run_nanohost_in_terminal(shell.home, *words) as shown:
            shown.ends()
            lines = shown.lines()
        typed = shell.run(*words)
        plain = (typed.out + typed.err).split()
        assert " ".join(lines).split() == plain
        assert max(len(line) for line in lines) <= COLUMNS


@pytest.mark.behaviour("OP-05")
def test_the_time_zone_question_is_wrapped_between_words(tmp_path: Path) -> None:
    with run_nanohost_in_terminal(tmp_path / "home", "chat", NANOHOST_TIMEZONE="", TZ="UTC") as chat:
        words = chat.wait_for_text("time zone [UTC]:").split()
        assert words[: len(QUESTION.split())] == QUESTION.split()
        chat.send_line("")
        chat.wait_for_text("you>")
        chat.send_line("/quit")
        assert chat.ends() == 0
