"""What becomes of a message when a turn over it ended. Pure: (ack, now) in, a verdict out. `ack.tries` is how often it
failed before, tries that do not count left out.

Completed closes it. A failure is tried again or given up by its class; whoever wrote is told when it is given up, and
when it will take long. A claim whose container died is a failure of class None: it says nothing about the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost_protocol.rows import Ack, AckStatus, ErrorClass, TurnError

MOST_TRIES = 5
FIRST_PAUSE_S = 5.0
RATE_LIMIT_PAUSE_S = 60.0
"""When the provider named no time."""
GIVE_UP_AT_ONCE = {ErrorClass.PERMANENT, ErrorClass.BUDGET, ErrorClass.AUTH}
"""Trying again would end the same way: somebody has to change something first."""
NO_WORDS = "Something went wrong while I was working on this, and I cannot say what."
"""A runner is to send a sentence along; one that sends none must not leave a person in silence."""
DIED = "I was interrupted again and again while working on this, and stopped trying. Please ask me again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Done. `notice` is a sentence for the person when it ended badly."""

    status: str
    notice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again at `at`. `notice` is a sentence for the person when that is far off."""

    at: datetime
    notice: str | None = None
    counts: bool = True
    """False: the try ended for nobody's fault, and is not one of the five."""


Verdict = Close | Retry


def verdict(ack: Ack, now: datetime, *, orderly: bool) -> Verdict | None:
    """None: the turn still runs. `orderly`: we ended the container ourselves, so the next try need not wait."""
    match ack.status:
        case AckStatus.COMPLETED:
            return Close(status="completed")
        case AckStatus.FAILED:
            return _failed(ack, now)
        case AckStatus.ABANDONED:
            return lost(ack, now, orderly=orderly)
        case AckStatus.PROCESSING:
            return None


def lost(ack: Ack, now: datetime, *, orderly: bool) -> Verdict:
    """The container is gone and the turn never ended."""
    if orderly:
        return Retry(at=now, counts=False)
    if ack.tries + 1 >= MOST_TRIES:
        return Close(status="failed", notice=DIED)
    return Retry(at=now + pause(ack.tries))


def pause(tries: int) -> timedelta:
    """5 · 2ⁿ seconds after n earlier tries."""
    return timedelta(seconds=FIRST_PAUSE_S * 2**tries)


def _failed(ack: Ack, now: datetime) -> Verdict:
    error = ack.error or TurnError(error_class=ErrorClass.TRANSIENT, sentence=DIED)
    if error.error_class in GIVE_UP_AT_ONCE or ack.tries + 1 >= MOST_TRIES:
        return _given_up(error)
    if error.error_class is ErrorClass.CONTEXT_FULL:
        # The runner has dropped the conversation: a new one has room, once.
        return Retry(at=now, notice=error.sentence) if ack.tries == 0 else _given_up(error)
    if error.error_class is ErrorClass.RATE_LIMITED:
        at = error.retry_at or now + timedelta(seconds=RATE_LIMIT_PAUSE_S)
        return Retry(at=max(at, now), notice=error.sentence if ack.tries == 0 else None)
    return Retry(at=now + pause(ack.tries))


def _given_up(error: TurnError) -> Close:
    return Close(status="failed", notice=error.sentence.strip() or NO_WORDS)
