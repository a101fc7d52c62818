"""When an unavailable model is asked again, and which notices people get, without files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nanohost.containers.model_backoff import (
    MAX_BACKOFF_S,
    MAX_TOTAL_BACKOFF,
    SAME_INCIDENT_WINDOW,
    add_failure,
    backoff_notice,
    exceeds_max_backoff,
    failed_notice,
    messages_to_notify,
    reset_failures,
    update_failures,
)
from nanohost.db.turn_failures import TurnFailures
from nanohost.testing.manual_clock import START as NOW
from nanohost_protocol.rows import Ack, AckStatus, ChatId, ErrorClass, InKind, MessageIn, Origin, TurnError
from tests.support.rows import make_pending_message

LIMITED = TurnError(error_class=ErrorClass.RATE_LIMITED, sentence="I am limited.")
OVERLOADED = TurnError(error_class=ErrorClass.OVERLOADED, sentence="It is overloaded.")
TRANSIENT = TurnError(error_class=ErrorClass.TRANSIENT, sentence="Something broke.")


def until(moment: datetime) -> TurnError:
    return TurnError(error_class=ErrorClass.RATE_LIMITED, sentence="I am limited.", retry_at=moment)


def ack(turn: str, change: int, error: TurnError | None) -> Ack:
    return Ack(
        message_id=f"m{change}",
        change=change,
        status=AckStatus.FAILED if error else AckStatus.COMPLETED,
        container_id="l",
        turn_id=turn,
        tries=0,
        changed_at=NOW,
        error=error,
    )


def message(seq: int, chat: str | None) -> MessageIn:
    origin = None if chat is None else Origin(channel_type="fake", instance="default", platform_id=chat)
    return make_pending_message(NOW, seq=seq, id=f"m{seq}", origin=origin)


def repeated(error: TurnError, times: int) -> list[TurnFailures]:
    """The failures of the session after each attempt, each made as soon as the pause is over."""
    found: list[TurnFailures] = []
    now = NOW
    for _ in range(times):
        found.append(add_failure(found[-1] if found else None, error, now))
        now = found[-1].held_until or now
    return found


@pytest.mark.behaviour("RU-04")
def test_the_providers_retry_time_is_used_and_without_one_pauses_grow() -> None:
    assert add_failure(None, until(NOW + timedelta(minutes=7)), NOW).held_until == NOW + timedelta(minutes=7)
    for error, first in ((LIMITED, 60), (OVERLOADED, 5)):
        tries = repeated(error, 12)
        pauses = [(one.held_until - one.latest_at).total_seconds() for one in tries if one.held_until]
        assert pauses[0] == first
        assert pauses == sorted(pauses)
        assert pauses[-1] == MAX_BACKOFF_S


@pytest.mark.behaviour("RU-04")
def test_a_provider_that_always_allows_an_immediate_retry_is_still_asked_ever_less_often() -> None:
    known = None
    for _ in range(10):
        known = add_failure(known, until(NOW), NOW)
    assert known is not None
    assert known.held_until is not None
    assert known.held_until - NOW > timedelta(minutes=5)


@pytest.mark.behaviour("RU-04")
def test_a_pause_longer_than_six_hours_is_not_waited_for() -> None:
    far = add_failure(None, until(NOW + timedelta(hours=9)), NOW)
    assert exceeds_max_backoff(far)
    assert "about 9 hours" in failed_notice(far, NOW)
    tries = repeated(LIMITED, 60)
    last = next(one for one in tries if exceeds_max_backoff(one))
    assert last.latest_at - last.since <= MAX_TOTAL_BACKOFF
    assert "stopped" in failed_notice(last, last.latest_at)
    again = add_failure(reset_failures(last), LIMITED, last.latest_at)
    assert (again.count, again.since, exceeds_max_backoff(again)) == (1, last.latest_at, False)


@pytest.mark.behaviour("RU-04")
def test_a_retry_time_at_the_end_of_time_is_not_waited_for() -> None:
    never = until(datetime.max.replace(tzinfo=UTC))
    failures = update_failures(None, [ack("t1", 1, never), ack("t2", 2, never)], NOW)
    assert failures is not None
    assert exceeds_max_backoff(failures)
    assert "please ask me again then" in failed_notice(failures, NOW)


@pytest.mark.behaviour("RU-04")
def test_messages_of_one_turn_are_one_failure_and_a_completed_turn_resets_the_count() -> None:
    failed = update_failures(None, [ack("t1", 1, LIMITED), ack("t1", 2, LIMITED)], NOW)
    assert failed is not None
    assert failed.count == 1
    assert update_failures(failed, [ack("t1", 3, OVERLOADED), ack("t2", 4, None)], NOW) is None
    after = update_failures(failed, [ack("t2", 3, None), ack("t1", 4, LIMITED)], NOW)
    assert after is not None
    assert after.count == 1


@pytest.mark.behaviour("RU-04")
def test_each_chat_is_notified_once_of_a_pause_and_not_of_a_single_short_failure() -> None:
    waiting = [message(2, "a"), message(4, "a"), message(6, "b"), message(8, None)]
    first, second = repeated(OVERLOADED, 2)
    assert messages_to_notify(first, waiting) == []
    assert [one.seq for one in messages_to_notify(second, waiting)] == [4, 6]
    limited = add_failure(None, LIMITED, NOW)
    assert [one.seq for one in messages_to_notify(limited, waiting)] == [4, 6]
    told = TurnFailures(
        error_class=limited.error_class,
        sentence=limited.sentence,
        since=NOW,
        latest_at=NOW,
        count=1,
        held_until=limited.held_until,
        notified_chats=frozenset({ChatId("fake", "default", "a")}),
    )
    assert [one.seq for one in messages_to_notify(told, waiting)] == [6]
    assert [one.seq for one in messages_to_notify(add_failure(told, LIMITED, NOW), waiting)] == [6]
    assert backoff_notice(limited, NOW) == "I am limited. I keep your message and try again in about 1 minute."


def test_other_errors_cause_no_backoff() -> None:
    failed = add_failure(None, TRANSIENT, NOW)
    assert failed.held_until is None
    assert not failed.is_holding(NOW)
    known = replace(add_failure(None, LIMITED, NOW), notified_chats=frozenset({ChatId("fake", "default", "a")}))
    assert add_failure(known, TRANSIENT, NOW).notified_chats == frozenset()


@pytest.mark.behaviour("RU-04")
def test_every_failed_turn_counts_and_half_an_hour_after_the_pause_a_new_incident_begins() -> None:
    twice = update_failures(None, [ack("t1", 1, OVERLOADED), ack("t2", 2, OVERLOADED)], NOW)
    assert twice is not None
    assert twice.count == 2
    known = add_failure(None, until(NOW + timedelta(minutes=7)), NOW)
    assert known.held_until is not None
    still, later = (
        known.held_until + SAME_INCIDENT_WINDOW,
        known.held_until + SAME_INCIDENT_WINDOW + timedelta(seconds=1),
    )
    assert [add_failure(known, LIMITED, moment).count for moment in (still, later)] == [2, 1]


@pytest.mark.behaviour("RU-04")
def test_pauses_double_and_a_request_for_an_immediate_retry_halves_them() -> None:
    pauses = [(one.held_until - one.latest_at).total_seconds() for one in repeated(OVERLOADED, 9) if one.held_until]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 900]
    first = add_failure(None, until(NOW), NOW)
    assert [first.held_until, add_failure(first, until(NOW), NOW).held_until] == [NOW, NOW + timedelta(seconds=5)]


@pytest.mark.behaviour("RU-04")
def test_a_pause_of_exactly_six_hours_is_waited_for() -> None:
    known = add_failure(None, until(NOW + MAX_TOTAL_BACKOFF), NOW)
    assert not exceeds_max_backoff(known)
    assert failed_notice(known, NOW).endswith("I tried for about 1 minute and stopped. Please ask me again later.")
    over = reset_failures(replace(known, notified_chats=frozenset({ChatId("fake", "default", "a")})))
    assert (over.held_until, over.notified_chats, over.count) == (None, frozenset(), 0)


@pytest.mark.behaviour("RU-04")
def test_context_and_control_messages_cause_no_notice() -> None:
    limited = add_failure(None, LIMITED, NOW)
    aside = replace(message(2, "a"), trigger=False)
    order = replace(message(4, "b"), kind=InKind.CONTROL)
    assert messages_to_notify(limited, [aside, order]) == []


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(90, "90 minutes"), (99, "99 minutes"), (100, "2 hours"), (47 * 60, "47 hours"), (48 * 60, "2 days")],
)
def test_a_pause_is_described_in_minutes_hours_or_days(minutes: int, words: str) -> None:
    known = add_failure(None, until(NOW + timedelta(minutes=minutes)), NOW)
    assert backoff_notice(known, NOW) == f"I am limited. I keep your message and try again in about {words}."
