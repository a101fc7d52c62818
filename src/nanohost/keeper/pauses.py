"""How long a session waits for its next container after one that failed. Facts only; the caller brings the time.

Not at all after the first failure, then 5 · 2ⁿ seconds, five minutes at the most, until something was done. With each
failure goes its reason, for the operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nanohost.keeper.verdict import backoff
from nanohost.model import SessionId

MAX_BACKOFF_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureInfo:
    """A session whose containers fail: how often in a row, why the last time, and when the next pause is over."""

    count: int = 0
    retry_at: float = 0.0
    reason: str = ""


class StartBackoff:
    """Failures in a row by session. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._failures: dict[SessionId, FailureInfo] = {}

    def record_failure(self, session: SessionId, now: float, reason: str = "") -> int:
        """A start failed, or a container died that nobody stopped. Returns how many that makes in a row."""
        count = self.failure_count(session)
        wait_s = 0.0 if count == 0 else min(backoff(count - 1).total_seconds(), MAX_BACKOFF_S)
        self._failures[session] = FailureInfo(count=count + 1, retry_at=now + wait_s, reason=reason)
        return count + 1

    def failure_count(self, session: SessionId) -> int:
        """How many failures there were since something was done."""
        return self._failures.get(session, FailureInfo()).count

    def can_start(self, session: SessionId, now: float) -> bool:
        """Whether the session may have a container now."""
        return self._failures.get(session, FailureInfo()).retry_at <= now

    def reset(self, session: SessionId) -> None:
        """Something was done: the next failure is the first again."""
        self._failures.pop(session, None)

    def remaining_s(self, now: float) -> Iterator[float]:
        """Seconds until each pause that is on ends."""
        return (trouble.retry_at - now for trouble in self._failures.values() if trouble.retry_at > now)

    def failures(self) -> dict[SessionId, FailureInfo]:
        """The sessions that have failed since something was done."""
        return dict(self._failures)
