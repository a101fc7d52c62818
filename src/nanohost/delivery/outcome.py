"""Decides the ledger's next state from the channel's response to an attempt. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

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
from nanohost.db.deliveries import CHAT_CLOSED, FAILING, AttemptOutcome, DeliveryStatus

RETRY_DELAYS_S = (5.0, 15.0, 60.0, 120.0, 280.0)
"""Seconds between six attempts, eight minutes in all."""
SERVER_ERROR_RETRY_DELAYS_S = (5.0, 15.0, *(30.0,) * 15)
"""The same eight minutes for server errors of a platform that accepts other messages: retried more often, so that a
short burst of failures delays a chat by half a minute at most."""
DOWN_RETRY_DELAYS_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between attempts on a channel that is down. They never end; the last pause repeats."""
AUTH_RETRY_DELAY_S = 60.0
RATE_LIMIT_DELAY_RANGE_S = (0.5, 86_400.0)
"""The minimum and maximum of a wait that a platform asks for. Such attempts are not counted and never end, so without a
minimum they would flood the platform."""


def sent_outcome(receipt: Receipt) -> AttemptOutcome:
    """Returns the outcome of a successful send."""
    return AttemptOutcome(status=DeliveryStatus.SENT, code="sent", receipt=receipt.platform_message_ids)


def dropped_outcome(error: Refused) -> AttemptOutcome:
    """Returns the outcome of a refused message that no person waits for, such as a reaction."""
    return AttemptOutcome(
        status=DeliveryStatus.DROPPED,
        code=error.reason,
        reason=f"{error.reason}: {error}",
        is_refused_by_platform=_is_platform_refusal(error),
    )


def failure_outcome(
    error: ChannelError,
    *,
    attempts: int,
    counted_attempts: int,
    now: datetime,
    hold_ambiguous: bool = False,
    platform_failures: int = 0,
) -> AttemptOutcome:
    """Returns the outcome of a failed attempt.

    `attempts`: how often the channel was called, with this time; `counted_attempts`: how many of them count.
    `hold_ambiguous`: hold a message that may have been sent until an operator decides. `platform_failures`: server
    errors of the platform in a row, while nothing else was sent; 0: the message may be the cause.
    """
    match error:
        case RateLimited():
            least, most = RATE_LIMIT_DELAY_RANGE_S
            return _pending_outcome(error, now, min(max(least, error.retry_after_s), most))  # NaN loses
        case ChannelDown():
            return _pending_outcome(error, now, DOWN_RETRY_DELAYS_S[min(attempts, len(DOWN_RETRY_DELAYS_S)) - 1])
        case AuthFailed():
            return _pending_outcome(error, now, AUTH_RETRY_DELAY_S)
        case Refused(chat_closed=True):
            return _dead_outcome(error, code=CHAT_CLOSED)
        case Refused():
            return _dead_outcome(error)
        case Ambiguous() if hold_ambiguous:
            return unknown_outcome(error)
        case NotSent() | Ambiguous():
            return _retry_outcome(
                error, counted_attempts=counted_attempts, now=now, platform_failures=platform_failures
            )
        case _:
            return _dead_outcome(error)


def _retry_outcome(
    error: NotSent | Ambiguous, *, counted_attempts: int, now: datetime, platform_failures: int
) -> AttemptOutcome:
    """Returns the outcome of an attempt that may be retried: with growing pauses, for as long as the platform is down,
    or up to the maximum of attempts."""
    pauses_s = SERVER_ERROR_RETRY_DELAYS_S if error.server_error else RETRY_DELAYS_S
    is_last = counted_attempts > len(pauses_s)
    match error:
        case ChatMoved() if not is_last:
            return replace(_pending_outcome(error, now, 0.0), moved_to=error.to)
        case ThreadGone() if not is_last:
            return replace(_pending_outcome(error, now, 0.0), is_thread_gone=True)
    if platform_failures:
        word = FAILING if isinstance(error, Ambiguous) else ChannelDown.reason
        return _pending_outcome(
            error, now, DOWN_RETRY_DELAYS_S[min(platform_failures, len(DOWN_RETRY_DELAYS_S)) - 1], code=word
        )
    return _dead_outcome(error) if is_last else _pending_outcome(error, now, pauses_s[counted_attempts - 1])


def unknown_outcome(error: Ambiguous) -> AttemptOutcome:
    """Returns the outcome `unknown`: it may have been sent, and is held until an operator resends or drops it."""
    return AttemptOutcome(
        status=DeliveryStatus.UNKNOWN, code=error.reason, reason=f"{error.reason}: {error}", error=str(error)
    )


def is_waiting_for_channel(reason: str | None) -> bool:
    """Returns whether it was not sent because its channel was not connected: an early retry costs nothing then."""
    return (reason or "").startswith((f"{ChannelDown.reason}: ", f"{FAILING}: "))


def _pending_outcome(error: ChannelError, now: datetime, delay_s: float, *, code: str | None = None) -> AttemptOutcome:
    code = code or error.reason
    return AttemptOutcome(
        status=DeliveryStatus.PENDING,
        code=code,
        reason=f"{code}: {error}",
        error=str(error),
        next_attempt_at=now + timedelta(seconds=delay_s),
    )


def _dead_outcome(error: ChannelError, *, code: str | None = None) -> AttemptOutcome:
    return AttemptOutcome(
        status=DeliveryStatus.DEAD,
        code=error.reason,
        reason=f"{code or error.reason}: {error}",
        error=str(error),
        is_refused_by_platform=_is_platform_refusal(error),
    )


def _is_platform_refusal(error: ChannelError) -> bool:
    return isinstance(error, Refused) and not isinstance(error, RefusedHere)
