"""Keeps some of each disk for the host itself: below that containers are stopped, and nothing of theirs is taken over.

The host then still has room for what people write, for its own notices and for what an operator says. Who made the disk
short is named, and held if that is clear. What was stopped is run again when there is room, and counts as no try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from nanohost.access.telling import tell_owners
from nanohost.clock import Clock
from nanohost.errors import NanohostError
from nanohost.keeper.cause import Cause, Growth, clear_cause, in_words, most_grown, why_held
from nanohost.keeper.space import Scarce, Space, short_of, space_of
from nanohost.model import Session
from nanohost.store.database import Store
from nanohost_protocol.ids import derive
from nanohost_protocol.times import to_text

LOOK_EVERY_S = 0.5
"""A container writes a gigabyte a second at the most: what is usual as a reserve lasts from one look to the next."""
HOLD_EVERY_S = 30.0
"""Between two tries to hold who made the disk short, while the disk refuses it: each is a line in the log. They are
stopped meanwhile, and tried once more before anybody goes on."""

_log = structlog.get_logger()


class Containers(Protocol):
    """Whoever starts and stops them: the keeper."""

    def stop_for_disk(self) -> None: ...

    async def growths(self) -> list[Growth]: ...

    async def hold_for_disk(self, session: Session, sentence: str, *, of_group: bool) -> bool: ...

    def disk_has_room(self) -> None: ...


class Takes(Protocol):
    """Whoever takes over what containers write: delivery."""

    def stop_taking(self) -> None: ...

    def take_again(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """A file system that is short: one of its folders, what it is short of, and who made it so, in words."""

    folder: Path
    space: Space
    of: frozenset[Scarce]
    grew: str = ""

    @property
    def what(self) -> Scarce:
        """What to speak of."""
        return Scarce.BYTES if Scarce.BYTES in self.of else Scarce.INODES


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """`found`: each file system once, by its device: the first of the folders that lies on it, and what it has left.
    `unknown`: folders whose file system did not answer."""

    found: Mapping[int, tuple[Path, Space]]
    unknown: frozenset[Path] = frozenset()


def looked_at(folders: Iterable[Path], space: Callable[[Path], Space] = space_of) -> Looked:
    """What each file system has left. A folder that is not there says nothing of any. Blocking."""
    found: dict[int, tuple[Path, Space]] = {}
    unknown: set[Path] = set()
    for folder in folders:
        try:
            device = folder.stat().st_dev
            if device not in found:
                found[device] = (folder, space(folder))
        except OSError as error:
            _log.warning("disk_unknown", folder=str(folder), error=str(error))
            if not isinstance(error, FileNotFoundError):
                unknown.add(folder)
    return Looked(found=found, unknown=frozenset(unknown))


def shortages(looked: Looked, reserve: int, before: Mapping[int, Short]) -> dict[int, Short]:
    """The file systems that are short by now. One that was, and does not answer, still is. Pure."""
    shorts = {
        device: was for device, was in before.items() if device not in looked.found and was.folder in looked.unknown
    }
    for device, (folder, space) in looked.found.items():
        was = before.get(device)
        if of := short_of(space, reserve, was=was.of if was else frozenset()):
            shorts[device] = replace(was, space=space, of=of) if was else Short(folder=folder, space=space, of=of)
    return shorts


class DiskReserve:
    """One per host. `folders`: what we and containers write, each perhaps on a file system of its own. `short`:
    containers are stopped."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        folders: Sequence[Path],
        reserve: int,
        containers: Containers,
        takes: Takes,
        space: Callable[[Path], Space] = space_of,
    ) -> None:
        self._store = store
        self._clock = clock
        self._folders = folders
        self._reserve = reserve
        self._containers = containers
        self._takes = takes
        self._space = space
        self._shorts: dict[int, Short] = {}
        self._looking = asyncio.Lock()
        """Held while a disk is looked at, and while something is removed from it."""
        self._untold = ""
        self._to_hold: list[tuple[Cause, Scarce]] = []
        """Who is the cause, and not on hold yet."""
        self._hold_at = clock.monotonic()

    @property
    def short(self) -> bool:
        return bool(self._shorts)

    def shorts(self) -> list[Short]:
        """The file systems that are short."""
        return list(self._shorts.values())

    async def watch(self) -> None:
        """For ever: look twice a second."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Stop what is to be stopped, and let it go on. The owners are told as soon as the disk allows."""
        async with self._looking:
            looked = await asyncio.to_thread(looked_at, self._folders, self._space)
            before, self._shorts = self._shorts, shortages(looked, self._reserve, self._shorts)
        new = self._shorts.keys() - before.keys()
        if new:
            await self._begin(new)
        if self._to_hold and (not self._shorts or self._clock.monotonic() >= self._hold_at):
            await self._hold()
        if before and not self._shorts:
            _log.warning("disk_has_room", folders=[str(one.folder) for one in before.values()])
            self._untold = ""
            self._takes.take_again()
            self._containers.disk_has_room()
        if self._untold:
            await self._tell()

    async def unless_short(self, remove: Callable[[], Awaitable[None]]) -> None:
        """Remove something while no disk is short. While one is, nothing is removed: it may be what fills the disk, and
        is counted first. No look sees it half removed."""
        async with self._looking:
            if not self.short:
                await remove()

    async def _begin(self, devices: Iterable[int]) -> None:
        """Stop all, then find out who it was: nothing that runs can hide from a count, and nothing grows meanwhile."""
        for device in devices:
            _log.error("disk_short", **_fields(self._shorts[device]), effect="containers are stopped")
        self._untold = to_text(self._clock.now())
        self._takes.stop_taking()
        self._containers.stop_for_disk()
        growths = await self._containers.growths()
        for device in devices:
            short = self._shorts[device]
            here = [one for one in growths if one.device == device]
            if (most := most_grown(here, short.what)) is None:
                continue
            self._shorts[device] = replace(short, grew=in_words(most, short.what))
            _log.error("disk_filled", folder=str(short.folder), what=self._shorts[device].grew)
            if (cause := clear_cause(here, short.space, self._reserve, short.what)) is not None:
                self._to_hold.append((cause, short.what))

    async def _hold(self) -> None:
        for cause, what in list(self._to_hold):
            if await self._containers.hold_for_disk(cause.session, why_held(cause, what), of_group=cause.of_group):
                self._to_hold.remove((cause, what))
        self._hold_at = self._clock.monotonic() + HOLD_EVERY_S

    async def _tell(self) -> None:
        """The owners, once each time it begins."""
        text = " ".join([*(_notice(short) for short in self._shorts.values()), _GOES_ON])
        cause = derive("disk", self._untold)
        try:
            async with self._store.transaction() as tx:
                await tell_owners(tx, text, but=(), cause=cause, now=self._clock.now())
        except NanohostError as error:
            _log.warning("owners_not_told", error=str(error))
            return
        self._untold = ""


_GOES_ON = (
    "I stopped all agents and keep the rest for myself. They go on by themselves when there is room: "
    "nanohost status, df -h, df -i"
)


def _notice(short: Short) -> str:
    if short.what is Scarce.BYTES:
        left = f"The disk is nearly full: {short.space.free // 1024**2:,} MiB are free in {short.folder}."
    else:
        left = f"The disk can hold hardly any more files: {short.space.free_inodes:,} are left in {short.folder}."
    return f"{left} {short.grew[0].upper()}{short.grew[1:]}." if short.grew else left


def _fields(short: Short) -> dict[str, str | int]:
    fields: dict[str, str | int] = {"folder": str(short.folder), "free_mb": short.space.free // 1024**2}
    return fields if short.what is Scarce.BYTES else {**fields, "free_inodes": short.space.free_inodes}
