"""What becomes of a message after an attempt. Pure: how the channel answered in, the ledger's next state out."""

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
from nanohost.store.deliveries import CHAT_CLOSED, FAILING, DeliveryStatus, Outcome

PAUSES_S = (5.0, 15.0, 60.0, 120.0, 280.0)
"""Between six tries, eight minutes in all."""
SERVER_ERROR_PAUSES_S = (5.0, 15.0, *(30.0,) * 15)
"""The same eight minutes where the platform calls the failure its own and takes others: it is asked more often, so that
a short burst of failures holds a chat for half a minute at most."""
DOWN_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""A channel that is down is asked again for as long as it takes; the last pause repeats."""
AUTH_PAUSE_S = 60.0
RATE_LIMIT_PAUSES_S = (0.5, 86_400.0)
"""The least and the most that a platform's own word is taken for. Such attempts do not count, so there is no end to
them: without a pause they would be a storm."""


def sent(receipt: Receipt) -> Outcome:
    """The platform has it."""
    return Outcome(status=DeliveryStatus.SENT, outcome="sent", receipt=receipt.platform_message_ids)


def left_off(error: Refused) -> Outcome:
    """It is refused, and nothing that a person waits for is missing without it."""
    return Outcome(
        status=DeliveryStatus.DROPPED,
        outcome=error.reason,
        reason=f"{error.reason}: {error}",
        platform_refused=_is_platforms_refusal(error),
    )


def failed(
    error: ChannelError,
    *,
    attempts: int,
    tries: int,
    now: datetime,
    hold_ambiguous: bool = False,
    platform_failures: int = 0,
) -> Outcome:
    """`attempts`: how often the channel was asked, this time included; `tries`: how many of them count.

    `hold_ambiguous`: what may have been sent is not sent again before somebody says so. `platform_failures`: how often
    in a row the platform failed by itself, while nothing else went through; 0: it did not.
    """
    match error:
        case RateLimited():
            least, most = RATE_LIMIT_PAUSES_S
            return _wait(error, now, min(max(least, error.retry_after_s), most))  # NaN loses
        case ChannelDown():
            return _wait(error, now, DOWN_PAUSES_S[min(attempts, len(DOWN_PAUSES_S)) - 1])
        case AuthFailed():
            return _wait(error, now, AUTH_PAUSE_S)
        case Refused(chat_closed=True):
            return _dead(error, word=CHAT_CLOSED)
        case Refused():
            return _dead(error)
        case Ambiguous() if hold_ambiguous:
            return unknown(error)
        case NotSent() | Ambiguous():
            return _again(error, tries=tries, now=now, platform_failures=platform_failures)
        case _:
            return _dead(error)


def _again(error: NotSent | Ambiguous, *, tries: int, now: datetime, platform_failures: int) -> Outcome:
    """It is tried again as often as is worth it: elsewhere at once, for as long as the platform itself fails, or with
    growing pauses."""
    pauses_s = SERVER_ERROR_PAUSES_S if error.server_error else PAUSES_S
    is_last = tries > len(pauses_s)
    match error:
        case ChatMoved() if not is_last:
            return replace(_wait(error, now, 0.0), moved_to=error.to)
        case ThreadGone() if not is_last:
            return replace(_wait(error, now, 0.0), thread_gone=True)
    if platform_failures:
        word = FAILING if isinstance(error, Ambiguous) else ChannelDown.reason
        return _wait(error, now, DOWN_PAUSES_S[min(platform_failures, len(DOWN_PAUSES_S)) - 1], word=word)
    return _dead(error) if is_last else _wait(error, now, pauses_s[tries - 1])


def unknown(error: Ambiguous) -> Outcome:
    """It may have been sent: held until an operator says resend or drop."""
    return Outcome(
        status=DeliveryStatus.UNKNOWN, outcome=error.reason, reason=f"{error.reason}: {error}", error=str(error)
    )


def waits_for_its_channel(reason: str | None) -> bool:
    """Whether it was not sent because nobody was there: asking too early costs nothing, waiting keeps a person
    waiting."""
    return (reason or "").startswith((f"{ChannelDown.reason}: ", f"{FAILING}: "))


def _wait(error: ChannelError, now: datetime, pause_s: float, *, word: str | None = None) -> Outcome:
    word = word or error.reason
    return Outcome(
        status=DeliveryStatus.PENDING,
        outcome=word,
        reason=f"{word}: {error}",
        error=str(error),
        next_try_at=now + timedelta(seconds=pause_s),
    )


def _dead(error: ChannelError, *, word: str | None = None) -> Outcome:
    return Outcome(
        status=DeliveryStatus.DEAD,
        outcome=error.reason,
        reason=f"{word or error.reason}: {error}",
        error=str(error),
        platform_refused=_is_platforms_refusal(error),
    )


def _is_platforms_refusal(error: ChannelError) -> bool:
    return isinstance(error, Refused) and not isinstance(error, RefusedHere)
