"""The outcome of an attempt, as a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nanohost.channel_api import (
    Ambiguous,
    AuthFailed,
    ChannelDown,
    ChannelError,
    ChatMoved,
    NotSent,
    RateLimited,
    Receipt,
    Refused,
    RefusedHere,
    ThreadGone,
)
from nanohost.db.deliveries import AttemptOutcome, DeliveryStatus
from nanohost.delivery.outcome import (
    RETRY_DELAYS_S,
    SERVER_ERROR_RETRY_DELAYS_S,
    dropped_outcome,
    failure_outcome,
    is_waiting_for_channel,
    sent_outcome,
)
from nanohost.testing.manual_clock import START as NOW

PENDING, DEAD = DeliveryStatus.PENDING, DeliveryStatus.DEAD


@pytest.mark.behaviour("DL-03", "DL-04")
@pytest.mark.parametrize(
    ("error", "attempts", "tries", "status", "pause_s"),
    [
        (NotSent("x"), 1, 1, PENDING, 5),
        (NotSent("x"), 5, 5, PENDING, 280),
        (NotSent("x"), 6, 6, DEAD, None),
        (NotSent("x"), 40, 1, PENDING, 5),
        (NotSent("x", server_error=True), 3, 3, PENDING, 30),
        (NotSent("x", server_error=True), 17, 17, PENDING, 30),
        (NotSent("x", server_error=True), 18, 18, DEAD, None),
        (Ambiguous("x"), 2, 2, PENDING, 15),
        (Ambiguous("x"), 6, 6, DEAD, None),
        (RateLimited("x", retry_after_s=33), 1, 0, PENDING, 33),
        (RateLimited("x", retry_after_s=33), 100, 0, PENDING, 33),
        (RateLimited("x", retry_after_s=0), 9, 0, PENDING, 0.5),
        (RateLimited("x", retry_after_s=-7), 9, 0, PENDING, 0.5),
        (RateLimited("x", retry_after_s=float("nan")), 9, 0, PENDING, 0.5),
        (RateLimited("x", retry_after_s=float("inf")), 9, 0, PENDING, 86_400),
        (ChannelDown("x"), 1, 0, PENDING, 1),
        (ChannelDown("x"), 5, 0, PENDING, 30),
        (ChannelDown("x"), 1000, 0, PENDING, 30),
        (AuthFailed("x"), 1, 0, PENDING, 60),
        (ChatMoved("x", to="c9"), 1, 1, PENDING, 0),
        (ChatMoved("x", to="c9"), 6, 6, DEAD, None),
        (ThreadGone("x"), 1, 1, PENDING, 0),
        (ThreadGone("x"), 6, 6, DEAD, None),
        (Refused("x"), 1, 1, DEAD, None),
        (ChannelError("x"), 1, 1, DEAD, None),
    ],
)
def test_each_error_has_its_outcome(
    error: ChannelError, attempts: int, tries: int, status: DeliveryStatus, pause_s: float | None
) -> None:
    outcome = failure_outcome(error, attempts=attempts, counted_attempts=tries, now=NOW)
    assert outcome.status == status
    assert outcome.next_attempt_at == (None if pause_s is None else NOW + timedelta(seconds=pause_s))
    assert outcome.code == error.reason
    assert outcome.reason == f"{error.reason}: x"
    assert outcome.error == "x"


def test_a_closed_chat_is_reported_as_such() -> None:
    outcome = failure_outcome(Refused("blocked", chat_closed=True), attempts=1, counted_attempts=1, now=NOW)
    assert (outcome.status, outcome.code, outcome.reason) == (DEAD, "refused", "chat_closed: blocked")


@pytest.mark.parametrize(
    ("error", "asked"), [(Refused("x"), True), (RefusedHere("x"), False), (ChannelError("x"), False)]
)
def test_only_a_refusal_by_the_platform_shows_that_it_works(error: ChannelError, asked: bool) -> None:
    assert failure_outcome(error, attempts=1, counted_attempts=1, now=NOW).is_refused_by_platform is asked


def test_six_tries_take_eight_minutes() -> None:
    assert (len(RETRY_DELAYS_S) + 1, sum(RETRY_DELAYS_S)) == (6, 480)
    assert sum(SERVER_ERROR_RETRY_DELAYS_S) == 470, "as long, and asked more often"


def test_a_sent_delivery_keeps_its_receipt() -> None:
    outcome = sent_outcome(Receipt(platform_message_ids=("1", "2")))
    assert outcome == AttemptOutcome(status=DeliveryStatus.SENT, code="sent", receipt=("1", "2"))


def test_a_moved_chat_or_a_deleted_thread_is_reported_and_retried_at_once() -> None:
    moved = failure_outcome(ChatMoved("x", to="c9"), attempts=1, counted_attempts=1, now=NOW)
    lost = failure_outcome(ThreadGone("x"), attempts=1, counted_attempts=1, now=NOW)
    assert (moved.moved_to, moved.is_thread_gone, moved.next_attempt_at) == ("c9", False, NOW)
    assert (lost.moved_to, lost.is_thread_gone, lost.next_attempt_at) == (None, True, NOW)


@pytest.mark.parametrize(("error", "by_the_platform"), [(Refused("x"), True), (RefusedHere("x"), False)])
def test_an_optional_delivery_that_fails_is_dropped_with_the_reason(error: Refused, by_the_platform: bool) -> None:
    assert dropped_outcome(error) == AttemptOutcome(
        status=DeliveryStatus.DROPPED,
        code=error.reason,
        reason=f"{error.reason}: x",
        is_refused_by_platform=by_the_platform,
    )


@pytest.mark.behaviour("DL-04", "DL-05")
@pytest.mark.parametrize(
    ("error", "outcome"), [(NotSent("x", server_error=True), "down"), (Ambiguous("x", server_error=True), "failing")]
)
@pytest.mark.parametrize(("failures", "pause_s"), [(1, 1), (3, 5), (5, 30), (1000, 30)])
def test_a_failing_platform_counts_as_down_after_any_number_of_attempts(
    error: ChannelError, outcome: str, failures: int, pause_s: float
) -> None:
    ended = failure_outcome(error, attempts=1000, counted_attempts=6, now=NOW, platform_failures=failures)
    assert (ended.status, ended.code, ended.reason) == (PENDING, outcome, f"{outcome}: x")
    assert ended.next_attempt_at == NOW + timedelta(seconds=pause_s)
    assert is_waiting_for_channel(ended.reason)


@pytest.mark.behaviour("DL-05")
def test_an_ambiguous_send_is_held_also_during_an_outage() -> None:
    error = Ambiguous("x", server_error=True)
    ended = failure_outcome(error, attempts=1, counted_attempts=1, now=NOW, hold_ambiguous=True, platform_failures=1)
    assert ended.status is DeliveryStatus.UNKNOWN


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize("tries", [1, 6])
def test_an_ambiguous_send_is_held_where_the_operator_is_to_be_asked(tries: int) -> None:
    outcome = failure_outcome(Ambiguous("x"), attempts=tries, counted_attempts=tries, now=NOW, hold_ambiguous=True)
    assert (outcome.status, outcome.next_attempt_at) == (DeliveryStatus.UNKNOWN, None)
    assert (outcome.code, outcome.reason, outcome.error) == ("ambiguous", "ambiguous: x", "x")


@pytest.mark.behaviour("DL-05")
def test_a_send_that_certainly_failed_is_never_held() -> None:
    assert failure_outcome(NotSent("x"), attempts=1, counted_attempts=1, now=NOW, hold_ambiguous=True).status is PENDING
