"""The answer to /status, as a table: plain sentences, times in the person's zone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from nanohost.chat_commands.command import ContainerState, ContainerStatus
from nanohost.chat_commands.status import AgentActivity, StatusFacts, format_status
from nanohost.db.turn_failures import TurnFailures
from nanohost_protocol.rows import ErrorClass
from tests.support.rows import make_active_task

NOW = datetime(2026, 1, 2, 23, 30, tzinfo=UTC)
NOTHING = StatusFacts(
    container=ContainerStatus(state=ContainerState.NONE),
    activity=AgentActivity(),
    tasks=(),
    recent_failures=None,
    waiting_count=0,
    now=NOW,
    zone=ZoneInfo("Europe/Berlin"),
)
WORKING = AgentActivity(turn_started_at=NOW - timedelta(minutes=5), tool="Bash")
FAILED = TurnFailures(
    error_class=ErrorClass.AUTH, sentence="My key is missing.", since=NOW, latest_at=NOW - timedelta(hours=2), count=1
)

REMINDER = make_active_task(datetime(2026, 1, 3, 8, 0, tzinfo=UTC), content="water", timezone="Europe/Berlin")


@pytest.mark.behaviour("SE-12")
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (NOTHING, ["I am not doing anything.", "Nothing waits."]),
        (
            replace(NOTHING, tasks=[REMINDER]),
            [
                "I am not doing anything.",
                "Nothing waits.",
                "1 task is scheduled, next at 09:00 (Europe/Berlin).",
            ],
        ),
        (
            replace(
                NOTHING, container=ContainerStatus(state=ContainerState.RUNNING), activity=WORKING, waiting_count=1
            ),
            ["I have been working since 00:25, now with the tool Bash.", "1 message waits."],
        ),
        (
            replace(NOTHING, container=ContainerStatus(state=ContainerState.WAITING), waiting_count=2),
            ["I wait for a free container.", "2 messages wait."],
        ),
        (
            replace(
                NOTHING, container=ContainerStatus(state=ContainerState.NONE, failure="/home/x died"), waiting_count=1
            ),
            ["I have not begun yet.", "1 message waits.", "My last containers failed; the operator's log says why."],
        ),
        (
            replace(NOTHING, recent_failures=FAILED),
            [
                "I am not doing anything.",
                "Nothing waits.",
                "The last problem, at 2026-01-02 22:30: My key is missing.",
            ],
        ),
    ],
)
def test_status_is_formatted_as_plain_sentences(facts: StatusFacts, expected: list[str]) -> None:
    assert format_status(facts).splitlines() == expected
