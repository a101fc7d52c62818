"""The retry decision after a turn, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from nanohost.containers.model_backoff import add_failure, failed_notice
from nanohost.containers.retry_policy import (
    MAX_ATTEMPTS,
    REPEATED_CRASH_NOTICE,
    UNKNOWN_ERROR_NOTICE,
    CloseMessage,
    RetryDecision,
    RetryMessage,
    decide,
    decide_lost_claim,
)
from nanohost.db.turn_failures import TurnFailures
from nanohost.testing.manual_clock import START as NOW
from nanohost_protocol.rows import Ack, AckStatus, ErrorClass, TurnError

WORDS = "It did not work."
STOPPED = f"{WORDS} I tried 5 times and stopped; please ask me again."
LATER = NOW + timedelta(minutes=7)


def ack(status: AckStatus, error: ErrorClass | None = None, *, tries: int = 0, retry_at: datetime | None = None) -> Ack:
    return Ack(
        message_id="m",
        change=1,
        status=status,
        container_id="l",
        turn_id="t",
        tries=tries,
        changed_at=NOW,
        error=None if error is None else TurnError(error_class=error, sentence=WORDS, retry_at=retry_at),
    )


def failed(error: ErrorClass | None = None, *, tries: int = 0, retry_at: datetime | None = None) -> Ack:
    return ack(AckStatus.FAILED, error, tries=tries, retry_at=retry_at)


def after(seconds: float, notice: str | None = None) -> RetryMessage:
    return RetryMessage(retry_at=NOW + timedelta(seconds=seconds), notice=notice)


def spared(seconds: float) -> RetryMessage:
    """A later retry that counts no attempt."""
    return RetryMessage(retry_at=NOW + timedelta(seconds=seconds), is_counted=False)


@pytest.mark.behaviour("RU-03", "RU-04")
@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (ack(AckStatus.PROCESSING), None),
        (ack(AckStatus.COMPLETED), CloseMessage(status="completed")),
        (failed(ErrorClass.PERMANENT), CloseMessage(status="failed", notice=WORDS)),
        (failed(ErrorClass.AUTH), CloseMessage(status="failed", notice=WORDS)),
        (failed(ErrorClass.BUDGET), CloseMessage(status="failed", notice=WORDS)),
        (failed(ErrorClass.CONTEXT_FULL), after(0, WORDS)),
        (failed(ErrorClass.CONTEXT_FULL, tries=1), CloseMessage(status="failed", notice=WORDS)),
        (failed(ErrorClass.TRANSIENT), after(5)),
        (failed(ErrorClass.OVERLOADED), spared(5)),
        (failed(ErrorClass.OVERLOADED, tries=9), spared(5)),
        (failed(ErrorClass.INVALID_SESSION, tries=3), after(40)),
        (failed(ErrorClass.TRANSIENT, tries=4), CloseMessage(status="failed", notice=STOPPED)),
        (failed(ErrorClass.RATE_LIMITED), spared(60)),
        (failed(ErrorClass.RATE_LIMITED, retry_at=LATER), spared(7 * 60)),
        (failed(ErrorClass.RATE_LIMITED, retry_at=NOW - timedelta(hours=1)), spared(0)),
        (failed(ErrorClass.RATE_LIMITED, tries=99), spared(60)),
        (failed(), after(5)),
        (failed(tries=4), CloseMessage(status="failed", notice=REPEATED_CRASH_NOTICE)),
        (failed(ErrorClass.TRANSIENT, tries=2**62), CloseMessage(status="failed", notice=STOPPED)),
        (failed(ErrorClass.TRANSIENT, tries=-(2**62)), after(0)),
    ],
)
def test_each_ack_status_has_its_retry_decision(said: Ack, wanted: RetryDecision | None) -> None:
    assert decide(said, NOW, was_stopped=False) == wanted


@pytest.mark.behaviour("SE-07")
def test_a_crashed_container_allows_five_attempts_with_growing_pauses() -> None:
    abandoned = [decide(ack(AckStatus.ABANDONED, tries=tries), NOW, was_stopped=False) for tries in range(MAX_ATTEMPTS)]
    assert abandoned == [
        after(5),
        after(10),
        after(20),
        after(40),
        CloseMessage(status="failed", notice=REPEATED_CRASH_NOTICE),
    ]
    assert abandoned == [
        decide_lost_claim(ack(AckStatus.PROCESSING, tries=tries), NOW, was_stopped=False) for tries in range(5)
    ]


@pytest.mark.behaviour("SE-07")
@pytest.mark.parametrize("tries", [0, 4, 20])
def test_a_turn_stopped_by_the_host_is_retried_at_once(tries: int) -> None:
    assert decide(ack(AckStatus.ABANDONED, tries=tries), NOW, was_stopped=True) == RetryMessage(
        retry_at=NOW, is_counted=False
    )


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize("sentence", ["", "  \n"])
def test_a_failure_without_a_sentence_still_gets_a_notice(sentence: str) -> None:
    error = TurnError(error_class=ErrorClass.PERMANENT, sentence=sentence)
    bare = replace(failed(), error=error)
    assert decide(bare, NOW, was_stopped=False) == CloseMessage(status="failed", notice=UNKNOWN_ERROR_NOTICE)


def failures(**changes: object) -> TurnFailures:
    """The failures of a session whose model is limited for seven minutes."""
    error = TurnError(error_class=ErrorClass.RATE_LIMITED, sentence=WORDS, retry_at=LATER)
    return replace(add_failure(None, error, NOW), **changes)  # type: ignore[arg-type]


@pytest.mark.behaviour("RU-04")
def test_during_model_backoff_a_message_waits_as_long_as_its_session() -> None:
    """Its own error says less: another turn may have failed since, or succeeded."""
    limited = failed(ErrorClass.RATE_LIMITED)
    assert decide(limited, NOW, was_stopped=False, failures=failures()) == spared(7 * 60)
    assert decide(limited, NOW, was_stopped=False, failures=failures(held_until=None)) == spared(0)


@pytest.mark.behaviour("RU-04")
def test_a_message_whose_model_is_unavailable_for_too_long_fails_with_a_notice() -> None:
    away = failures(held_until=NOW + timedelta(hours=9))
    given = decide(failed(ErrorClass.OVERLOADED), NOW, was_stopped=False, failures=away)
    assert given == CloseMessage(status="failed", notice=failed_notice(away, NOW))
    never = failed(ErrorClass.RATE_LIMITED, retry_at=NOW + timedelta(hours=9))
    assert decide(never, NOW, was_stopped=False) == given, "also where nothing is known of the session"
