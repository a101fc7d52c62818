"""Whether a platform fails as a whole, or with one message only.

A platform that answers nothing but its own failures is down, whatever it says about each message: nothing is given up
for that. A message that fails while others go through has its number of tries. In memory: after a start it is found out
anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.store.deliveries import LaneKey

ChannelKey = tuple[str, str]
"""(channel type, instance)"""


@dataclass(frozen=True, slots=True)
class _Failing:
    """A lane whose first message is not taken: what had gone through on its channel when it last failed, and how often
    in a row it failed while nothing else did go through."""

    passed: int
    in_a_row: int


class Health:
    """One per host."""

    def __init__(self) -> None:
        self._passed: dict[ChannelKey, int] = {}
        self._failing: dict[LaneKey, _Failing] = {}

    def failed(self, lane: LaneKey) -> int:
        """The platform said that it failed. How often in a row it did while nothing went through, this time included;
        0: since the last time something else did, so it may be the message."""
        passed, before = self._passed.get(_channel(lane), 0), self._failing.get(lane)
        is_alone = before is not None and before.passed != passed
        in_a_row = 0 if is_alone else (before.in_a_row if before is not None else 0) + 1
        self._failing[lane] = _Failing(passed, in_a_row)
        return in_a_row

    def passed(self, lane: LaneKey) -> bool:
        """The platform took a message. Whether others of its channel wait because it did not."""
        channel = _channel(lane)
        self._failing.pop(lane, None)
        self._passed[channel] = self._passed.get(channel, 0) + 1
        return any(_channel(other) == channel for other in self._failing)

    def settled(self, lane: LaneKey) -> None:
        """Its first message is not tried any more."""
        self._failing.pop(lane, None)


def _channel(lane: LaneKey) -> ChannelKey:
    return lane.channel_type, lane.instance
