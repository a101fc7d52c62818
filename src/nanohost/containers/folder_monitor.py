"""Counts the folders that containers write: in short steps while they run, and completely while they are stopped.

Each folder has one count, however many sessions write it. A running container can hide files from a count (by constant
renaming, or by moving files from folder to folder); a stopped one cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nanohost.clock import Clock
from nanohost.containers.disk_monitor import FolderGrowth
from nanohost.containers.disk_space import has_ample_space
from nanohost.containers.disk_usage import FolderOverLimit, FolderUncountable, Footprint, WatchedFolder
from nanohost.containers.stuck_policy import HealthLimits
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session
from nanohost.text.translation import lazy_gettext

MAX_REMEMBERED_FOLDERS = 1000
"""Folders whose last count is kept in memory: a few hundred bytes each."""
RECENT_WINDOW_S = 3600.0
"""Only folders that were checked in this window may have filled the disk."""
COUNT_TIMEOUT_S = 20.0
"""For all folders together when the disk is low: the owners wait for the notice. A million entries take 5 s."""


@dataclass(slots=True)
class _FolderState:
    session: Session
    footprint: Footprint


class FolderMonitor:
    """One per container manager."""

    def __init__(
        self, mailboxes: Mailboxes, clock: Clock, limits: HealthLimits, groups_dir: Path | None = None
    ) -> None:
        """`groups_dir`: where the agent groups' folders are; None: they are not watched."""
        self._mailboxes = mailboxes
        self._clock = clock
        self._limits = limits
        self._groups_dir = groups_dir
        self._states: dict[Path, _FolderState] = {}
        self._count_lock = asyncio.Lock()
        """Held for each step, so that one thread counts at a time."""
        self._idle_scan_lock = asyncio.Lock()
        """Held for a whole idle scan."""

    async def check(self, session: Session) -> FolderOverLimit | FolderUncountable | None:
        """Continue the count of each folder of a running container. Returns the first problem, or None."""
        for footprint in self._footprints(session):
            if not footprint.needs_idle_scan and (found := await self._count_step(footprint)) is not None:
                return found
        return None

    async def record_baseline(self, session: Session) -> None:
        """Begin the count of a running container's folders that were never counted, so that existing files are told
        from new ones. A folder that sessions share is counted once."""
        for footprint in self._footprints(session):
            if footprint.latest_snapshot is None and not footprint.needs_idle_scan:
                await self._count_step(footprint)

    async def check_before_start(self, session: Session) -> FolderOverLimit | None:
        """Count before a container starts: one step for each folder that was never counted, so that existing files are
        told from new ones, and a whole count for each that needs an idle scan. Returns the first folder over its
        limit."""
        for footprint in self._footprints(session):
            found = None
            if footprint.needs_idle_scan:
                found = await self._scan_idle(footprint)
            elif footprint.latest_snapshot is None:
                found = await self._count_step(footprint)
            if isinstance(found, FolderOverLimit):
                return found
        return None

    def folders_needing_idle_scan(self, session: Session) -> Sequence[WatchedFolder]:
        """Returns the folders that have to be counted while no container writes them."""
        return [one.watched for one in self._footprints(session) if one.needs_idle_scan]

    async def stop_counting_idle(self, running: Collection[Session]) -> None:
        """Abort the counts of all sessions but the running ones, and forget folders above MAX_REMEMBERED_FOLDERS."""
        written = {watched.path for session in running for watched in self._writable_folders(session)}
        async with self._count_lock:  # a thread may be counting
            for path, state in list(self._states.items()):
                if path in written or state.footprint.is_idle:
                    continue
                state.footprint.abort()
                if len(self._states) > MAX_REMEMBERED_FOLDERS and not state.footprint.needs_idle_scan:
                    del self._states[path]

    async def measure_growth(self) -> list[FolderGrowth]:
        """Returns how much recently checked folders have grown since their disk had ample space. Call it while no
        container runs."""
        since = self._clock.monotonic() - RECENT_WINDOW_S
        recent = [state for state in self._states.values() if state.footprint.checked_at >= since]
        await self._count_all([state.footprint for state in recent])
        return [growth for state in recent if (growth := await asyncio.to_thread(_folder_growth, state)) is not None]

    def over_limit(self) -> Mapping[Path, tuple[Session, WatchedFolder, int]]:
        """Returns the folders that were above their limit when first seen and still are: session, and size then."""
        return {
            path: (one.session, one.footprint.watched, one.footprint.initial_bytes)
            for path, one in self._states.items()
            if one.footprint.initial_bytes
        }

    async def _count_all(self, footprints: Sequence[Footprint]) -> None:
        """Count the folders in alternating steps, so that a large one does not delay the others."""
        until = self._clock.monotonic() + COUNT_TIMEOUT_S
        for footprint in footprints:
            footprint.begin_idle_scan()
        unfinished = list(footprints)
        while unfinished and self._clock.monotonic() < until:
            for footprint in list(unfinished):
                await self._count_step(footprint, checks_limit=False)
                if not footprint.is_counting():
                    footprint.end_idle_scan()
                    unfinished.remove(footprint)
        for footprint in unfinished:
            footprint.end_idle_scan()

    async def _scan_idle(self, footprint: Footprint) -> FolderOverLimit | FolderUncountable | None:
        async with self._idle_scan_lock:
            if not footprint.needs_idle_scan:
                return None  # another session's start has just counted it
            footprint.begin_idle_scan()
            found = await self._count_step(footprint)
            while found is None and footprint.is_counting():
                found = await self._count_step(footprint)
            footprint.end_idle_scan()
            return found

    async def _count_step(
        self, footprint: Footprint, *, checks_limit: bool = True
    ) -> FolderOverLimit | FolderUncountable | None:
        async with self._count_lock:
            return await asyncio.to_thread(footprint.count_step, checks_limit=checks_limit)

    def _footprints(self, session: Session) -> Iterator[Footprint]:
        for watched in self._writable_folders(session):
            state = self._states.get(watched.path)
            if state is None:
                footprint = Footprint(
                    watched,
                    monotonic=self._clock.monotonic,
                    has_ample_space=partial(has_ample_space, reserve=self._limits.reserve_bytes),
                )
                state = self._states[watched.path] = _FolderState(session, footprint)
            state.session = session
            yield state.footprint

    def _writable_folders(self, session: Session) -> Iterator[WatchedFolder]:
        """Yields all folders on this machine's disks that the session's container may write."""
        layout, limits = self._mailboxes.layout(session), self._limits
        for name, path in (("out", layout.out_dir), ("state", layout.state_dir), ("log", layout.log_dir)):
            yield WatchedFolder(
                name=name,
                path=path,
                limit_bytes=limits.max_session_bytes,
                setting="session_disk_mb",
                owner=lazy_gettext(
                    "session {session} of the agent {agent}", session=session.id, agent=session.group_folder
                ),
            )
        if self._groups_dir is not None:
            yield WatchedFolder(
                name="workspace",
                path=self._groups_dir / session.group_folder,
                limit_bytes=limits.max_workspace_bytes,
                setting="workspace_mb",
                owner=lazy_gettext("the agent {agent}", agent=session.group_folder),
                is_group_wide=True,
            )


def _folder_growth(state: _FolderState) -> FolderGrowth | None:
    """Returns the growth of a folder; None if it was never counted or is gone. Blocking."""
    footprint = state.footprint
    if footprint.latest_snapshot is None:
        return None
    try:
        device = footprint.watched.path.stat().st_dev
    except OSError:
        return None
    before = footprint.baseline if footprint.baseline is not footprint.latest_snapshot else None
    return FolderGrowth(
        watched=footprint.watched,
        session=state.session,
        device=device,
        current=footprint.latest_snapshot,
        baseline=before,
    )
