"""Checks running containers and finds those that are stuck: one lstat and one small read each, a few times a minute.

Never: trusts what a container writes. Of a heartbeat's time only changes count, and no claim of a container can delay
the finding that it is stuck by more than a day.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from nanohost.clock import Clock
from nanohost.containers.disk_usage import FolderOverLimit, FolderUncountable
from nanohost.containers.folder_monitor import FolderMonitor
from nanohost.containers.stuck_policy import (
    HealthLimits,
    Healthy,
    HeartbeatStamp,
    ProgressSample,
    ProgressTracker,
    Stuck,
    evaluate,
)
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.queries import RunnerProgress
from nanohost.model import LeaseId, Session, SessionId

CHECK_INTERVAL_S = 10.0


class HealthMonitor:
    """One per container manager. Tracks the progress of each living container."""

    def __init__(
        self, mailboxes: Mailboxes, clock: Clock, limits: HealthLimits, groups_dir: Path | None = None
    ) -> None:
        """`groups_dir`: where the agent groups' folders are; None: they are not watched."""
        self.folders = FolderMonitor(mailboxes, clock, limits, groups_dir)
        self._mailboxes = mailboxes
        self._clock = clock
        self._limits = limits
        self._progress: dict[LeaseId, ProgressTracker] = {}
        self._last_check = clock.monotonic()
        self._unsaved: dict[SessionId, datetime] = {}

    def unsaved_conversations(self) -> dict[SessionId, datetime]:
        """Returns the sessions whose latest turns are not saved in the conversation, and since when that is known. The
        last report of a container counts until the next container reports otherwise."""
        return dict(self._unsaved)

    def next_check_s(self) -> float:
        """Returns the seconds until the next round of checks."""
        return max(0.0, self._last_check + CHECK_INTERVAL_S - self._clock.monotonic())

    async def begin_round(self, running: AbstractSet[LeaseId], sessions: Collection[Session]) -> None:
        """Begin a round of checks and forget the containers that do not run. `sessions`: those of `running`."""
        self._last_check = self._clock.monotonic()
        self._progress = {lease: one for lease, one in self._progress.items() if lease in running}
        await self.folders.stop_counting_idle(sessions)

    def stalled_s(self, lease: LeaseId) -> float:
        """Returns the seconds since the container's turn last showed progress; 0 if none runs or was checked yet."""
        return self._progress[lease].stalled_s if lease in self._progress else 0.0

    async def check(
        self, session: Session, lease: LeaseId, *, is_due: bool, is_busy: bool
    ) -> Healthy | Stuck | FolderUncountable:
        """Check a running container. `is_due`: messages wait for it. `is_busy`: it is known to work."""
        heartbeat = self._mailboxes.layout(session).heartbeat
        progress = self._progress.get(lease)
        if progress is None:
            progress = self._progress[lease] = ProgressTracker(_heartbeat_stamp(heartbeat), self._clock.monotonic())
        sample, read_error = await self._read_progress(session, lease)
        if sample is not None:
            self._note_saved(session.id, is_saved="not_kept" not in sample.state)
        progress.update(
            _heartbeat_stamp(heartbeat),
            sample,
            self._clock.monotonic(),
            is_due=is_due,
            is_busy=is_busy,
            read_error=read_error,
        )
        signals = progress.signals(self._clock.now())
        problem = await self.folders.check(session)
        if isinstance(problem, FolderOverLimit):
            signals = replace(signals, oversized_folder=problem)
        health = evaluate(signals, self._limits)
        return problem if isinstance(problem, FolderUncountable) and isinstance(health, Healthy) else health

    def _note_saved(self, session: SessionId, *, is_saved: bool) -> None:
        if is_saved:
            self._unsaved.pop(session, None)
        else:
            self._unsaved.setdefault(session, self._clock.now())

    async def _read_progress(self, session: Session, lease: LeaseId) -> tuple[ProgressSample | None, str]:
        """Returns what outbound.db shows of the container's progress, or why it can never be read."""
        try:
            progress = await self._mailboxes.read_outbound(session, queries.progress())
        except MailboxError as error:
            # A failure of the machine (no descriptors left, a broken disk) is not the container's fault.
            return None, "" if isinstance(error.__cause__, OSError) else str(error.__cause__)
        return None if progress is None else _to_sample(progress, lease), ""


def _to_sample(progress: RunnerProgress, lease: LeaseId) -> ProgressSample:
    claims = [claim for claim in progress.claims if claim.container_id == lease]
    change = hash(
        (
            tuple(progress.state.items()),
            tuple((claim.message_id, claim.change) for claim in claims),
            progress.highest_seq,
        )
    )
    return ProgressSample(claims=len(claims), fingerprint=change, state=progress.state)


def _heartbeat_stamp(heartbeat: Path) -> HeartbeatStamp:
    try:
        found = heartbeat.lstat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino)
