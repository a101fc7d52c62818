"""The line above the prompt while an agent works."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost.cli.status_line import (
    ACTIVITY_TTL_S,
    REPLY_TIMEOUT_S,
    AgentActivity,
    PendingState,
    format_duration,
    is_busy,
    status_line,
)
from nanohost.rendering.tables import display_width


@pytest.mark.parametrize(
    ("situation", "at", "shown"),
    [
        (PendingState(), 5, ""),
        (PendingState(unanswered_count=1, sent_at=100), 103, "no answer yet, 3 s"),
        (PendingState(unanswered_count=1, sent_at=100), 100 + REPLY_TIMEOUT_S, ""),
        (PendingState(activity=AgentActivity(received_at=100, elapsed_s=7)), 101, "working, 8 s"),
        (
            PendingState(activity=AgentActivity(received_at=100, elapsed_s=70, tool="Bash", tool_elapsed_s=3)),
            102,
            "working, 1 min 12 s · Bash, 5 s",
        ),
        (
            PendingState(activity=AgentActivity(received_at=100, elapsed_s=7, tool="ask", is_waiting_for_user=True)),
            100,
            "waiting for your answer, 7 s",
        ),
        (PendingState(activity=AgentActivity(received_at=100, elapsed_s=7)), 100 + ACTIVITY_TTL_S, ""),
        (
            PendingState(activity=AgentActivity(received_at=100), unanswered_count=1, sent_at=90),
            105,
            "no answer yet, 15 s",
        ),
    ],
)
def test_the_status_line_shows_the_activity_and_its_duration_and_disappears_when_idle(
    situation: PendingState, at: float, shown: str
) -> None:
    assert status_line(situation, at, 80).partition(" ")[2] == shown
    assert is_busy(situation, at) is (shown != "")


def test_the_status_line_is_animated_during_work() -> None:
    situation = PendingState(unanswered_count=1, sent_at=100.0)
    assert len({status_line(situation, 100.0 + 0.1 * tick, 80)[0] for tick in range(10)}) > 5


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    doing = AgentActivity(received_at=100, elapsed_s=7, tool="Bash")
    line = status_line(PendingState(activity=doing), 100.0, 80, is_ascii_only=True)
    assert line.isascii()
    assert line.endswith("working, 7 s - Bash, 0 s")


@given(st.text(alphabet="aB日 -", max_size=40), st.integers(1, 30))
def test_the_status_line_is_never_wider_than_the_terminal(tool: str, columns: int) -> None:
    doing = AgentActivity(received_at=100, elapsed_s=7, tool=tool)
    assert display_width(status_line(PendingState(activity=doing), 100.0, columns)) < max(columns, 2)


@pytest.mark.parametrize(("seconds", "words"), [(-1, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min 0 s")])
def test_durations_are_formatted_for_people(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words
