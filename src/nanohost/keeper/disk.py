"""Keeps some of the disk for the host itself: below that containers are stopped, and nothing of theirs is taken over.

The host then still has room for what people write, for its own notices and for what an operator says. What was stopped
is run again when there is room, and counts as no try.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from nanohost.access.telling import tell_owners
from nanohost.aftermath import Aftermath, Follows
from nanohost.clock import Clock
from nanohost.errors import NanohostError
from nanohost.store.database import Store
from nanohost_protocol.ids import derive
from nanohost_protocol.times import to_text

LOOK_EVERY_S = 0.5
"""A container writes a gigabyte a second at the most: what is usual as a reserve lasts from one look to the next."""
SHARE = 0.05
"""Of the disk: the reserve is never more, so that a small disk can be used at all. ext4 keeps as much for root."""
GO_ON = 1.25
"""Times the reserve: so much is free before containers start again, or one that fills the rest would be stopped and
started in turn."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Bytes of a disk: all of it, and what we may still write."""

    total: int
    free: int


class Containers(Protocol):
    """Whoever starts and stops them: the keeper."""

    def stop_for_disk(self) -> None: ...

    def disk_has_room(self) -> None: ...


class Takes(Protocol):
    """Whoever takes over what containers write: delivery."""

    def stop_taking(self) -> None: ...

    def take_again(self) -> None: ...


def space_of(folder: Path) -> Space:
    """Blocking. Raises OSError."""
    found = os.statvfs(folder)
    return Space(total=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize)


def is_short(space: Space, reserve: int, *, was_short: bool) -> bool:
    """Whether the host keeps what is left for itself. `reserve` in bytes, as it is set. Pure."""
    kept = min(reserve, int(space.total * SHARE))
    return space.free < (kept * GO_ON if was_short else kept)


class DiskReserve:
    """One per host. `short`: containers are stopped."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        folder: Path,
        reserve: int,
        containers: Containers,
        takes: Takes,
        follows: Follows,
        space: Callable[[Path], Space] = space_of,
    ) -> None:
        self._store = store
        self._clock = clock
        self._folder = folder
        self._reserve = reserve
        self._containers = containers
        self._takes = takes
        self._follows = follows
        self._space = space
        self.short = False
        self._untold = ""

    async def watch(self) -> None:
        """For ever: look twice a second."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Stop what is to be stopped, and let it go on. The owners are told as soon as the disk allows."""
        try:
            space = await asyncio.to_thread(self._space, self._folder)
        except OSError as error:
            _log.warning("disk_unknown", folder=str(self._folder), error=str(error))
            return
        was, self.short = self.short, is_short(space, self._reserve, was_short=self.short)
        free_mb = space.free // 1024**2
        if self.short and not was:
            _log.error("disk_short", folder=str(self._folder), free_mb=free_mb, effect="containers are stopped")
            self._untold = to_text(self._clock.now())
            self._takes.stop_taking()
            self._containers.stop_for_disk()
        elif was and not self.short:
            _log.warning("disk_has_room", folder=str(self._folder), free_mb=free_mb)
            self._untold = ""
            self._takes.take_again()
            self._containers.disk_has_room()
        if self._untold:
            await self._tell(free_mb)

    async def _tell(self, free_mb: int) -> None:
        """The owners, once each time it begins."""
        aftermath = Aftermath()
        text = (
            f"The disk is nearly full: {free_mb:,} MiB are free. I stopped all agents and keep the rest for myself. "
            "They go on by themselves when there is room: nanohost status, df -h"
        )
        cause = derive("disk", self._untold)
        try:
            async with self._store.transaction() as tx:
                await tell_owners(tx, text, but=(), cause=cause, now=self._clock.now(), aftermath=aftermath)
        except NanohostError as error:
            _log.warning("owners_not_told", error=str(error))
            return
        self._untold = ""
        self._follows.follow(aftermath)
