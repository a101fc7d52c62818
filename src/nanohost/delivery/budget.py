"""How much of what a session says and asks for may be entered centrally in a time. Pure: monotonic seconds in.

What is over the budget is not lost: it waits in the session's outbound.db, and the next look comes later and later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanohost.delivery.settings import DeliverySettings
from nanohost.slowing import Bucket, Slowed, full

MOST_WAITING = 2_000
"""Messages and requests of one session that are entered and not settled. A chat takes about one message a second, so
these are half an hour's sending."""
MOST_SCHEDULED = 500
"""Messages of one session that wait for a later time. Reminders of a year, with some for each day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one session may have entered in an hour."""

    rows: int
    bytes: int
    """Of content."""
    requests: int
    """What is refused or dropped counts as one: it is on record for good, with a line in the log, and no platform slows
    it down."""


def rates_of(settings: DeliverySettings) -> Rates:
    """As the operator set them."""
    return Rates(
        rows=settings.session_rows_per_hour,
        bytes=settings.session_mb_per_hour * 1024**2,
        requests=settings.session_requests_per_hour,
    )


@dataclass(frozen=True, slots=True)
class Weight:
    """Of one row: its bytes, and whether it is a request, or comes to nothing and costs as much."""

    bytes: int
    as_request: bool


@dataclass(slots=True)
class Budget(Slowed):
    """One session's."""

    rates: Rates
    now: float
    _rows: Bucket = field(init=False)
    _bytes: Bucket = field(init=False)
    _requests: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self._rows = full(self.rates.rows, self.now)
        self._bytes = full(self.rates.bytes, self.now)
        self._requests = full(self.rates.requests, self.now)

    def take(self, weights: Sequence[Weight], now: float) -> int:
        """How many of these rows, from the first on, are entered now. Pays for them, and says in `over` what the
        next one is too much of."""
        for bucket in (self._rows, self._bytes, self._requests):
            bucket.fill(now)
        for count, weight in enumerate(weights):
            self.over = self._too_much(weight)
            if self.over:
                return count
            self._rows.left -= 1
            self._bytes.left -= weight.bytes
            self._requests.left -= weight.as_request
        self.over = ""
        return len(weights)

    def is_full(self, now: float) -> bool:
        """Whether it is as one of somebody who never had anything entered."""
        buckets = (self._rows, self._bytes, self._requests)
        for bucket in buckets:
            bucket.fill(now)
        return not self.over and all(bucket.is_full for bucket in buckets)

    def _too_much(self, weight: Weight) -> str:
        if self._rows.left < 1:
            return f"more than {self.rates.rows:,} messages an hour"
        if self._bytes.left <= 0:
            return f"more than {self.rates.bytes / 1024**2:,.0f} MiB of messages an hour"
        if weight.as_request and self._requests.left < 1:
            return f"more than {self.rates.requests:,} requests and refused messages an hour"
        return ""
