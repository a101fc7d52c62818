"""How long a session's files are left alone after they were locked, slow to read, or did not answer. Facts in, facts
out: the caller brings the time and does the waiting.

Each session pays for what it takes: a file that is locked is tried again after pauses that double, and processor time
beyond a first amount is paid back SHARE times as long, however many looks it was spent on. So no number of sessions,
each of them at its worst, takes the readers from the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
"""Between two tries of a locked file. A runner holds its lock for the length of a commit, some milliseconds."""
FREE_CPU_S = 0.5
"""Processor seconds of looks that a session has for nothing: a burst of a thousand messages takes about as much."""
SHARE = 20.0
"""How much time pays for a look: five per cent of one processor. An ordinary look takes half a millisecond."""
LOCKED_LIMIT_S = 8.0
"""A runner's commits take milliseconds, on the slowest disk a second. A file that was locked at each try for this long
is locked on purpose, or by a process that hangs."""
HUNG_LIMIT = 2
"""Looks that did not return: a single one may have met a machine that stood still."""
REFUSED_LIMIT = 3
REFUSED_FOR_S = 8.0
"""Looks that found what is no mailbox, and for how long: a runner that starts may put right what it was left."""
REMEMBERED_S = 60.0
"""For how long a look that hung or was refused counts. What succeeds in between proves nothing: one
question may have its answer where another has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What is known of one session's file. Times are monotonic, in seconds."""

    not_before: float = 0.0
    """It is not looked at before."""
    owed_s: float = 0.0
    """Processor seconds that its looks took and time has not paid for yet, at `owed_at`."""
    owed_at: float = 0.0
    locked_in_a_row: int = 0
    locked_since: float = 0.0
    """When the first of those tries was."""
    refused: int = 0
    """Looks that found no mailbox, each less than REMEMBERED_S after the one before, the latest at `refused_at`."""
    refused_at: float = 0.0
    refused_since: float = 0.0
    hung: int = 0
    """Looks that did not return, likewise."""
    hung_at: float = 0.0

    def answered(self, now: float, *, cpu_s: float) -> Patience:
        """A look found what it looked for, in that much processor time."""
        return replace(self._charged(now, cpu_s), locked_in_a_row=0)

    def refusing(self, now: float, *, cpu_s: float) -> Patience:
        """What a look found is no mailbox, or more than any."""
        before = self.refused if now - self.refused_at < REMEMBERED_S else 0
        charged = self._charged(now, cpu_s)
        return replace(
            charged,
            not_before=max(charged.not_before, now + _growing_s(before)),
            refused=before + 1,
            refused_at=now,
            refused_since=self.refused_since if before else now,
            locked_in_a_row=0,
        )

    def locked(self, now: float) -> Patience:
        """The file was locked."""
        return replace(
            self,
            not_before=now + _growing_s(self.locked_in_a_row),
            locked_in_a_row=self.locked_in_a_row + 1,
            locked_since=self.locked_since if self.locked_in_a_row else now,
        )

    def hanging(self, now: float) -> Patience:
        """A look did not return."""
        hung = self.hung + 1 if now - self.hung_at < REMEMBERED_S else 1
        return replace(self, not_before=now + FIRST_PAUSE_S, hung=hung, hung_at=now)

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing that was met before makes a difference any more."""
        met = [at for count, at in ((self.refused, self.refused_at), (self.hung, self.hung_at)) if count]
        is_owed = self.owed_s > (now - self.owed_at) / SHARE
        is_long_ago = all(now - at >= REMEMBERED_S for at in met)
        return not self.locked_in_a_row and not is_owed and is_long_ago and self.not_before <= now

    def _charged(self, now: float, cpu_s: float) -> Patience:
        owed_s = max(0.0, self.owed_s - max(0.0, now - self.owed_at) / SHARE) + cpu_s
        return replace(self, not_before=now + SHARE * max(0.0, owed_s - FREE_CPU_S), owed_s=owed_s, owed_at=now)

    def verdict(self, file: str, now: float, *, problem: str = "") -> str:
        """Why the session's container is to be stopped, for an operator; empty while it is not. `problem`: what the
        latest look met."""
        if self.hung >= HUNG_LIMIT:
            return f"its {file} does not let itself be read: looks at it do not return"
        if self.refused >= REFUSED_LIMIT and self.refused_at - self.refused_since >= REFUSED_FOR_S:
            return f"its {file} cannot be read: {problem}"
        locked_s = now - self.locked_since
        if self.locked_in_a_row > 1 and locked_s >= LOCKED_LIMIT_S:
            return f"its {file} has been locked for {locked_s:.0f} s"
        return ""


def _growing_s(in_a_row: int) -> float:
    return min(FIRST_PAUSE_S * 2.0 ** min(in_a_row, 10), LONGEST_PAUSE_S)
