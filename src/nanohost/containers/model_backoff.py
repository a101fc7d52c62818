"""Decides when the model of a session can be called again, and which chats to notify meanwhile. Pure.

A rate limit, an overload or a network that is down does not count as an attempt: the messages are kept, and no
container is started for the session until the backoff ends. Each chat is notified once for each backoff, whatever
people write meanwhile and however many retries there are. If the backoff exceeds six hours, the messages are closed as
failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from nanohost.db.turn_failures import TurnFailures
from nanohost.text.translation import gettext_noop, lazy, lazy_gettext, lazy_ngettext
from nanohost_protocol.rows import Ack, AckStatus, ErrorClass, InKind, MessageIn, TurnError

MODEL_UNAVAILABLE = {ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED}
"""Errors after which the model cannot be called now; they say nothing about the message."""
MAX_TOTAL_BACKOFF = timedelta(hours=6)
INITIAL_BACKOFF_S = 5.0
MAX_BACKOFF_S = 900.0
RATE_LIMIT_BACKOFF_S = 60.0
"""The least backoff when the provider gives no time."""
SAME_INCIDENT_WINDOW = timedelta(minutes=30)
"""A failure so soon after a backoff prolongs it: chats that were notified are not notified again."""
MODEL_UNREACHABLE_NOTICE = gettext_noop("I cannot reach my model right now.")
"""For a runner that sends no sentence."""


def update_failures(previous: TurnFailures | None, acks: Sequence[Ack], now: datetime) -> TurnFailures | None:
    """Returns the session's failures after these acks, oldest first. The messages of one turn end together and count
    once."""
    turns: dict[str, Ack] = {ack.turn_id: ack for ack in acks if ack.status in (AckStatus.COMPLETED, AckStatus.FAILED)}
    for ack in sorted(turns.values(), key=lambda ack: ack.change):
        if ack.status is AckStatus.COMPLETED:
            previous = None
        elif ack.error is not None:
            previous = add_failure(previous, ack.error, now)
    return previous


def add_failure(previous: TurnFailures | None, error: TurnError, now: datetime) -> TurnFailures:
    """Returns the failures after one more."""
    is_same_incident = previous is not None and now - SAME_INCIDENT_WINDOW <= (
        previous.held_until or previous.latest_at
    )
    before = previous if is_same_incident else None
    failures = TurnFailures(
        error_class=error.error_class,
        sentence=error.sentence.strip() or MODEL_UNREACHABLE_NOTICE,
        since=before.since if before else now,
        latest_at=now,
        count=before.count + 1 if before else 1,
        notified_chats=before.notified_chats if before else frozenset(),
    )
    if error.error_class not in MODEL_UNAVAILABLE:
        return replace(failures, notified_chats=frozenset())
    return replace(failures, held_until=_next_retry_at(failures, error, now))


def exceeds_max_backoff(failures: TurnFailures) -> bool:
    """Whether the backoff is longer than MAX_TOTAL_BACKOFF."""
    return failures.held_until is not None and failures.held_until - failures.since > MAX_TOTAL_BACKOFF


def reset_failures(failures: TurnFailures) -> TurnFailures:
    """Returns the failures after the messages were closed as failed: the next failure begins a new backoff."""
    return replace(failures, since=failures.latest_at, count=0, held_until=None, notified_chats=frozenset())


def messages_to_notify(failures: TurnFailures, waiting: Iterable[MessageIn]) -> list[MessageIn]:
    """Returns the latest waiting message of each chat that was not notified yet; none for a single short failure."""
    if failures.error_class is not ErrorClass.RATE_LIMITED and failures.count < 2:
        return []
    people = (one for one in waiting if one.trigger and one.kind is not InKind.CONTROL)
    latest = {one.origin.chat: one for one in people if one.origin is not None}
    return [message for chat, message in latest.items() if chat not in failures.notified_chats]


def backoff_notice(failures: TurnFailures, now: datetime) -> str:
    """Returns the notice for a chat that waits."""
    assert failures.held_until is not None
    if failures.error_class is ErrorClass.RATE_LIMITED:
        return lazy_gettext(
            "{problem} I keep your message and try again in {duration}.",
            problem=lazy(failures.sentence),
            duration=_format_duration(failures.held_until - now),
        )
    return lazy_gettext("{problem} I keep your message and try again.", problem=lazy(failures.sentence))


def failed_notice(failures: TurnFailures, now: datetime) -> str:
    """Returns the notice for a message that is closed because the backoff is too long."""
    assert failures.held_until is not None
    if failures.held_until - now > MAX_TOTAL_BACKOFF:
        return lazy_gettext(
            "{problem} That lasts for {duration}; please ask me again then.",
            problem=lazy(failures.sentence),
            duration=_format_duration(failures.held_until - now),
        )
    return lazy_gettext(
        "{problem} I tried for {duration} and stopped. Please ask me again later.",
        problem=lazy(failures.sentence),
        duration=_format_duration(now - failures.since),
    )


def _next_retry_at(failures: TurnFailures, error: TurnError, now: datetime) -> datetime:
    """Returns the time that the provider gave, but not before a growing backoff: a provider may always say `now`."""
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
