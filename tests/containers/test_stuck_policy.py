"""When a container is stuck, as a table, and how observations are accumulated."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nanohost.containers.disk_usage import FolderOverLimit
from nanohost.containers.stuck_policy import (
    MAX_STEP_S,
    MAX_TOOL_S,
    HealthLimits,
    HealthSignals,
    Healthy,
    ProgressSample,
    ProgressTracker,
    Stuck,
    evaluate,
)
from nanohost.testing.manual_clock import START
from nanohost_protocol.times import to_text

LIMITS = HealthLimits(heartbeat_timeout_s=30, startup_timeout_s=60, turn_timeout_s=1800)
WELL = HealthSignals()
WORKS = ProgressSample(claims=1, fingerprint=1, state={"state": "turn"})
IDLE = ProgressSample(claims=0, fingerprint=1, state={})


@pytest.mark.behaviour("SE-06")
@pytest.mark.parametrize(
    ("signs", "reason", "says"),
    [
        (WELL, None, ""),
        (HealthSignals(heartbeat_age_s=30), None, ""),
        (HealthSignals(heartbeat_age_s=31), "heartbeat", "stopped 31 s ago"),
        (HealthSignals(has_heartbeat=False, heartbeat_age_s=60), None, ""),
        (HealthSignals(has_heartbeat=False, heartbeat_age_s=61), "start", "no sign of life"),
        (HealthSignals(unclaimed_s=60), None, ""),
        (HealthSignals(unclaimed_s=61), "claim", "due for 61 s"),
        (HealthSignals(stalled_s=1800), None, ""),
        (HealthSignals(stalled_s=1801), "turn", "in its turn for 1801 s"),
        (HealthSignals(stalled_s=1801, tool_name="Bash"), "turn", "in the tool Bash"),
        (HealthSignals(stalled_s=1801, tool_name="Bash", tool_timeout_s=3600), None, ""),
        (HealthSignals(stalled_s=3601, tool_name="Bash", tool_timeout_s=3600), "turn", "in the tool Bash"),
        (HealthSignals(stalled_s=1801, tool_name="Bash", tool_timeout_s=60), "turn", "in the tool Bash"),
        (HealthSignals(stalled_s=9000, tool_name="ask", is_waiting_for_user=True), None, ""),
        (HealthSignals(stalled_s=24 * 3600 + 1, tool_name="ask", is_waiting_for_user=True), "turn", "in the tool ask"),
        (HealthSignals(stalled_s=9000, is_rate_limited=True), None, ""),
        (HealthSignals(stalled_s=6 * 3600 + 1, is_rate_limited=True), "turn", "in its turn"),
        (HealthSignals(heartbeat_age_s=31, tool_name="Bash", tool_timeout_s=3600), "heartbeat", "heartbeat"),
        (HealthSignals(heartbeat_age_s=99, read_error="it is a link"), "mailbox", "it is a link"),
        (
            HealthSignals(oversized_folder=FolderOverLimit(detail="it has grown", is_group_wide=False)),
            "disk",
            "it has grown",
        ),
    ],
)
def test_each_health_sign_has_its_limit_and_reason(signs: HealthSignals, reason: str | None, says: str) -> None:
    found = evaluate(signs, LIMITS)
    if reason is None:
        assert found == Healthy()
    else:
        assert isinstance(found, Stuck)
        assert found.reason == reason
        assert says in found.detail


def watched(
    *looks: tuple[float, int, ProgressSample | None], due: bool = False, busy: bool = True, refused: str = ""
) -> HealthSignals:
    """The signs after observations of (time, heartbeat, progress); the container was started at 0 with heartbeat 0."""
    progress = ProgressTracker((0, 1), 0.0)
    for now, beat, seen in looks:
        progress.update((beat, 1), seen, now, is_due=due, is_busy=busy, read_error=refused)
    return progress.signals(START)


@pytest.mark.behaviour("SE-06")
def test_heartbeat_age_is_the_time_observed_since_the_heartbeat_changed() -> None:
    assert watched((10, 0, IDLE), (20, 0, IDLE)) == replace(WELL, has_heartbeat=False, heartbeat_age_s=20)
    assert watched((10, 5, IDLE), (20, 5, IDLE), (30, 5, IDLE)) == replace(WELL, heartbeat_age_s=20)
    assert watched((10, 5, IDLE), (20, 5, IDLE), (30, 6, IDLE)) == WELL


@pytest.mark.behaviour("SE-06")
def test_a_clock_set_back_counts_as_a_heartbeat_and_a_sleeping_host_blames_no_container() -> None:
    assert watched((10, 5000, IDLE), (20, 3, IDLE)) == WELL
    slept = watched((10, 5, WORKS), (9 * 3600, 5, WORKS), due=True)
    assert slept == replace(WELL, heartbeat_age_s=MAX_STEP_S, stalled_s=MAX_STEP_S)
    assert evaluate(slept, LIMITS) == Healthy()


@pytest.mark.behaviour("SE-06")
def test_a_turn_is_silent_until_it_makes_progress_and_an_idle_runner_is_never_silent() -> None:
    assert watched((10, 1, WORKS), (20, 2, WORKS), (30, 3, WORKS)).stalled_s == 20
    assert watched((10, 1, WORKS), (20, 2, WORKS), (30, 3, replace(WORKS, fingerprint=2))).stalled_s == 0
    assert watched((10, 1, IDLE), (20, 2, IDLE), (30, 3, IDLE), busy=False).stalled_s == 0
    assert watched((10, 1, None), (20, 2, None)).stalled_s == 20


@pytest.mark.behaviour("SE-06")
def test_due_messages_count_as_unclaimed_only_with_a_readable_file_and_no_claim() -> None:
    assert watched((10, 1, IDLE), (20, 2, IDLE), due=True).unclaimed_s == 20
    assert watched((10, 1, IDLE), (20, 2, WORKS), due=True).unclaimed_s == 0
    assert watched((10, 1, IDLE), (20, 2, None), due=True).unclaimed_s == 0
    assert watched((10, 1, IDLE), (20, 2, IDLE), due=False).unclaimed_s == 0


@pytest.mark.behaviour("SE-06")
@pytest.mark.parametrize(
    ("said", "believed"),
    [("600", 600), ("", 0), ("for ever", 0), ("nan", 0), ("-5", 0), ("inf", MAX_TOOL_S), ("1e300", MAX_TOOL_S)],
)
def test_a_reported_tool_is_accepted_within_plausible_limits(said: str, believed: float) -> None:
    state = {"tool": "Ba\x1b[2Jsh" + "x" * 100, "tool_timeout_s": said}
    signs = watched((10, 1, replace(WORKS, state=state)))
    assert signs.tool_timeout_s == believed
    assert signs.tool_name.startswith("Ba[2Jsh")
    assert len(signs.tool_name) <= 40
    assert watched((10, 1, replace(WORKS, state={"tool_timeout_s": said}))).tool_timeout_s == 0


@pytest.mark.behaviour("SE-06")
@pytest.mark.parametrize(
    ("until", "believed"),
    [
        (to_text(START + timedelta(hours=1)), True),
        (to_text(START - timedelta(minutes=1)), True),
        (to_text(START - timedelta(hours=1)), False),
        ("9999-12-31T23:59:59.000000Z", False),
        ("soon", False),
    ],
)
def test_a_rate_limit_is_accepted_until_shortly_after_its_time(until: str, believed: bool) -> None:
    state = {"state": "turn", "rate_limited_until": until}
    assert watched((10, 1, replace(WORKS, state=state))).is_rate_limited is believed


@pytest.mark.behaviour("SE-06")
def test_a_turn_may_wait_for_a_person_only_while_its_tool_runs() -> None:
    assert watched((10, 1, replace(WORKS, state={"tool": "ask", "waiting": "person"}))).is_waiting_for_user
    assert not watched((10, 1, replace(WORKS, state={"waiting": "person"}))).is_waiting_for_user


@pytest.mark.behaviour("SE-06")
def test_a_file_is_unreadable_once_it_was_refused_twice_in_a_row() -> None:
    assert watched((10, 1, None), refused="a link").read_error == ""
    assert watched((10, 1, None), (20, 2, None), refused="a link").read_error == "a link"


@pytest.mark.behaviour("SE-06")
def test_a_container_with_a_heartbeat_but_no_outbound_file_claims_nothing() -> None:
    signs = watched((10, 1, None), (20, 2, None), due=True)
    assert signs.unclaimed_s == 20
