"""Whether a platform fails as a whole, or with one message only.

A platform that answers nothing but its own failures is down, whatever it says about each message: nothing is given up
for that. A message that fails while others go through has its number of tries. So has one that failed alone for an hour
and of whose platform somebody was heard after that: a chat is not held for ever by a message that its platform chokes
on. In memory: after a start it is found out anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.db.deliveries import DeliveryQueueKey

ChannelKey = tuple[str, str]
"""(channel type, instance)"""
MAX_SINGLE_FAILURE_S = 3600.0
"""Outages in which people can write and nobody can be answered are shorter, as a rule."""


@dataclass(frozen=True, slots=True)
class _FailingQueue:
    """A lane whose first message is not taken: what had gone through on its channel when it last failed, how often in
    a row it failed while nothing else did go through, and since when it fails."""

    success_count: int
    consecutive_failures: int
    since_s: float


class ChannelHealth:
    """One per host. Times are those of a clock that only runs on."""

    def __init__(self) -> None:
        self._success_counts: dict[ChannelKey, int] = {}
        self._last_inbound_s: dict[ChannelKey, float] = {}
        self._failing: dict[DeliveryQueueKey, _FailingQueue] = {}

    def record_failure(self, queue: DeliveryQueueKey, now_s: float) -> int:
        """The platform said that it failed. How often in a row it did while nothing went through, this time included;
        0: it may be the message. Something else went through since the last time, or somebody was heard when it had
        failed for long."""
        channel = _channel_key(queue)
        record_success, before = self._success_counts.get(channel, 0), self._failing.get(queue)
        since_s = now_s if before is None else before.since_s
        is_long = self._last_inbound_s.get(channel, since_s) - since_s >= MAX_SINGLE_FAILURE_S
        is_alone = is_long or (before is not None and before.success_count != record_success)
        in_a_row = 0 if is_alone else (before.consecutive_failures if before is not None else 0) + 1
        self._failing[queue] = _FailingQueue(record_success, in_a_row, since_s)
        return in_a_row

    def record_inbound(self, channel: ChannelKey, now_s: float) -> None:
        """Somebody wrote there."""
        self._last_inbound_s[channel] = now_s

    def passed(self, queue: DeliveryQueueKey) -> bool:
        """The platform took a message, or refused it for good: it works. Whether others of its channel wait."""
        channel = _channel_key(queue)
        self._failing.pop(queue, None)
        self._success_counts[channel] = self._success_counts.get(channel, 0) + 1
        return any(_channel_key(other) == channel for other in self._failing)

    def clear_failure(self, queue: DeliveryQueueKey) -> None:
        """Its first message is not tried any more."""
        self._failing.pop(queue, None)


def _channel_key(queue: DeliveryQueueKey) -> ChannelKey:
    return queue.channel_type, queue.instance
