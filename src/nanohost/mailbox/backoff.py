"""Computes how long a session's file is not read after it was locked, slow, or did not answer. Pure: the caller passes
the time and waits.

Each session pays for its reads: a locked file is retried after pauses that double, and processor time beyond a free
amount is followed by a pause CPU_REPAY_FACTOR times as long, however many reads it was spent on. So sessions cannot
block the readers for others, however many there are and however slow their files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

INITIAL_BACKOFF_S = 0.05
MAX_BACKOFF_S = 5.0
"""The longest pause before a locked file is retried. A runner holds its lock during a commit, for some milliseconds."""
FREE_CPU_S = 0.5
"""Processor seconds of reads without a pause: a burst of a thousand messages takes about as much."""
CPU_REPAY_FACTOR = 20.0
"""Seconds of time that pay for a processor second: five per cent of one processor. A normal read takes 0.5 ms."""
MAX_LOCKED_S = 8.0
"""A file that is locked for this long is locked on purpose, or by a process that hangs: a runner's commit takes
milliseconds, a second on the slowest disk."""
MAX_HUNG_READS = 2
"""Reads that did not return: a single one may be due to a machine that stalled."""
MAX_REFUSED_READS = 3
MIN_REFUSED_S = 8.0
"""Reads that found an invalid file, and for how long: a starting runner may repair what the last one left."""
FAILURE_WINDOW_S = 60.0
"""For how long a read that hung or was refused counts. A success in between does not reset it: one query may succeed
on a file where another fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxBackoff:
    """The state of one session's file. Times are monotonic, in seconds."""

    not_before: float = 0.0
    """When it may be read again."""
    cpu_debt_s: float = 0.0
    """Processor seconds of its reads that are not paid for yet, as of `cpu_debt_at`."""
    cpu_debt_at: float = 0.0
    lock_count: int = 0
    locked_since: float = 0.0
    """When the first of these attempts was."""
    refused_count: int = 0
    """Reads that found an invalid file, each less than FAILURE_WINDOW_S after the last; the latest was at `refused_at`.
    """
    refused_at: float = 0.0
    refused_since: float = 0.0
    hung_count: int = 0
    """Reads that did not return, counted in the same way."""
    hung_at: float = 0.0

    def after_success(self, now: float, *, cpu_s: float) -> MailboxBackoff:
        """Returns the state after a successful read that took so much processor time."""
        return replace(self._charge_cpu(now, cpu_s), lock_count=0)

    def after_refusal(self, now: float, *, cpu_s: float) -> MailboxBackoff:
        """Returns the state after a read that found an invalid or too large file."""
        before = self.refused_count if now - self.refused_at < FAILURE_WINDOW_S else 0
        charged = self._charge_cpu(now, cpu_s)
        return replace(
            charged,
            not_before=max(charged.not_before, now + _backoff_s(before)),
            refused_count=before + 1,
            refused_at=now,
            refused_since=self.refused_since if before else now,
            lock_count=0,
        )

    def after_lock(self, now: float) -> MailboxBackoff:
        """Returns the state after a read that found the file locked."""
        return replace(
            self,
            not_before=now + _backoff_s(self.lock_count),
            lock_count=self.lock_count + 1,
            locked_since=self.locked_since if self.lock_count else now,
        )

    def after_hang(self, now: float) -> MailboxBackoff:
        """Returns the state after a read that did not return."""
        hung_count = self.hung_count + 1 if now - self.hung_at < FAILURE_WINDOW_S else 1
        return replace(self, not_before=now + INITIAL_BACKOFF_S, hung_count=hung_count, hung_at=now)

    def is_idle(self, now: float) -> bool:
        """Whether the state has no effect any more and can be dropped."""
        failed_at = [
            at for count, at in ((self.refused_count, self.refused_at), (self.hung_count, self.hung_at)) if count
        ]
        has_debt = self.cpu_debt_s > (now - self.cpu_debt_at) / CPU_REPAY_FACTOR
        is_long_ago = all(now - at >= FAILURE_WINDOW_S for at in failed_at)
        return not self.lock_count and not has_debt and is_long_ago and self.not_before <= now

    def _charge_cpu(self, now: float, cpu_s: float) -> MailboxBackoff:
        debt_s = max(0.0, self.cpu_debt_s - max(0.0, now - self.cpu_debt_at) / CPU_REPAY_FACTOR) + cpu_s
        return replace(
            self, not_before=now + CPU_REPAY_FACTOR * max(0.0, debt_s - FREE_CPU_S), cpu_debt_s=debt_s, cpu_debt_at=now
        )

    def stop_reason(self, file: str, now: float, *, problem: str = "") -> str:
        """Returns why the session's container is to be stopped, for the operator; empty if it is not. `problem`: the
        error of the latest read."""
        if self.hung_count >= MAX_HUNG_READS:
            return f"its {file} does not let itself be read: looks at it do not return"
        if self.refused_count >= MAX_REFUSED_READS and self.refused_at - self.refused_since >= MIN_REFUSED_S:
            return f"its {file} cannot be read: {problem}"
        locked_s = now - self.locked_since
        if self.lock_count > 1 and locked_s >= MAX_LOCKED_S:
            return f"its {file} has been locked for {locked_s:.0f} s"
        return ""


def _backoff_s(failures: int) -> float:
    return min(INITIAL_BACKOFF_S * 2.0 ** min(failures, 10), MAX_BACKOFF_S)
