"""Decides whether a platform fails as a whole, or with one message only.

If every send to a platform fails with its server errors, the platform is down, and no message is given up. A message
that fails while others are sent has a limited number of attempts. So has one that failed for an hour if an event
arrived from its platform after that: a message that the platform cannot handle must not block its chat for ever. The
state is in memory, and is found out anew after a start.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.db.deliveries import DeliveryQueueKey

ChannelKey = tuple[str, str]
"""(channel type, instance)"""
MAX_SINGLE_FAILURE_S = 3600.0
"""Seconds. Outages in which people can write but nothing can be sent are usually shorter."""


@dataclass(frozen=True, slots=True)
class _FailingQueue:
    """A queue whose first message fails.

    `success_count`: of its channel, when it last failed. `consecutive_failures`: without another success on the
    channel. `since_s`: the time of the first failure.
    """

    success_count: int
    consecutive_failures: int
    since_s: float


class ChannelHealth:
    """Tracks failures and successes of all channels. One per host. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._success_counts: dict[ChannelKey, int] = {}
        self._last_inbound_s: dict[ChannelKey, float] = {}
        self._failing: dict[DeliveryQueueKey, _FailingQueue] = {}

    def record_failure(self, queue: DeliveryQueueKey, now_s: float) -> int:
        """Records a server error; returns how many there were in a row, with this one, while nothing else was sent.

        Returns 0 if the message may be the cause: another message was sent since the last failure, or an event arrived
        after this one had failed for long.
        """
        channel = _channel_key(queue)
        record_success, before = self._success_counts.get(channel, 0), self._failing.get(queue)
        since_s = now_s if before is None else before.since_s
        is_long = self._last_inbound_s.get(channel, since_s) - since_s >= MAX_SINGLE_FAILURE_S
        is_alone = is_long or (before is not None and before.success_count != record_success)
        in_a_row = 0 if is_alone else (before.consecutive_failures if before is not None else 0) + 1
        self._failing[queue] = _FailingQueue(record_success, in_a_row, since_s)
        return in_a_row

    def record_inbound(self, channel: ChannelKey, now_s: float) -> None:
        """Records that an event arrived on this channel."""
        self._last_inbound_s[channel] = now_s

    def passed(self, queue: DeliveryQueueKey) -> bool:
        """Records that the platform works: it accepted a message or refused it for good.

        Returns whether other queues of the channel are failing.
        """
        channel = _channel_key(queue)
        self._failing.pop(queue, None)
        self._success_counts[channel] = self._success_counts.get(channel, 0) + 1
        return any(_channel_key(other) == channel for other in self._failing)

    def clear_failure(self, queue: DeliveryQueueKey) -> None:
        """Forgets the queue's failures: its first message is not retried any more."""
        self._failing.pop(queue, None)


def _channel_key(queue: DeliveryQueueKey) -> ChannelKey:
    return queue.channel_type, queue.instance
