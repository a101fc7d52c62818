"""Whether a platform fails as a whole, or with one message only.

A platform that answers nothing but its own failures is down, whatever it says about each message: nothing is given up
for that. A message that fails while others go through has its number of tries. So has one that failed alone for an hour
and of whose platform somebody was heard after that: a chat is not held for ever by a message that its platform chokes
on. In memory: after a start it is found out anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.store.deliveries import LaneKey

ChannelKey = tuple[str, str]
"""(channel type, instance)"""
LONGEST_ALONE_S = 3600.0
"""Outages in which people can write and nobody can be answered are shorter, as a rule."""


@dataclass(frozen=True, slots=True)
class _Failing:
    """A lane whose first message is not taken: what had gone through on its channel when it last failed, how often in
    a row it failed while nothing else did go through, and since when it fails."""

    passed: int
    in_a_row: int
    since_s: float


class Health:
    """One per host. Times are those of a clock that only runs on."""

    def __init__(self) -> None:
        self._passed: dict[ChannelKey, int] = {}
        self._heard_s: dict[ChannelKey, float] = {}
        self._failing: dict[LaneKey, _Failing] = {}

    def failed(self, lane: LaneKey, now_s: float) -> int:
        """The platform said that it failed. How often in a row it did while nothing went through, this time included;
        0: it may be the message. Something else went through since the last time, or somebody was heard when it had
        failed for long."""
        channel = _channel(lane)
        passed, before = self._passed.get(channel, 0), self._failing.get(lane)
        since_s = now_s if before is None else before.since_s
        is_long = self._heard_s.get(channel, since_s) - since_s >= LONGEST_ALONE_S
        is_alone = is_long or (before is not None and before.passed != passed)
        in_a_row = 0 if is_alone else (before.in_a_row if before is not None else 0) + 1
        self._failing[lane] = _Failing(passed, in_a_row, since_s)
        return in_a_row

    def heard(self, channel: ChannelKey, now_s: float) -> None:
        """Somebody wrote there."""
        self._heard_s[channel] = now_s

    def passed(self, lane: LaneKey) -> bool:
        """The platform took a message, or refused it for good: it works. Whether others of its channel wait."""
        channel = _channel(lane)
        self._failing.pop(lane, None)
        self._passed[channel] = self._passed.get(channel, 0) + 1
        return any(_channel(other) == channel for other in self._failing)

    def settled(self, lane: LaneKey) -> None:
        """Its first message is not tried any more."""
        self._failing.pop(lane, None)


def _channel(lane: LaneKey) -> ChannelKey:
    return lane.channel_type, lane.instance
