"""Decides what happens to a message when its turn has ended. Pure. `ack.tries` is the number of earlier failed attempts
that count.

A completed turn closes the message. After a failure the error's class decides whether it is retried or closed; the
sender is notified when it is closed. A failure because the model is unavailable (see model_backoff.py) does not count.
A claim whose container died is a failure without a class: it says nothing about the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.containers.model_backoff import MODEL_UNAVAILABLE, add_failure, exceeds_max_backoff, failed_notice
from nanohost.db.turn_failures import TurnFailures
from nanohost.text.translation import gettext_noop, lazy, lazy_gettext
from nanohost_protocol.rows import Ack, AckStatus, ErrorClass, TurnError

MAX_ATTEMPTS = 5
INITIAL_BACKOFF_S = 5.0
NON_RETRYABLE = {ErrorClass.PERMANENT, ErrorClass.BUDGET, ErrorClass.AUTH}
"""A retry would fail the same way: somebody has to change something first."""
RETRYABLE = {ErrorClass.TRANSIENT, ErrorClass.INVALID_SESSION}
UNKNOWN_ERROR_NOTICE = gettext_noop("Something went wrong while I was working on this, and I cannot say what.")
"""For a runner that sends no sentence with its error: the person must get an answer anyway."""
REPEATED_CRASH_NOTICE = gettext_noop(
    "I was interrupted again and again while working on this, and stopped trying. Please ask me again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseMessage:
    """Close the message. `notice`: a sentence for the person if it failed."""

    status: str
    notice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryMessage:
    """Retry at `retry_at`. `notice`: a sentence for the person if something changes for them."""

    retry_at: datetime
    notice: str | None = None
    is_counted: bool = True
    """Whether the attempt counts towards MAX_ATTEMPTS. False if it failed through no fault of the message."""


RetryDecision = CloseMessage | RetryMessage


def decide(ack: Ack, now: datetime, *, was_stopped: bool, failures: TurnFailures | None = None) -> RetryDecision | None:
    """Decide about a message by its ack. Returns None while the turn runs. `was_stopped`: the host stopped the
    container, so the next attempt need not wait. `failures`: the session's failures after this ack."""
    match ack.status:
        case AckStatus.COMPLETED:
            return CloseMessage(status="completed")
        case AckStatus.FAILED:
            return _decide_failed(ack, now, failures)
        case AckStatus.ABANDONED:
            return decide_lost_claim(ack, now, was_stopped=was_stopped)
        case AckStatus.PROCESSING:
            return None


def decide_lost_claim(ack: Ack, now: datetime, *, was_stopped: bool) -> RetryDecision:
    """Decide about a message whose container is gone without an end of its turn."""
    if was_stopped:
        return RetryMessage(retry_at=now, is_counted=False)
    if ack.tries + 1 >= MAX_ATTEMPTS:
        return CloseMessage(status="failed", notice=lazy_gettext(REPEATED_CRASH_NOTICE))
    return RetryMessage(retry_at=now + backoff(ack.tries))


def backoff(attempts: int) -> timedelta:
    """Returns the pause after so many earlier attempts n: 5 · 2ⁿ seconds."""
    return timedelta(seconds=INITIAL_BACKOFF_S * 2**attempts)


def _decide_failed(ack: Ack, now: datetime, failures: TurnFailures | None) -> RetryDecision:
    error = ack.error or TurnError(error_class=ErrorClass.TRANSIENT, sentence=REPEATED_CRASH_NOTICE)
    if error.error_class in MODEL_UNAVAILABLE:
        return _decide_model_unavailable(failures or add_failure(None, error, now), now)
    if error.error_class in NON_RETRYABLE or ack.tries + 1 >= MAX_ATTEMPTS:
        return _close_failed(error)
    if error.error_class is ErrorClass.CONTEXT_FULL:
        # The runner has dropped the conversation; a new one has room. Retry only once.
        return RetryMessage(retry_at=now, notice=lazy(error.sentence)) if ack.tries == 0 else _close_failed(error)
    return RetryMessage(retry_at=now + backoff(ack.tries))


def _decide_model_unavailable(failures: TurnFailures, now: datetime) -> RetryDecision:
    if failures.held_until is None:
        return RetryMessage(retry_at=now, is_counted=False)  # a later turn of the session succeeded
    if exceeds_max_backoff(failures):
        return CloseMessage(status="failed", notice=failed_notice(failures, now))
    return RetryMessage(retry_at=failures.held_until, is_counted=False)


def _close_failed(error: TurnError) -> CloseMessage:
    problem = error.sentence.strip() or UNKNOWN_ERROR_NOTICE
    notice = lazy(problem)
    if error.error_class in RETRYABLE and problem != REPEATED_CRASH_NOTICE:
        notice = lazy_gettext(
            "{problem} I tried {count} times and stopped; please ask me again.", problem=notice, count=MAX_ATTEMPTS
        )
    return CloseMessage(status="failed", notice=notice)
