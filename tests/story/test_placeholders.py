"""Variable text of a story is replaced by constant text, and tables keep their columns."""

from __future__ import annotations

import pytest

from tests.story.placeholders import Placeholders

CASES = {
    "(pid 71, docker)": "(pid 4711, docker)",
    "type /approve y6eeua new or /deny y6eeua why.": "type /approve k3f7qd new or /deny k3f7qd why.",
    "May Eve talk? (y6eeua)": "May Eve talk? (k3f7qd)",
    "S5C3-9T4Y is the code": "K7QD-3MXF is the code",
    "Approved by Ada, 17:03: bob": "Approved by Ada, 09:00: bob",
    "Until: Thu 03 Dec 2026, 16:56 (Europe/Berlin)": "Until: Mon 05 Jan 2026, 09:00 (Europe/Berlin)",
    "at 2026-11-30T15:56:05+00:00, or 2026-11-30T16:56:05+02:00": (
        "at 2026-01-05T08:00:00+00:00, or 2026-01-05T09:00:00+01:00"
    ),
    "refused on 2026-11-30": "refused on 2026-01-05",
    "\N{BRAILLE PATTERN DOTS-1234} working, 4 s \N{MIDDLE DOT} Bash, 3 s": (
        "\N{BRAILLE PATTERN DOTS-1456} working, 19 s \N{MIDDLE DOT} Bash, 18 s"
    ),
    "agent groups: 1   wirings: 2": "agent groups: 1   wirings: 2",
    "id   since  why\na    5 s    x\nbbb  -      y": "id   since  why\na    5 s    x\nbbb  -      y",
    "  due        name\n  12 min ago  a": "  due     name\n  in 8 s  a",
    "1 MiB are free, it took 998 MiB": "34 MiB are free, it took 1,047 MiB",
    "a\n\u2588 \u2584\n\u2580 \u2588\nb": "a\n(a QR code of the link)\nb",
}


@pytest.mark.parametrize("text", CASES)
def test_variable_text_is_replaced_by_constant_text(text: str) -> None:
    assert Placeholders({}).apply(text) == CASES[text]


def test_equal_session_ids_get_the_same_placeholder_and_different_ones_another() -> None:
    one, two = "s" + "a" * 16, "s" + "b" * 16
    first, again, second = Placeholders({}).apply(f"{one} {one} {two}").split()
    assert first == again != second
    assert len(first) == len(one)


def test_replacements_of_the_scenario_come_first() -> None:
    assert Placeholders({"/tmp/x1/12:30": "/home/ada"}).apply("in /tmp/x1/12:30/nanohost") == "in /home/ada/nanohost"
