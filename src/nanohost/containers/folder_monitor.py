"""The folders that containers write: counted a moment at a time while these run, and to the end while they rest.

One count a folder, however many sessions write it. What a container takes while it runs can be hidden from a count (by
names that change all the time, or files that are moved on from folder to folder); while it does not run, nothing can.
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
from nanohost.containers.stuck import HealthLimits
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session
from nanohost.text.translation import lazy_gettext

MAX_REMEMBERED_FOLDERS = 1000
"""Folders of which the last count is remembered: a few hundred bytes each."""
RECENT_WINDOW_S = 3600.0
"""Whose container was looked at so lately may have made the disk short."""
COUNT_TIMEOUT_S = 20.0
"""For all folders together when the disk is short: the owner waits for the notice. A million entries take 5 s."""


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
        """Held for each step: one thread at a time counts."""
        self._idle_scan_lock = asyncio.Lock()
        """Held for a whole count at rest."""

    async def check(self, session: Session) -> FolderOverLimit | FolderUncountable | None:
        """Count on in each folder of a running container. The first with which something is wrong, if any is."""
        for footprint in self._footprints(session):
            if not footprint.needs_idle_scan and (found := await self._count_step(footprint)) is not None:
                return found
        return None

    async def record_baseline(self, session: Session) -> None:
        """Have what is there now be known from what comes, in the folders of a running container that were never
        counted: those that its agent's other sessions share are walked once."""
        for footprint in self._footprints(session):
            if footprint.latest_snapshot is None and not footprint.needs_idle_scan:
                await self._count_step(footprint)

    async def check_before_start(self, session: Session) -> FolderOverLimit | None:
        """What is not known of the folders: a moment for each that was never counted, so that what was there before is
        known from what comes; and those that have to be counted at rest, to their end."""
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
        """The folders that are to be counted while no container writes them."""
        return [one.watched for one in self._footprints(session) if one.needs_idle_scan]

    async def stop_counting_idle(self, running: Collection[Session]) -> None:
        """Only these run: of others nothing is kept open, and of many not all is remembered."""
        written = {watched.path for session in running for watched in self._writable_folders(session)}
        async with self._count_lock:  # what is being counted in a thread is left alone
            for path, known in list(self._states.items()):
                if path in written or known.footprint.is_idle:
                    continue
                known.footprint.abort()
                if len(self._states) > MAX_REMEMBERED_FOLDERS and not known.footprint.needs_idle_scan:
                    del self._states[path]

    async def measure_growth(self) -> list[FolderGrowth]:
        """How the folders of those who ran lately have grown since the disk had plenty. To be asked while none runs."""
        since = self._clock.monotonic() - RECENT_WINDOW_S
        known = [one for one in self._states.values() if one.footprint.checked_at >= since]
        await self._count_all([one.footprint for one in known])
        return [growth for one in known if (growth := await asyncio.to_thread(_folder_growth, one)) is not None]

    def over_limit(self) -> Mapping[Path, tuple[Session, WatchedFolder, int]]:
        """The folders that are above their limit and were so when they were first seen: whose, and how large then."""
        return {
            path: (one.session, one.footprint.watched, one.footprint.initial_bytes)
            for path, one in self._states.items()
            if one.footprint.initial_bytes
        }

    async def _count_all(self, footprints: Sequence[Footprint]) -> None:
        """In turns, so that one with much in it keeps no other from being counted."""
        until = self._clock.monotonic() + COUNT_TIMEOUT_S
        for footprint in footprints:
            footprint.begin_idle_scan()
        open_ones = list(footprints)
        while open_ones and self._clock.monotonic() < until:
            for footprint in list(open_ones):
                await self._count_step(footprint, checks_limit=False)
                if not footprint.is_counting():
                    footprint.end_idle_scan()
                    open_ones.remove(footprint)
        for footprint in open_ones:
            footprint.end_idle_scan()

    async def _scan_idle(self, footprint: Footprint) -> FolderOverLimit | FolderUncountable | None:
        async with self._idle_scan_lock:
            if not footprint.needs_idle_scan:
                return None  # it was counted for another session just now
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
            known = self._states.get(watched.path)
            if known is None:
                footprint = Footprint(
                    watched,
                    monotonic=self._clock.monotonic,
                    has_ample_space=partial(has_ample_space, reserve=self._limits.reserve_bytes),
                )
                known = self._states[watched.path] = _FolderState(session, footprint)
            known.session = session
            yield known.footprint

    def _writable_folders(self, session: Session) -> Iterator[WatchedFolder]:
        """All that the session's container may write on this machine's disks."""
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
    """Blocking."""
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
