"""When the model of a session can be asked again, and who is told meanwhile. Pure: failures and a time in.

A limit, an overload and a network that is down are nobody's fault: the messages are kept, nothing is started for the
session until the pause is over, and no try is used up. People hear of it once a pause and chat, whatever they write
meanwhile and however often it is tried. A pause that would last longer than six hours is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from nanohost.store.turn_failures import TurnFailures
from nanohost_protocol.rows import Ack, AckStatus, ErrorClass, InKind, MessageIn, TurnError

AWAY = {ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED}
"""The model cannot be asked now; that says nothing about the message."""
LONGEST_HOLD = timedelta(hours=6)
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
RATE_LIMIT_PAUSE_S = 60.0
"""When the provider named no time."""
SAME_TROUBLE = timedelta(minutes=30)
"""A failure so soon after a pause prolongs it: the people who know need not be told again."""
NO_MODEL = "I cannot reach my model right now."
"""For a runner that sends no words."""


def failures_after(known: TurnFailures | None, acks: Sequence[Ack], now: datetime) -> TurnFailures | None:
    """How the session stands after these acks, oldest first. The messages of one turn end together: it counts once."""
    turns: dict[str, Ack] = {ack.turn_id: ack for ack in acks if ack.status in (AckStatus.COMPLETED, AckStatus.FAILED)}
    for ack in sorted(turns.values(), key=lambda ack: ack.change):
        if ack.status is AckStatus.COMPLETED:
            known = None
        elif ack.error is not None:
            known = one_more(known, ack.error, now)
    return known


def one_more(known: TurnFailures | None, error: TurnError, now: datetime) -> TurnFailures:
    """The failures after one more."""
    same = known is not None and now - SAME_TROUBLE <= (known.until or known.latest_at)
    before = known if same else None
    fresh = TurnFailures(
        error_class=error.error_class,
        sentence=error.sentence.strip() or NO_MODEL,
        since=before.since if before else now,
        latest_at=now,
        count=before.count + 1 if before else 1,
        told=before.told if before else frozenset(),
    )
    if error.error_class not in AWAY:
        return replace(fresh, told=frozenset())
    return replace(fresh, until=_until(fresh, error, now))


def too_long(failures: TurnFailures) -> bool:
    """Whether the pause is one that nobody should be kept waiting for."""
    return failures.until is not None and failures.until - failures.since > LONGEST_HOLD


def ended(failures: TurnFailures) -> TurnFailures:
    """After its messages were given up: what comes next begins anew."""
    return replace(failures, since=failures.latest_at, count=0, until=None, told=frozenset())


def to_tell(failures: TurnFailures, waiting: Iterable[MessageIn]) -> list[MessageIn]:
    """The latest message of each chat that waits and does not know why. A hiccup is not worth a word."""
    if failures.error_class is not ErrorClass.RATE_LIMITED and failures.count < 2:
        return []
    people = (one for one in waiting if one.trigger and one.kind is not InKind.CONTROL)
    latest = {one.origin.chat: one for one in people if one.origin is not None}
    return [message for chat, message in latest.items() if chat not in failures.told]


def explained(failures: TurnFailures, now: datetime) -> str:
    """What who waits is told while it lasts."""
    assert failures.until is not None
    if failures.error_class is ErrorClass.RATE_LIMITED:
        return f"{failures.sentence} I keep your message and try again in {_in_words(failures.until - now)}."
    return f"{failures.sentence} I keep your message and try again."


def given_up(failures: TurnFailures, now: datetime) -> str:
    """What is said when it lasts too long."""
    assert failures.until is not None
    if failures.until - now > LONGEST_HOLD:
        return f"{failures.sentence} That lasts for {_in_words(failures.until - now)}; please ask me again then."
    return f"{failures.sentence} I tried for {_in_words(now - failures.since)} and stopped. Please ask me again later."


def _until(failures: TurnFailures, error: TurnError, now: datetime) -> datetime:
    """What the provider said, but not sooner than a pause that grows: one that always says `now` is not believed."""
    pause_s = min(FIRST_PAUSE_S * 2 ** min(failures.count - 1, 10), LONGEST_PAUSE_S)
    if error.retry_at is not None:
        return max(error.retry_at, now if failures.count == 1 else now + timedelta(seconds=pause_s / 2))
    if error.error_class is ErrorClass.RATE_LIMITED:
        pause_s = max(pause_s, RATE_LIMIT_PAUSE_S)
    return now + timedelta(seconds=pause_s)


def _in_words(span: timedelta) -> str:
    minutes = max(1, round(span.total_seconds() / 60))
    if minutes < 100:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    if minutes < 48 * 60:
        return f"about {round(minutes / 60)} hours"
    return f"about {round(minutes / 1440)} days"
