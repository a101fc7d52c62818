"""How much of what a session says and asks for may be entered centrally in a time. Pure: monotonic seconds in.

What is over the budget is not lost: it waits in the session's outbound.db, and the next look comes later and later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanohost.delivery.settings import DeliverySettings
from nanohost.text.translation import lazy_gettext
from nanohost.work.throttle import Throttle, TokenBucket, full_bucket

MAX_WAITING = 2_000
"""Messages and requests of one session that are entered and not settled. A chat takes about one message a second, so
these are half an hour's sending."""
MAX_SCHEDULED = 500
"""Messages of one session that wait for a later time. Reminders of a year, with some for each day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What one session may have entered in an hour."""

    rows_per_hour: int
    bytes_per_hour: int
    """Of content."""
    requests_per_hour: int
    """What is refused or dropped counts as one: it is on record for good, with a line in the log, and no platform slows
    it down."""


def rate_limits_from_settings(settings: DeliverySettings) -> RateLimits:
    """As the operator set them."""
    return RateLimits(
        rows_per_hour=settings.session_rows_per_hour,
        bytes_per_hour=settings.session_mb_per_hour * 1024**2,
        requests_per_hour=settings.session_requests_per_hour,
    )


@dataclass(frozen=True, slots=True)
class RowCost:
    """Of one row: its bytes, and whether it is a request, or comes to nothing and costs as much."""

    size_bytes: int
    is_request: bool


@dataclass(slots=True)
class SessionBudget(Throttle):
    """One session's."""

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
        """How many of these rows, from the first on, are entered now. Pays for them, and says in `over` what the
        next one is too much of."""
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
        """Whether it is as one of somebody who never had anything entered."""
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
