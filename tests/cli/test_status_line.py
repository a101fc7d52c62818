"""What stands above the prompt while an agent works."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.cli.status_line import FADES_S, GIVEN_UP_S, Doing, Situation, is_busy, lasting, status_line
from nanohost.rendering.tables import width


@pytest.mark.parametrize(
    ("situation", "at", "shown"),
    [
        (Situation(), 5, ""),
        (Situation(owed=1, asked_at=100), 103, "no answer yet, 3 s"),
        (Situation(owed=1, asked_at=100), 100 + GIVEN_UP_S, ""),
        (Situation(doing=Doing(heard_at=100, for_s=7)), 101, "working, 8 s"),
        (
            Situation(doing=Doing(heard_at=100, for_s=70, tool="Bash", tool_for_s=3)),
            102,
            "working, 1 min 12 s · Bash, 5 s",
        ),
        (
            Situation(doing=Doing(heard_at=100, for_s=7, tool="ask", for_person=True)),
            100,
            "waiting for your answer, 7 s",
        ),
        (Situation(doing=Doing(heard_at=100, for_s=7)), 100 + FADES_S, ""),
        (Situation(doing=Doing(heard_at=100), owed=1, asked_at=90), 105, "no answer yet, 15 s"),
    ],
)
def test_it_says_what_is_done_and_for_how_long_and_goes_when_nothing_is(
    situation: Situation, at: float, shown: str
) -> None:
    assert status_line(situation, at, 80).partition(" ")[2] == shown
    assert is_busy(situation, at) is (shown != "")


def test_it_moves_while_something_is_done() -> None:
    situation = Situation(owed=1, asked_at=100.0)
    assert len({status_line(situation, 100.0 + 0.1 * tick, 80)[0] for tick in range(10)}) > 5


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    doing = Doing(heard_at=100, for_s=7, tool="Bash")
    line = status_line(Situation(doing=doing), 100.0, 80, is_plain=True)
    assert line.isascii()
    assert line.endswith("working, 7 s - Bash, 0 s")


@given(st.text(alphabet="aB日 -", max_size=40), st.integers(1, 30))
def test_it_is_never_wider_than_the_terminal(tool: str, columns: int) -> None:
    doing = Doing(heard_at=100, for_s=7, tool=tool)
    assert width(status_line(Situation(doing=doing), 100.0, columns)) < max(columns, 2)


@pytest.mark.parametrize(("seconds", "words"), [(-1, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min 0 s")])
def test_times_are_as_people_say_them(seconds: float, words: str) -> None:
    assert lasting(seconds) == words
