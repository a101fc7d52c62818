"""When a container is stuck, as a table, and how what was seen of it adds up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from nanohost.keeper.footprint import Grown
from nanohost.keeper.progress import LONGEST_TOOL_S, MOST_A_LOOK_S, Progress, Seen
from nanohost.keeper.stuck import Fine, Limits, Signs, Stuck, judge
from nanohost.testing.manual_clock import START
from nanohost_protocol.times import to_text

LIMITS = Limits(heartbeat_s=30, first_s=60, turn_s=1800)
WELL = Signs()
WORKS = Seen(claims=1, change=1, state={"state": "turn"})
IDLE = Seen(claims=0, change=1, state={})


@pytest.mark.behaviour("SE-06")
@pytest.mark.parametrize(
    ("signs", "reason", "says"),
    [
        (WELL, None, ""),
        (Signs(silent_s=30), None, ""),
        (Signs(silent_s=31), "heartbeat", "stopped 31 s ago"),
        (Signs(has_beaten=False, silent_s=60), None, ""),
        (Signs(has_beaten=False, silent_s=61), "start", "no sign of life"),
        (Signs(unclaimed_s=60), None, ""),
        (Signs(unclaimed_s=61), "claim", "due for 61 s"),
        (Signs(quiet_s=1800), None, ""),
        (Signs(quiet_s=1801), "turn", "in its turn for 1801 s"),
        (Signs(quiet_s=1801, tool="Bash"), "turn", "in the tool Bash"),
        (Signs(quiet_s=1801, tool="Bash", tool_timeout_s=3600), None, ""),
        (Signs(quiet_s=3601, tool="Bash", tool_timeout_s=3600), "turn", "in the tool Bash"),
        (Signs(quiet_s=1801, tool="Bash", tool_timeout_s=60), "turn", "in the tool Bash"),
        (Signs(quiet_s=9000, tool="ask", for_person=True), None, ""),
        (Signs(quiet_s=24 * 3600 + 1, tool="ask", for_person=True), "turn", "in the tool ask"),
        (Signs(quiet_s=9000, limited=True), None, ""),
        (Signs(quiet_s=6 * 3600 + 1, limited=True), "turn", "in its turn"),
        (Signs(silent_s=31, tool="Bash", tool_timeout_s=3600), "heartbeat", "heartbeat"),
        (Signs(silent_s=99, refused="it is a link"), "mailbox", "it is a link"),
        (Signs(grown=Grown(sentence="it has grown", of_group=False)), "disk", "it has grown"),
    ],
)
def test_each_sign_has_its_limit_and_its_reason(signs: Signs, reason: str | None, says: str) -> None:
    found = judge(signs, LIMITS)
    if reason is None:
        assert found == Fine()
    else:
        assert isinstance(found, Stuck)
        assert found.reason == reason
        assert says in found.sentence


def watched(*looks: tuple[float, int, Seen | None], due: bool = False, busy: bool = True, refused: str = "") -> Signs:
    """Looks at (time, heartbeat, what was seen); the container was started at 0 with heartbeat 0."""
    progress = Progress((0, 1), 0.0)
    for now, beat, seen in looks:
        progress.look((beat, 1), seen, now, due=due, busy=busy, refused=refused)
    return progress.signs(START)


@pytest.mark.behaviour("SE-06")
def test_silence_is_what_was_watched_since_the_heartbeat_changed() -> None:
    assert watched((10, 0, IDLE), (20, 0, IDLE)) == replace(WELL, has_beaten=False, silent_s=20)
    assert watched((10, 5, IDLE), (20, 5, IDLE), (30, 5, IDLE)) == replace(WELL, silent_s=20)
    assert watched((10, 5, IDLE), (20, 5, IDLE), (30, 6, IDLE)) == WELL


@pytest.mark.behaviour("SE-06")
def test_a_clock_that_goes_back_is_a_heartbeat_and_a_host_that_slept_holds_nothing_against_anybody() -> None:
    assert watched((10, 5000, IDLE), (20, 3, IDLE)) == WELL
    slept = watched((10, 5, WORKS), (9 * 3600, 5, WORKS), due=True)
    assert slept == replace(WELL, silent_s=MOST_A_LOOK_S, quiet_s=MOST_A_LOOK_S)
    assert judge(slept, LIMITS) == Fine()


@pytest.mark.behaviour("SE-06")
def test_a_turn_is_quiet_until_it_shows_something_and_who_does_not_work_is_never_quiet() -> None:
    assert watched((10, 1, WORKS), (20, 2, WORKS), (30, 3, WORKS)).quiet_s == 20
    assert watched((10, 1, WORKS), (20, 2, WORKS), (30, 3, replace(WORKS, change=2))).quiet_s == 0
    assert watched((10, 1, IDLE), (20, 2, IDLE), (30, 3, IDLE), busy=False).quiet_s == 0
    assert watched((10, 1, None), (20, 2, None)).quiet_s == 20


@pytest.mark.behaviour("SE-06")
def test_what_is_due_counts_only_while_nothing_is_claimed_and_the_file_can_be_read() -> None:
    assert watched((10, 1, IDLE), (20, 2, IDLE), due=True).unclaimed_s == 20
    assert watched((10, 1, IDLE), (20, 2, WORKS), due=True).unclaimed_s == 0
    assert watched((10, 1, IDLE), (20, 2, None), due=True).unclaimed_s == 0
    assert watched((10, 1, IDLE), (20, 2, IDLE), due=False).unclaimed_s == 0


@pytest.mark.behaviour("SE-06")
@pytest.mark.parametrize(
    ("said", "believed"),
    [("600", 600), ("", 0), ("for ever", 0), ("nan", 0), ("-5", 0), ("inf", LONGEST_TOOL_S), ("1e300", LONGEST_TOOL_S)],
)
def test_a_tool_is_believed_as_far_as_it_makes_sense(said: str, believed: float) -> None:
    state = {"tool": "Ba\x1b[2Jsh" + "x" * 100, "tool_timeout_s": said}
    signs = watched((10, 1, replace(WORKS, state=state)))
    assert signs.tool_timeout_s == believed
    assert signs.tool.startswith("Ba[2Jsh")
    assert len(signs.tool) <= 40
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
def test_a_limit_is_believed_until_a_little_after_its_time(until: str, believed: bool) -> None:
    state = {"state": "turn", "rate_limited_until": until}
    assert watched((10, 1, replace(WORKS, state=state))).limited is believed


@pytest.mark.behaviour("SE-06")
def test_a_turn_waits_for_a_person_as_long_as_its_tool_is_in_flight() -> None:
    assert watched((10, 1, replace(WORKS, state={"tool": "ask", "waiting": "person"}))).for_person
    assert not watched((10, 1, replace(WORKS, state={"waiting": "person"}))).for_person


@pytest.mark.behaviour("SE-06")
def test_a_file_is_refused_for_good_when_it_was_refused_twice_in_a_row() -> None:
    assert watched((10, 1, None), refused="a link").refused == ""
    assert watched((10, 1, None), (20, 2, None), refused="a link").refused == "a link"


@pytest.mark.behaviour("SE-06")
def test_a_container_that_beats_and_never_makes_its_outbound_claims_nothing() -> None:
    signs = watched((10, 1, None), (20, 2, None), due=True)
    assert signs.unclaimed_s == 20
