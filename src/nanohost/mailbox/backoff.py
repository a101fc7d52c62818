"""How long a session's files are left alone after they were locked, slow to read, or did not answer. Facts in, facts
out: the caller brings the time and does the waiting.

Each session pays for what it takes: a file that is locked is tried again after pauses that double, and processor time
beyond a first amount is paid back SHARE times as long, however many looks it was spent on. So no number of sessions,
each of them at its worst, takes the readers from the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

INITIAL_BACKOFF_S = 0.05
MAX_BACKOFF_S = 5.0
"""Between two tries of a locked file. A runner holds its lock for the length of a commit, some milliseconds."""
FREE_CPU_S = 0.5
"""Processor seconds of looks that a session has for nothing: a burst of a thousand messages takes about as much."""
CPU_REPAY_FACTOR = 20.0
"""How much time pays for a look: five per cent of one processor. An ordinary look takes half a millisecond."""
MAX_LOCKED_S = 8.0
"""A runner's commits take milliseconds, on the slowest disk a second. A file that was locked at each try for this long
is locked on purpose, or by a process that hangs."""
MAX_HUNG_READS = 2
"""Looks that did not return: a single one may have met a machine that stood still."""
MAX_REFUSED_READS = 3
MIN_REFUSED_S = 8.0
"""Looks that found what is no mailbox, and for how long: a runner that starts may put right what it was left."""
FAILURE_WINDOW_S = 60.0
"""For how long a look that hung or was refused counts. What succeeds in between proves nothing: one
question may have its answer where another has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxBackoff:
    """What is known of one session's file. Times are monotonic, in seconds."""

    not_before: float = 0.0
    """It is not looked at before."""
    cpu_debt_s: float = 0.0
    """Processor seconds that its looks took and time has not paid for yet, at `cpu_debt_at`."""
    cpu_debt_at: float = 0.0
    lock_count: int = 0
    locked_since: float = 0.0
    """When the first of those tries was."""
    refused_count: int = 0
    """Looks that found no mailbox, each less than FAILURE_WINDOW_S after the one before, the latest at `refused_at`."""
    refused_at: float = 0.0
    refused_since: float = 0.0
    hung_count: int = 0
    """Looks that did not return, likewise."""
    hung_at: float = 0.0

    def after_success(self, now: float, *, cpu_s: float) -> MailboxBackoff:
        """A look found what it looked for, in that much processor time."""
        return replace(self._charge_cpu(now, cpu_s), lock_count=0)

    def after_refusal(self, now: float, *, cpu_s: float) -> MailboxBackoff:
        """What a look found is no mailbox, or more than any."""
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
        """The file was locked."""
        return replace(
            self,
            not_before=now + _backoff_s(self.lock_count),
            lock_count=self.lock_count + 1,
            locked_since=self.locked_since if self.lock_count else now,
        )

    def after_hang(self, now: float) -> MailboxBackoff:
        """A look did not return."""
        hung = self.hung_count + 1 if now - self.hung_at < FAILURE_WINDOW_S else 1
        return replace(self, not_before=now + INITIAL_BACKOFF_S, hung_count=hung, hung_at=now)

    def is_idle(self, now: float) -> bool:
        """Whether nothing that was met before makes a difference any more."""
        met = [at for count, at in ((self.refused_count, self.refused_at), (self.hung_count, self.hung_at)) if count]
        is_owed = self.cpu_debt_s > (now - self.cpu_debt_at) / CPU_REPAY_FACTOR
        is_long_ago = all(now - at >= FAILURE_WINDOW_S for at in met)
        return not self.lock_count and not is_owed and is_long_ago and self.not_before <= now

    def _charge_cpu(self, now: float, cpu_s: float) -> MailboxBackoff:
        owed_s = max(0.0, self.cpu_debt_s - max(0.0, now - self.cpu_debt_at) / CPU_REPAY_FACTOR) + cpu_s
        return replace(
            self, not_before=now + CPU_REPAY_FACTOR * max(0.0, owed_s - FREE_CPU_S), cpu_debt_s=owed_s, cpu_debt_at=now
        )

    def stop_reason(self, file: str, now: float, *, problem: str = "") -> str:
        """Why the session's container is to be stopped, for an operator; empty while it is not. `problem`: what the
        latest look met."""
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
