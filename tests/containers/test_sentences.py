"""The notices that people get when no container can answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent_runner.failures import MODEL_NOT_FOUND, SENTENCES
from nanohost.containers.notices import (
    CRASH_NOTICE,
    START_FAILURE_NOTICE,
    event_notice,
    start_failure_notice,
    with_operator_hint,
)
from nanohost.containers.overdue_monitor import PENDING_NOTICE
from nanohost.containers.retry_policy import REPEATED_CRASH_NOTICE
from nanohost.errors import HomeError, NanohostError, RuntimeUnavailable, SpawnError
from nanohost_protocol.rows import ErrorClass, Origin
from tests.support.session_values import SESSION


@pytest.mark.behaviour("SE-09")
def test_a_runtime_problem_is_reported_with_its_remedy() -> None:
    told = start_failure_notice(RuntimeUnavailable("bubblewrap is not installed.", hint="apt-get install bubblewrap"))
    assert "bubblewrap is not installed. I keep" in told
    assert "apt-get install bubblewrap" in told


@pytest.mark.parametrize(
    ("sentence", "do"),
    [
        (SENTENCES[ErrorClass.AUTH], "nanohost model set"),
        (
            MODEL_NOT_FOUND,
            "[agent] model, or nanohost agents update GROUP --model NAME where the agent has one of its own; nanohost"
            " model check tries the address",
        ),
        ("I cannot ask my model for a reason of its own. The operator can see it.", "nanohost model check"),
        (START_FAILURE_NOTICE, "nanohost status"),
        (CRASH_NOTICE, "nanohost status"),
        (PENDING_NOTICE, "nanohost status"),
    ],
)
def test_a_notice_in_the_owners_terminal_includes_the_command_to_type(sentence: str, do: str) -> None:
    assert with_operator_hint(sentence) == f"{sentence} In this terminal that is you: {do}"


@pytest.mark.parametrize(
    "sentence", [REPEATED_CRASH_NOTICE, "I cannot. (For the operator: apt-get install bubblewrap)"]
)
def test_a_sentence_with_its_own_hint_is_left_unchanged(sentence: str) -> None:
    assert with_operator_hint(sentence) == sentence


@pytest.mark.parametrize(("channel", "is_told"), [("terminal", True), ("telegram", False)])
def test_commands_are_included_only_in_notices_to_the_terminal(channel: str, is_told: bool) -> None:
    origin = Origin(channel_type=channel, instance="default", platform_id="local")
    entry = event_notice(SESSION.id, 1, origin, START_FAILURE_NOTICE, datetime(2026, 3, 1, tzinfo=UTC))
    assert ("nanohost status" in entry.content) is is_told


@pytest.mark.parametrize(
    "error",
    [
        SpawnError("No sandbox for session s1: bwrap: Can't find source path /srv/home/sessions/main/s1/in"),
        RuntimeUnavailable("/tmp/nanohost-0 is not a private folder of this user."),
        HomeError("the model socket cannot be made"),
        ValueError("a mistake of ours in /srv"),
    ],
)
def test_a_notice_never_contains_a_host_path(error: Exception) -> None:
    assert start_failure_notice(error) == START_FAILURE_NOTICE


def test_a_hint_with_a_path_stays_in_the_log() -> None:
    error: NanohostError = SpawnError("No free link", hint="rm -r /tmp/nanohost-0")
    assert "/" not in start_failure_notice(error)
