"""What becomes of a message when a turn over it ended. Pure: (ack, now) in, a verdict out. `ack.tries` is how often it
failed before, tries that do not count left out.

Completed closes it. A failure is tried again or given up by its class; whoever wrote is told when it is given up. A
model that cannot be asked now (see holds.py) uses up no try. A claim whose container died is a failure of class None:
it says nothing about the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.keeper.holds import AWAY, given_up, one_more, too_long
from nanohost.store.turn_failures import TurnFailures
from nanohost_protocol.rows import Ack, AckStatus, ErrorClass, TurnError

MOST_TRIES = 5
FIRST_PAUSE_S = 5.0
GIVE_UP_AT_ONCE = {ErrorClass.PERMANENT, ErrorClass.BUDGET, ErrorClass.AUTH}
"""Trying again would end the same way: somebody has to change something first."""
TRIED_AGAIN = {ErrorClass.TRANSIENT, ErrorClass.INVALID_SESSION}
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
    """Try again at `at`. `notice` is a sentence for the person when something changes for them."""

    at: datetime
    notice: str | None = None
    counts: bool = True
    """False: the try ended for nobody's fault, and is not one of the five."""


Verdict = Close | Retry


def verdict(ack: Ack, now: datetime, *, orderly: bool, failures: TurnFailures | None = None) -> Verdict | None:
    """None: the turn still runs. `orderly`: we ended the container ourselves, so the next try need not wait.
    `failures`: how the session stands after this ack."""
    match ack.status:
        case AckStatus.COMPLETED:
            return Close(status="completed")
        case AckStatus.FAILED:
            return _failed(ack, now, failures)
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


def _failed(ack: Ack, now: datetime, failures: TurnFailures | None) -> Verdict:
    error = ack.error or TurnError(error_class=ErrorClass.TRANSIENT, sentence=DIED)
    if error.error_class in AWAY:
        return _away(failures or one_more(None, error, now), now)
    if error.error_class in GIVE_UP_AT_ONCE or ack.tries + 1 >= MOST_TRIES:
        return _given_up(error)
    if error.error_class is ErrorClass.CONTEXT_FULL:
        # The runner has dropped the conversation: a new one has room, once.
        return Retry(at=now, notice=error.sentence) if ack.tries == 0 else _given_up(error)
    return Retry(at=now + pause(ack.tries))


def _away(failures: TurnFailures, now: datetime) -> Verdict:
    if failures.until is None:
        return Retry(at=now, counts=False)  # a later turn of the session went well
    if too_long(failures):
        return Close(status="failed", notice=given_up(failures, now))
    return Retry(at=failures.until, counts=False)


def _given_up(error: TurnError) -> Close:
    words = error.sentence.strip() or NO_WORDS
    if error.error_class in TRIED_AGAIN and words != DIED:
        words = f"{words} I tried {MOST_TRIES} times and stopped; please ask me again."
    return Close(status="failed", notice=words)
