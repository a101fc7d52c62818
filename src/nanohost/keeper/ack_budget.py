"""How much of what a runner says of its messages is taken over in a time. Pure: monotonic seconds in.

What the host gave it to work on may be acked whenever it likes: a claim and an end for each message. All beyond that
(tries that are run again, acks of nothing, claims of containers that are gone, costs of many turns) is paid from an
hour's rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nanohost.slowing import Throttle, TokenBucket, full_bucket

ACKS_PER_HOUR = 7_200
"""Beyond those of messages that were given, as many as there may be messages (see delivery/budget.py): an ack costs
the host about the same. A turn over 300 messages, tried again for an hour while the model is overloaded, has fewer."""
ACKS_PER_MESSAGE = 2
"""It is claimed, and it is done with."""
MAX_ALLOWANCE = 100_000
"""Acks that are left over from messages that were given: those of 50,000 messages that came at once."""
OVER_BUDGET_REASON = f"more than {ACKS_PER_HOUR:,} acks an hour beyond those of its messages"


@dataclass(slots=True)
class AckBudget(Throttle):
    """One session's. To be forgotten when it is full: what it counted is closed by then."""

    now: float
    counted_up_to: int = 0
    """Messages of the mailbox up to this number were given to it."""
    _allowance: int = 0
    _bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = full_bucket(ACKS_PER_HOUR, self.now)

    def is_full(self, now: float) -> bool:
        """Whether it is as one of somebody who never acked anything."""
        self._bucket.refill(now)
        return not self.reason and not self._allowance and self._bucket.is_full

    def add_allowance(self, messages: int, *, up_to: int = 0) -> None:
        """So many messages were put into its mailbox, the last of them with this number."""
        self.counted_up_to = max(self.counted_up_to, up_to)
        self._allowance = min(self._allowance + ACKS_PER_MESSAGE * messages, MAX_ALLOWANCE)

    def charge(self, count: int) -> None:
        """So much was taken over; nothing: nothing waits."""
        from_given = min(count, self._allowance)
        self._allowance -= from_given
        self._bucket.tokens -= count - from_given
        if not count:
            self.reset()

    def can_process(self, now: float) -> bool:
        """Whether more is taken over now; else `over` says why not."""
        self._bucket.refill(now)
        self.reason = "" if self._allowance or self._bucket.tokens >= 1 else OVER_BUDGET_REASON
        return not self.reason
