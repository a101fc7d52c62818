"""What happens to a message when a turn over it ended. Pure: (ack, now) in, a verdict out. `ack.tries` is how often it
failed before, tries that do not count left out.

Completed closes it. A failure is tried again or given up by its class; whoever wrote is told when it is given up. A
model that cannot be asked now (see holds.py) uses up no try. A claim whose container died is a failure of class None:
it says nothing about the message.
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
"""Trying again would end the same way: somebody has to change something first."""
RETRYABLE = {ErrorClass.TRANSIENT, ErrorClass.INVALID_SESSION}
UNKNOWN_ERROR_NOTICE = gettext_noop("Something went wrong while I was working on this, and I cannot say what.")
"""A runner is to send a sentence along; one that sends none must not leave a person in silence."""
REPEATED_CRASH_NOTICE = gettext_noop(
    "I was interrupted again and again while working on this, and stopped trying. Please ask me again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseMessage:
    """Done. `notice` is a sentence for the person when it ended badly."""

    status: str
    notice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryMessage:
    """Try again at `retry_at`. `notice` is a sentence for the person when something changes for them."""

    retry_at: datetime
    notice: str | None = None
    is_counted: bool = True
    """False: the try ended for nobody's fault, and is not one of the five."""


RetryDecision = CloseMessage | RetryMessage


def decide(ack: Ack, now: datetime, *, was_stopped: bool, failures: TurnFailures | None = None) -> RetryDecision | None:
    """None: the turn still runs. `was_stopped`: we ended the container ourselves, so the next try need not wait.
    `failures`: how the session stands after this ack."""
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
    """The container is gone and the turn never ended."""
    if was_stopped:
        return RetryMessage(retry_at=now, is_counted=False)
    if ack.tries + 1 >= MAX_ATTEMPTS:
        return CloseMessage(status="failed", notice=lazy_gettext(REPEATED_CRASH_NOTICE))
    return RetryMessage(retry_at=now + backoff(ack.tries))


def backoff(attempts: int) -> timedelta:
    """5 · 2ⁿ seconds after n earlier tries."""
    return timedelta(seconds=INITIAL_BACKOFF_S * 2**attempts)


def _decide_failed(ack: Ack, now: datetime, failures: TurnFailures | None) -> RetryDecision:
    error = ack.error or TurnError(error_class=ErrorClass.TRANSIENT, sentence=REPEATED_CRASH_NOTICE)
    if error.error_class in MODEL_UNAVAILABLE:
        return _decide_model_unavailable(failures or add_failure(None, error, now), now)
    if error.error_class in NON_RETRYABLE or ack.tries + 1 >= MAX_ATTEMPTS:
        return _close_failed(error)
    if error.error_class is ErrorClass.CONTEXT_FULL:
        # The runner has dropped the conversation: a new one has room, once.
        return RetryMessage(retry_at=now, notice=lazy(error.sentence)) if ack.tries == 0 else _close_failed(error)
    return RetryMessage(retry_at=now + backoff(ack.tries))


def _decide_model_unavailable(failures: TurnFailures, now: datetime) -> RetryDecision:
    if failures.until is None:
        return RetryMessage(retry_at=now, is_counted=False)  # a later turn of the session went well
    if exceeds_max_backoff(failures):
        return CloseMessage(status="failed", notice=failed_notice(failures, now))
    return RetryMessage(retry_at=failures.until, is_counted=False)


def _close_failed(error: TurnError) -> CloseMessage:
    problem = error.sentence.strip() or UNKNOWN_ERROR_NOTICE
    words = lazy(problem)
    if error.error_class in RETRYABLE and problem != REPEATED_CRASH_NOTICE:
        words = lazy_gettext(
            "{problem} I tried {count} times and stopped; please ask me again.", problem=words, count=MAX_ATTEMPTS
        )
    return CloseMessage(status="failed", notice=words)
