"""How often a session's container was stopped because it kept the host from the session's mailbox. Facts only; the
caller brings the time.

In memory: a host that starts counts anew. That gives a session two more starts, and no container can bring a restart
about.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from nanohost.keeper.stuck import Stuck
from nanohost.model import SessionId

MAX_STOPS = 3
"""The first may be a disk that stood still, the second a process that was left over. Between two stops a container was
started, which takes writes to the same disk: a disk that hangs does not bring about three."""
WINDOW_S = 3600.0


class MailboxStopCounter:
    """By session. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._stops: dict[SessionId, deque[float]] = {}

    def record_stop(self, session: SessionId, now: float) -> int:
        """It was stopped once more. How often that makes within WINDOW_S."""
        self._stops = {one: stops for one, stops in self._stops.items() if now - stops[-1] < WINDOW_S}
        stops = self._stops.setdefault(session, deque(maxlen=MAX_STOPS))
        stops.append(now)
        return sum(now - stop < WINDOW_S for stop in stops)

    def reset(self, session: SessionId) -> None:
        """It is held: whoever lets it go on gives it all its stops again."""
        self._stops.pop(session, None)


def escalate(stuck: Stuck, stops: int) -> Stuck:
    """What becomes of a session that was stopped for its mailbox so often: the MAX_STOPS-th time it is held. Pure."""
    if stops < MAX_STOPS:
        return stuck
    sentence = f"{stuck.detail}; within an hour it has kept the host from its mailbox {stops} times"
    return replace(stuck, detail=sentence, should_hold=True)
