"""How long a session's file is left alone, and when its container is to be stopped: facts in, facts out."""

from __future__ import annotations

import pytest

from nanohost.mailbox.patience import (
    FREE_CPU_S,
    HUNG_LIMIT,
    LOCKED_LIMIT_S,
    LONGEST_PAUSE_S,
    REFUSED_FOR_S,
    REFUSED_LIMIT,
    REMEMBERED_S,
    SHARE,
    Patience,
)

FILE = "outbound.db"
MINUTE_S = 60.0


def looks_in(seconds: float, *, cpu_s: float) -> int:
    """How many looks of that price a session gets that always has news."""
    patience, now, looks = Patience(), 0.0, 0
    while now < seconds:
        patience = patience.answered(now, cpu_s=cpu_s)
        looks += 1
        now = max(now + cpu_s, patience.not_before)
    return looks


@pytest.mark.parametrize("cpu_s", [0.001, 0.015, 0.2])
def test_no_session_takes_more_than_its_share_whatever_a_single_look_costs(cpu_s: float) -> None:
    assert looks_in(MINUTE_S, cpu_s=cpu_s) * cpu_s <= FREE_CPU_S + MINUTE_S / SHARE + 2 * cpu_s


def test_ordinary_looks_wait_for_nothing() -> None:
    patience = Patience()
    for number in range(200):
        patience = patience.answered(number * 0.05, cpu_s=0.0005)
        assert patience.not_before <= number * 0.05


def test_a_file_that_stays_locked_is_tried_ever_more_rarely_and_then_named() -> None:
    patience, now, tries = Patience(), 0.0, 0
    while not (why := patience.verdict(FILE, now)):
        patience, tries = patience.locked(now), tries + 1
        now = patience.not_before
    assert "has been locked for" in why
    assert now <= LOCKED_LIMIT_S + LONGEST_PAUSE_S
    assert tries < 12


def test_a_file_that_a_starting_runner_puts_right_stops_nobody() -> None:
    patience, now = Patience(), 0.0
    while now < REFUSED_FOR_S / 2:
        patience = patience.refusing(now, cpu_s=0)
        now = patience.not_before
    assert patience.refused >= REFUSED_LIMIT
    assert patience.verdict(FILE, now, problem="is not a plain file") == ""


def test_a_file_that_is_refused_for_long_is_named_though_other_questions_are_answered() -> None:
    patience, now = Patience(), 0.0
    while now < REFUSED_FOR_S + LONGEST_PAUSE_S:
        patience = patience.refusing(now, cpu_s=0).answered(now, cpu_s=0)
        now += 1
    assert patience.verdict(FILE, now, problem="is too large") == "its outbound.db cannot be read: is too large"


def test_looks_that_do_not_return_name_the_session_unless_they_lie_far_apart() -> None:
    patience = Patience()
    for number in range(HUNG_LIMIT):
        patience = patience.hanging(number * REMEMBERED_S)
    now = (HUNG_LIMIT - 1) * REMEMBERED_S + 1
    assert patience.verdict(FILE, now) == ""
    assert "do not return" in patience.hanging(now).verdict(FILE, now)


def test_it_is_at_rest_once_nothing_that_was_met_makes_a_difference() -> None:
    assert Patience().is_at_rest(0.0)
    looked = Patience().answered(10.0, cpu_s=0.001)
    assert not looked.is_at_rest(10.0)
    assert looked.is_at_rest(10.0 + 1.1 * SHARE * 0.001)
    locked = Patience().locked(10.0)
    assert not locked.is_at_rest(10.0 + MINUTE_S)
    assert locked.answered(20.0, cpu_s=0.0).is_at_rest(20.0)
    for met in (Patience().hanging(10.0), Patience().refusing(10.0, cpu_s=0.0).answered(11.0, cpu_s=0.0)):
        assert not met.is_at_rest(10.0 + REMEMBERED_S / 2)
        assert met.is_at_rest(10.0 + REMEMBERED_S)
