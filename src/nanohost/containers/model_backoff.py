"""When the model of a session can be asked again, and who is told meanwhile. Pure: failures and a time in.

A limit, an overload and a network that is down are nobody's fault: the messages are kept, nothing is started for the
session until the pause is over, and no try is used up. People hear of it once a pause and chat, whatever they write
meanwhile and however often it is tried. A pause that would last longer than six hours is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from nanohost.db.turn_failures import TurnFailures
from nanohost.text.translation import gettext_noop, lazy, lazy_gettext, lazy_ngettext
from nanohost_protocol.rows import Ack, AckStatus, ErrorClass, InKind, MessageIn, TurnError

MODEL_UNAVAILABLE = {ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED}
"""The model cannot be asked now; that says nothing about the message."""
MAX_TOTAL_BACKOFF = timedelta(hours=6)
INITIAL_BACKOFF_S = 5.0
MAX_BACKOFF_S = 900.0
RATE_LIMIT_BACKOFF_S = 60.0
"""When the provider named no time."""
SAME_INCIDENT_WINDOW = timedelta(minutes=30)
"""A failure so soon after a pause prolongs it: the people who know need not be told again."""
MODEL_UNREACHABLE_NOTICE = gettext_noop("I cannot reach my model right now.")
"""For a runner that sends no words."""


def update_failures(previous: TurnFailures | None, acks: Sequence[Ack], now: datetime) -> TurnFailures | None:
    """How the session stands after these acks, oldest first. The messages of one turn end together: it counts once."""
    turns: dict[str, Ack] = {ack.turn_id: ack for ack in acks if ack.status in (AckStatus.COMPLETED, AckStatus.FAILED)}
    for ack in sorted(turns.values(), key=lambda ack: ack.change):
        if ack.status is AckStatus.COMPLETED:
            previous = None
        elif ack.error is not None:
            previous = add_failure(previous, ack.error, now)
    return previous


def add_failure(previous: TurnFailures | None, error: TurnError, now: datetime) -> TurnFailures:
    """The failures after one more."""
    same = previous is not None and now - SAME_INCIDENT_WINDOW <= (previous.until or previous.latest_at)
    before = previous if same else None
    fresh = TurnFailures(
        error_class=error.error_class,
        sentence=error.sentence.strip() or MODEL_UNREACHABLE_NOTICE,
        since=before.since if before else now,
        latest_at=now,
        count=before.count + 1 if before else 1,
        notified_chats=before.notified_chats if before else frozenset(),
    )
    if error.error_class not in MODEL_UNAVAILABLE:
        return replace(fresh, notified_chats=frozenset())
    return replace(fresh, until=_next_retry_at(fresh, error, now))


def exceeds_max_backoff(failures: TurnFailures) -> bool:
    """Whether the pause is one that nobody should be kept waiting for."""
    return failures.until is not None and failures.until - failures.since > MAX_TOTAL_BACKOFF


def reset_failures(failures: TurnFailures) -> TurnFailures:
    """After its messages were given up: what comes next begins anew."""
    return replace(failures, since=failures.latest_at, count=0, until=None, notified_chats=frozenset())


def messages_to_notify(failures: TurnFailures, waiting: Iterable[MessageIn]) -> list[MessageIn]:
    """The latest message of each chat that waits and does not know why. A hiccup is not worth a word."""
    if failures.error_class is not ErrorClass.RATE_LIMITED and failures.count < 2:
        return []
    people = (one for one in waiting if one.trigger and one.kind is not InKind.CONTROL)
    latest = {one.origin.chat: one for one in people if one.origin is not None}
    return [message for chat, message in latest.items() if chat not in failures.notified_chats]


def backoff_notice(failures: TurnFailures, now: datetime) -> str:
    """What who waits is told while it lasts."""
    assert failures.until is not None
    if failures.error_class is ErrorClass.RATE_LIMITED:
        return lazy_gettext(
            "{problem} I keep your message and try again in {duration}.",
            problem=lazy(failures.sentence),
            duration=_format_duration(failures.until - now),
        )
    return lazy_gettext("{problem} I keep your message and try again.", problem=lazy(failures.sentence))


def failed_notice(failures: TurnFailures, now: datetime) -> str:
    """What is said when it lasts too long."""
    assert failures.until is not None
    if failures.until - now > MAX_TOTAL_BACKOFF:
        return lazy_gettext(
            "{problem} That lasts for {duration}; please ask me again then.",
            problem=lazy(failures.sentence),
            duration=_format_duration(failures.until - now),
        )
    return lazy_gettext(
        "{problem} I tried for {duration} and stopped. Please ask me again later.",
        problem=lazy(failures.sentence),
        duration=_format_duration(now - failures.since),
    )


def _next_retry_at(failures: TurnFailures, error: TurnError, now: datetime) -> datetime:
    """What the provider said, but not sooner than a pause that grows: one that always says `now` is not believed."""
    pause_s = min(INITIAL_BACKOFF_S * 2 ** min(failures.count - 1, 10), MAX_BACKOFF_S)
    if error.retry_at is not None:
        return max(error.retry_at, now if failures.count == 1 else now + timedelta(seconds=pause_s / 2))
    if error.error_class is ErrorClass.RATE_LIMITED:
        pause_s = max(pause_s, RATE_LIMIT_BACKOFF_S)
    return now + timedelta(seconds=pause_s)


def _format_duration(duration: timedelta) -> str:
    minutes = max(1, round(duration.total_seconds() / 60))
    if minutes < 100:
        return lazy_ngettext("about {count} minute", "about {count} minutes", minutes)
    if minutes < 48 * 60:
        return lazy_ngettext("about {count} hour", "about {count} hours", round(minutes / 60))
    return lazy_ngettext("about {count} day", "about {count} days", round(minutes / 1440))
