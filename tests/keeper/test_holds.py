"""When a model that cannot be asked is asked again, and what the people hear of it, without files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nanohost.keeper.holds import (
    LONGEST_HOLD,
    LONGEST_PAUSE_S,
    SAME_TROUBLE,
    ended,
    explained,
    failures_after,
    given_up,
    one_more,
    to_tell,
    too_long,
)
from nanohost.store.turn_failures import TurnFailures
from nanohost.testing.manual_clock import START as NOW
from nanohost_protocol.rows import Ack, AckStatus, ChatId, ErrorClass, InKind, MessageIn, Origin, TurnError
from tests.support.rows import pending_message

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
    return pending_message(NOW, seq=seq, id=f"m{seq}", origin=origin)


def repeated(error: TurnError, times: int) -> list[TurnFailures]:
    """How the session stands after each try, the next made as soon as the pause is over."""
    found: list[TurnFailures] = []
    now = NOW
    for _ in range(times):
        found.append(one_more(found[-1] if found else None, error, now))
        now = found[-1].until or now
    return found


@pytest.mark.behaviour("RU-04")
def test_the_provider_s_time_is_kept_and_without_one_pauses_grow() -> None:
    assert one_more(None, until(NOW + timedelta(minutes=7)), NOW).until == NOW + timedelta(minutes=7)
    for error, first in ((LIMITED, 60), (OVERLOADED, 5)):
        tries = repeated(error, 12)
        pauses = [(one.until - one.latest_at).total_seconds() for one in tries if one.until]
        assert pauses[0] == first
        assert pauses == sorted(pauses)
        assert pauses[-1] == LONGEST_PAUSE_S


@pytest.mark.behaviour("RU-04")
def test_a_provider_that_always_says_now_does_not_make_the_host_ask_all_the_time() -> None:
    known = None
    for _ in range(10):
        known = one_more(known, until(NOW), NOW)
    assert known is not None
    assert known.until is not None
    assert known.until - NOW > timedelta(minutes=5)


@pytest.mark.behaviour("RU-04")
def test_a_pause_is_not_waited_for_longer_than_six_hours() -> None:
    far = one_more(None, until(NOW + timedelta(hours=9)), NOW)
    assert too_long(far)
    assert "about 9 hours" in given_up(far, NOW)
    tries = repeated(LIMITED, 60)
    last = next(one for one in tries if too_long(one))
    assert last.latest_at - last.since <= LONGEST_HOLD
    assert "stopped" in given_up(last, last.latest_at)
    again = one_more(ended(last), LIMITED, last.latest_at)
    assert (again.count, again.since, too_long(again)) == (1, last.latest_at, False)


@pytest.mark.behaviour("RU-04")
def test_a_container_that_names_the_last_moment_of_all_is_not_waited_for() -> None:
    never = until(datetime.max.replace(tzinfo=UTC))
    failures = failures_after(None, [ack("t1", 1, never), ack("t2", 2, never)], NOW)
    assert failures is not None
    assert too_long(failures)
    assert "please ask me again then" in given_up(failures, NOW)


@pytest.mark.behaviour("RU-04")
def test_the_messages_of_one_turn_are_one_failure_and_a_completed_turn_ends_them_all() -> None:
    failed = failures_after(None, [ack("t1", 1, LIMITED), ack("t1", 2, LIMITED)], NOW)
    assert failed is not None
    assert failed.count == 1
    assert failures_after(failed, [ack("t1", 3, OVERLOADED), ack("t2", 4, None)], NOW) is None
    after = failures_after(failed, [ack("t2", 3, None), ack("t1", 4, LIMITED)], NOW)
    assert after is not None
    assert after.count == 1


@pytest.mark.behaviour("RU-04")
def test_each_chat_hears_once_why_it_waits_and_a_hiccup_is_not_worth_a_word() -> None:
    waiting = [message(2, "a"), message(4, "a"), message(6, "b"), message(8, None)]
    first, second = repeated(OVERLOADED, 2)
    assert to_tell(first, waiting) == []
    assert [one.seq for one in to_tell(second, waiting)] == [4, 6]
    limited = one_more(None, LIMITED, NOW)
    assert [one.seq for one in to_tell(limited, waiting)] == [4, 6]
    told = TurnFailures(
        error_class=limited.error_class,
        sentence=limited.sentence,
        since=NOW,
        latest_at=NOW,
        count=1,
        until=limited.until,
        told=frozenset({ChatId("fake", "default", "a")}),
    )
    assert [one.seq for one in to_tell(told, waiting)] == [6]
    assert [one.seq for one in to_tell(one_more(told, LIMITED, NOW), waiting)] == [6]
    assert explained(limited, NOW) == "I am limited. I keep your message and try again in about 1 minute."


def test_other_failures_hold_up_nothing() -> None:
    failed = one_more(None, TRANSIENT, NOW)
    assert failed.until is None
    assert not failed.holds(NOW)
    known = replace(one_more(None, LIMITED, NOW), told=frozenset({ChatId("fake", "default", "a")}))
    assert one_more(known, TRANSIENT, NOW).told == frozenset()


@pytest.mark.behaviour("RU-04")
def test_each_turn_that_fails_counts_and_half_an_hour_after_the_pause_it_is_another_trouble() -> None:
    twice = failures_after(None, [ack("t1", 1, OVERLOADED), ack("t2", 2, OVERLOADED)], NOW)
    assert twice is not None
    assert twice.count == 2
    known = one_more(None, until(NOW + timedelta(minutes=7)), NOW)
    assert known.until is not None
    still, later = known.until + SAME_TROUBLE, known.until + SAME_TROUBLE + timedelta(seconds=1)
    assert [one_more(known, LIMITED, moment).count for moment in (still, later)] == [2, 1]


@pytest.mark.behaviour("RU-04")
def test_pauses_double_and_a_provider_that_says_now_is_given_half_of_one() -> None:
    pauses = [(one.until - one.latest_at).total_seconds() for one in repeated(OVERLOADED, 9) if one.until]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 900]
    first = one_more(None, until(NOW), NOW)
    assert [first.until, one_more(first, until(NOW), NOW).until] == [NOW, NOW + timedelta(seconds=5)]


@pytest.mark.behaviour("RU-04")
def test_exactly_six_hours_are_waited_for() -> None:
    known = one_more(None, until(NOW + LONGEST_HOLD), NOW)
    assert not too_long(known)
    assert given_up(known, NOW).endswith("I tried for about 1 minute and stopped. Please ask me again later.")
    over = ended(replace(known, told=frozenset({ChatId("fake", "default", "a")})))
    assert (over.until, over.told, over.count) == (None, frozenset(), 0)


@pytest.mark.behaviour("RU-04")
def test_who_only_rides_along_and_what_is_for_the_runner_is_told_nothing() -> None:
    limited = one_more(None, LIMITED, NOW)
    aside = replace(message(2, "a"), trigger=False)
    order = replace(message(4, "b"), kind=InKind.CONTROL)
    assert to_tell(limited, [aside, order]) == []


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(90, "90 minutes"), (99, "99 minutes"), (100, "2 hours"), (47 * 60, "47 hours"), (48 * 60, "2 days")],
)
def test_a_pause_is_told_in_minutes_hours_or_days(minutes: int, words: str) -> None:
    known = one_more(None, until(NOW + timedelta(minutes=minutes)), NOW)
    assert explained(known, NOW) == f"I am limited. I keep your message and try again in about {words}."
