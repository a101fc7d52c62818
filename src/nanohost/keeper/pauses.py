"""How long a session waits for its next container after one that failed. Facts only; the caller brings the time.

Not at all after the first failure, then 5 · 2ⁿ seconds, five minutes at the most, until something was done.
"""

from __future__ import annotations

from collections.abc import Iterator

from nanohost.keeper.verdict import pause
from nanohost.model import SessionId

LONGEST_S = 300.0


class Pauses:
    """Failures in a row by session. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._failures: dict[SessionId, tuple[int, float]] = {}

    def failed(self, session: SessionId, now: float) -> int:
        """A start failed, or a container died that nobody stopped. Returns how many that makes in a row."""
        count = self.in_a_row(session)
        wait_s = 0.0 if count == 0 else min(pause(count - 1).total_seconds(), LONGEST_S)
        self._failures[session] = (count + 1, now + wait_s)
        return count + 1

    def in_a_row(self, session: SessionId) -> int:
        """How many failures there were since something was done."""
        return self._failures.get(session, (0, 0.0))[0]

    def over(self, session: SessionId, now: float) -> bool:
        """Whether the session may have a container now."""
        return self._failures.get(session, (0, 0.0))[1] <= now

    def forget(self, session: SessionId) -> None:
        """Something was done: the next failure is the first again."""
        self._failures.pop(session, None)

    def remaining(self, now: float) -> Iterator[float]:
        """Seconds until each pause that is on ends."""
        return (until - now for _, until in self._failures.values() if until > now)
