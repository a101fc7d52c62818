"""Limits how many rows of a session are recorded centrally per hour. Pure: takes monotonic seconds.

Rows over the budget are not lost: they wait in the session's outbound.db, which is read at growing intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanohost.delivery.settings import DeliverySettings
from nanohost.text.translation import lazy_gettext
from nanohost.work.throttle import Throttle, TokenBucket, full_bucket

MAX_WAITING = 2_000
"""Messages and requests of one session that are recorded and not settled. A chat accepts about one message a second, so
sending these takes half an hour."""
MAX_SCHEDULED = 500
"""Messages of one session that are scheduled for later: enough for a reminder on each day of a year, and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """How much of one session may be recorded in an hour."""

    rows_per_hour: int
    bytes_per_hour: int
    """Bytes of content."""
    requests_per_hour: int
    """A refused or dropped row counts as a request: it costs a record and a line in the log, and no platform limits
    its rate."""


def rate_limits_from_settings(settings: DeliverySettings) -> RateLimits:
    """Returns the limits from the operator's settings."""
    return RateLimits(
        rows_per_hour=settings.session_rows_per_hour,
        bytes_per_hour=settings.session_mb_per_hour * 1024**2,
        requests_per_hour=settings.session_requests_per_hour,
    )


@dataclass(frozen=True, slots=True)
class RowCost:
    """The cost of one row: its bytes, and whether it counts as a request, as a dropped row does."""

    size_bytes: int
    is_request: bool


@dataclass(slots=True)
class SessionBudget(Throttle):
    """The budget of one session."""

    limits: RateLimits
    created_at_s: float
    _rows: TokenBucket = field(init=False)
    _bytes: TokenBucket = field(init=False)
    _requests: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self._rows = full_bucket(self.limits.rows_per_hour, self.created_at_s)
        self._bytes = full_bucket(self.limits.bytes_per_hour, self.created_at_s)
        self._requests = full_bucket(self.limits.requests_per_hour, self.created_at_s)

    def consume(self, costs: Sequence[RowCost], now: float) -> int:
        """Charges for the first rows that fit and returns how many; sets `over` to the limit that the next exceeds."""
        for bucket in (self._rows, self._bytes, self._requests):
            bucket.refill(now)
        for count, weight in enumerate(costs):
            self.reason = self._exceeded_limit(weight)
            if self.reason:
                return count
            self._rows.tokens -= 1
            self._bytes.tokens -= weight.size_bytes
            self._requests.tokens -= weight.is_request
        self.reason = ""
        return len(costs)

    def is_full(self, now: float) -> bool:
        """Returns whether nothing of the budget is used, as for a new session."""
        buckets = (self._rows, self._bytes, self._requests)
        for bucket in buckets:
            bucket.refill(now)
        return not self.reason and all(bucket.is_full for bucket in buckets)

    def _exceeded_limit(self, cost: RowCost) -> str:
        if self._rows.tokens < 1:
            return lazy_gettext("more than {count} messages an hour", count=f"{self.limits.rows_per_hour:,}")
        if self._bytes.tokens <= 0:
            return lazy_gettext(
                "more than {size} MiB of messages an hour", size=f"{self.limits.bytes_per_hour / 1024**2:,.0f}"
            )
        if cost.is_request and self._requests.tokens < 1:
            return lazy_gettext(
                "more than {count} requests and refused messages an hour", count=f"{self.limits.requests_per_hour:,}"
            )
        return ""
