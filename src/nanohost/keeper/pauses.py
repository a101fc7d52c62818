"""How long a session waits for its next container after one that failed. Facts only; the caller brings the time.

Not at all after the first failure, then 5 · 2ⁿ seconds, five minutes at the most, until something was done. With each
failure goes its reason, for the operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nanohost.keeper.verdict import pause
from nanohost.model import SessionId

LONGEST_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A session whose containers fail: how often in a row, why the last time, and when the next pause is over."""

    failures: int = 0
    until: float = 0.0
    reason: str = ""


class Pauses:
    """Failures in a row by session. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._failures: dict[SessionId, Trouble] = {}

    def failed(self, session: SessionId, now: float, reason: str = "") -> int:
        """A start failed, or a container died that nobody stopped. Returns how many that makes in a row."""
        count = self.in_a_row(session)
        wait_s = 0.0 if count == 0 else min(pause(count - 1).total_seconds(), LONGEST_S)
        self._failures[session] = Trouble(failures=count + 1, until=now + wait_s, reason=reason)
        return count + 1

    def in_a_row(self, session: SessionId) -> int:
        """How many failures there were since something was done."""
        return self._failures.get(session, Trouble()).failures

    def over(self, session: SessionId, now: float) -> bool:
        """Whether the session may have a container now."""
        return self._failures.get(session, Trouble()).until <= now

    def forget(self, session: SessionId) -> None:
        """Something was done: the next failure is the first again."""
        self._failures.pop(session, None)

    def remaining(self, now: float) -> Iterator[float]:
        """Seconds until each pause that is on ends."""
        return (trouble.until - now for trouble in self._failures.values() if trouble.until > now)

    def troubles(self) -> dict[SessionId, Trouble]:
        """The sessions that have failed since something was done."""
        return dict(self._failures)
