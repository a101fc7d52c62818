"""How long a session's file is left alone, and when its container is stopped: pure functions."""

from __future__ import annotations

import pytest

from nanohost.mailbox.backoff import (
    CPU_REPAY_FACTOR,
    FAILURE_WINDOW_S,
    FREE_CPU_S,
    MAX_BACKOFF_S,
    MAX_HUNG_READS,
    MAX_LOCKED_S,
    MAX_REFUSED_READS,
    MIN_REFUSED_S,
    MailboxBackoff,
)

FILE = "outbound.db"
MINUTE_S = 60.0


def count_reads(seconds: float, *, cpu_s: float) -> int:
    """How many reads of that cost a session gets that always has changes."""
    patience, now, looks = MailboxBackoff(), 0.0, 0
    while now < seconds:
        patience = patience.after_success(now, cpu_s=cpu_s)
        looks += 1
        now = max(now + cpu_s, patience.not_before)
    return looks


@pytest.mark.parametrize("cpu_s", [0.001, 0.015, 0.2])
def test_a_session_never_exceeds_its_share_of_cpu_whatever_one_read_costs(cpu_s: float) -> None:
    assert count_reads(MINUTE_S, cpu_s=cpu_s) * cpu_s <= FREE_CPU_S + MINUTE_S / CPU_REPAY_FACTOR + 2 * cpu_s


def test_ordinary_reads_are_not_delayed() -> None:
    patience = MailboxBackoff()
    for number in range(200):
        patience = patience.after_success(number * 0.05, cpu_s=0.0005)
        assert patience.not_before <= number * 0.05


def test_a_file_that_stays_locked_is_tried_ever_less_often_and_then_reported() -> None:
    patience, now, tries = MailboxBackoff(), 0.0, 0
    while not (why := patience.stop_reason(FILE, now)):
        patience, tries = patience.after_lock(now), tries + 1
        now = patience.not_before
    assert "has been locked for" in why
    assert now <= MAX_LOCKED_S + MAX_BACKOFF_S
    assert tries < 12


def test_a_file_repaired_by_a_starting_runner_stops_no_session() -> None:
    patience, now = MailboxBackoff(), 0.0
    while now < MIN_REFUSED_S / 2:
        patience = patience.after_refusal(now, cpu_s=0)
        now = patience.not_before
    assert patience.refused_count >= MAX_REFUSED_READS
    assert patience.stop_reason(FILE, now, problem="is not a plain file") == ""


def test_a_file_refused_for_long_is_reported_even_if_other_queries_succeed() -> None:
    patience, now = MailboxBackoff(), 0.0
    while now < MIN_REFUSED_S + MAX_BACKOFF_S:
        patience = patience.after_refusal(now, cpu_s=0).after_success(now, cpu_s=0)
        now += 1
    assert patience.stop_reason(FILE, now, problem="is too large") == "its outbound.db cannot be read: is too large"


def test_hung_reads_stop_the_session_unless_they_are_far_apart() -> None:
    patience = MailboxBackoff()
    for number in range(MAX_HUNG_READS):
        patience = patience.after_hang(number * FAILURE_WINDOW_S)
    now = (MAX_HUNG_READS - 1) * FAILURE_WINDOW_S + 1
    assert patience.stop_reason(FILE, now) == ""
    assert "do not return" in patience.after_hang(now).stop_reason(FILE, now)


def test_a_backoff_is_idle_once_its_history_no_longer_matters() -> None:
    assert MailboxBackoff().is_idle(0.0)
    looked = MailboxBackoff().after_success(10.0, cpu_s=0.001)
    assert not looked.is_idle(10.0)
    assert looked.is_idle(10.0 + 1.1 * CPU_REPAY_FACTOR * 0.001)
    locked = MailboxBackoff().after_lock(10.0)
    assert not locked.is_idle(10.0 + MINUTE_S)
    assert locked.after_success(20.0, cpu_s=0.0).is_idle(20.0)
    for met in (
        MailboxBackoff().after_hang(10.0),
        MailboxBackoff().after_refusal(10.0, cpu_s=0.0).after_success(11.0, cpu_s=0.0),
    ):
        assert not met.is_idle(10.0 + FAILURE_WINDOW_S / 2)
        assert met.is_idle(10.0 + FAILURE_WINDOW_S)
