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
from nanohost.keeper.cause import Growth
from nanohost.keeper.footprint import Footprint, Grown, Uncounted, Watched
from nanohost.keeper.space import has_plenty
from nanohost.keeper.stuck import Limits
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session

MOST_KEPT = 1000
"""Folders of which the last count is remembered: a few hundred bytes each."""
LATELY_S = 3600.0
"""Whose container was looked at so lately may have made the disk short."""
COUNT_S = 20.0
"""For all folders together when the disk is short: the owner waits for the notice. A million entries take 5 s."""


@dataclass(slots=True)
class _Folder:
    session: Session
    footprint: Footprint


class Folders:
    """One per keeper."""

    def __init__(self, mailboxes: Mailboxes, clock: Clock, limits: Limits, groups: Path | None = None) -> None:
        """`groups`: where the agent groups' folders are; None: they are not watched."""
        self._mailboxes = mailboxes
        self._clock = clock
        self._limits = limits
        self._groups = groups
        self._known: dict[Path, _Folder] = {}
        self._counting = asyncio.Lock()
        """Held for each step: one thread at a time counts."""
        self._resting = asyncio.Lock()
        """Held for a whole count at rest."""

    async def look(self, session: Session) -> Grown | Uncounted | None:
        """Count on in each folder of a running container. The first with which something is wrong, if any is."""
        for footprint in self._of(session):
            if not footprint.needs_rest and (found := await self._step(footprint)) is not None:
                return found
        return None

    async def begin(self, session: Session) -> None:
        """Have what is there now be known from what comes, in the folders of a running container that were never
        counted: those that its agent's other sessions share are walked once."""
        for footprint in self._of(session):
            if footprint.latest is None and not footprint.needs_rest:
                await self._step(footprint)

    async def before_start(self, session: Session) -> Grown | None:
        """What is not known of the folders: a moment for each that was never counted, so that what was there before is
        known from what comes; and those that have to be counted at rest, to their end."""
        for footprint in self._of(session):
            found = None
            if footprint.needs_rest:
                found = await self._to_the_end(footprint)
            elif footprint.latest is None:
                found = await self._step(footprint)
            if isinstance(found, Grown):
                return found
        return None

    def needs_rest(self, session: Session) -> Sequence[Watched]:
        """The folders that are to be counted while no container writes them."""
        return [one.watched for one in self._of(session) if one.needs_rest]

    async def rest(self, living: Collection[Session]) -> None:
        """Only these run: of others nothing is kept open, and of many not all is remembered."""
        written = {watched.path for session in living for watched in self._writable(session)}
        async with self._counting:  # what is being counted in a thread is left alone
            for path, known in list(self._known.items()):
                if path in written or known.footprint.is_at_rest:
                    continue
                known.footprint.interrupt()
                if len(self._known) > MOST_KEPT and not known.footprint.needs_rest:
                    del self._known[path]

    async def growths(self) -> list[Growth]:
        """How the folders of those who ran lately have grown since the disk had plenty. To be asked while none runs."""
        since = self._clock.monotonic() - LATELY_S
        known = [one for one in self._known.values() if one.footprint.looked >= since]
        await self._count([one.footprint for one in known])
        return [growth for one in known if (growth := await asyncio.to_thread(_growth, one)) is not None]

    def above(self) -> Mapping[Path, tuple[Session, Watched, int]]:
        """The folders that are above their limit and were so when they were first seen: whose, and how large then."""
        return {
            path: (one.session, one.footprint.watched, one.footprint.first_seen)
            for path, one in self._known.items()
            if one.footprint.first_seen
        }

    async def _count(self, footprints: Sequence[Footprint]) -> None:
        """In turns, so that one with much in it keeps no other from being counted."""
        until = self._clock.monotonic() + COUNT_S
        for footprint in footprints:
            footprint.begin_at_rest()
        open_ones = list(footprints)
        while open_ones and self._clock.monotonic() < until:
            for footprint in list(open_ones):
                await self._step(footprint, judge=False)
                if not footprint.is_counting():
                    footprint.end_rest()
                    open_ones.remove(footprint)
        for footprint in open_ones:
            footprint.end_rest()

    async def _to_the_end(self, footprint: Footprint) -> Grown | Uncounted | None:
        async with self._resting:
            if not footprint.needs_rest:
                return None  # it was counted for another session just now
            footprint.begin_at_rest()
            found = await self._step(footprint)
            while found is None and footprint.is_counting():
                found = await self._step(footprint)
            footprint.end_rest()
            return found

    async def _step(self, footprint: Footprint, *, judge: bool = True) -> Grown | Uncounted | None:
        async with self._counting:
            return await asyncio.to_thread(footprint.look, judge=judge)

    def _of(self, session: Session) -> Iterator[Footprint]:
        for watched in self._writable(session):
            known = self._known.get(watched.path)
            if known is None:
                footprint = Footprint(
                    watched,
                    monotonic=self._clock.monotonic,
                    has_plenty=partial(has_plenty, reserve=self._limits.reserve_bytes),
                )
                known = self._known[watched.path] = _Folder(session, footprint)
            known.session = session
            yield known.footprint

    def _writable(self, session: Session) -> Iterator[Watched]:
        """All that the session's container may write on this machine's disks."""
        layout, limits = self._mailboxes.layout(session), self._limits
        for name, path in (("out", layout.out_dir), ("state", layout.state_dir), ("log", layout.log_dir)):
            yield Watched(
                name=name,
                path=path,
                limit=limits.session_bytes,
                setting="session_disk_mb",
                whose=f"session {session.id} of the agent {session.group_folder}",
            )
        if self._groups is not None:
            yield Watched(
                name="workspace",
                path=self._groups / session.group_folder,
                limit=limits.workspace_bytes,
                setting="workspace_mb",
                whose=f"the agent {session.group_folder}",
                of_group=True,
            )


def _growth(known: _Folder) -> Growth | None:
    """Blocking."""
    footprint = known.footprint
    if footprint.latest is None:
        return None
    try:
        device = footprint.watched.path.stat().st_dev
    except OSError:
        return None
    before = footprint.plenty if footprint.plenty is not footprint.latest else None
    return Growth(watched=footprint.watched, session=known.session, device=device, now=footprint.latest, before=before)
