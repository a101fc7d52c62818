"""Who made a disk short. Pure: how folders have grown since the disk had plenty, and what it has left, in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from nanohost.access.notify import notify_owners
from nanohost.clock import Clock
from nanohost.containers.disk_space import (
    RESUME_FACTOR,
    DiskResource,
    DiskSpace,
    low_resources,
    read_disk_space,
    reserved_amount,
)
from nanohost.containers.disk_usage import UsageSnapshot, WatchedFolder
from nanohost.db.database import Store
from nanohost.errors import NanohostError
from nanohost.model import Session
from nanohost.text.phrases import capitalize_first
from nanohost.text.translation import _, gettext_noop, lazy_gettext, translate
from nanohost_protocol.ids import derive_id
from nanohost_protocol.times import to_text

DOMINANT_SHARE = 0.5
"""Of what the disk lost: who wrote more than that wrote more than all others together, be they known or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderGrowth:
    """What a folder took while its disk had plenty, and what it takes now. `device`: its file system. `baseline` is
    None when it was not counted then. `session`: one of those that write it."""

    watched: WatchedFolder
    session: Session
    device: int
    current: UsageSnapshot
    baseline: UsageSnapshot | None = None

    def size(self, resource: DiskResource) -> int:
        return self.current.usage.disk_bytes if resource is DiskResource.BYTES else self.current.usage.entries

    def growth(self, resource: DiskResource) -> int:
        """0 when it is not known."""
        if self.baseline is None:
            return 0
        count = self.baseline.usage
        return self.size(resource) - (count.disk_bytes if resource is DiskResource.BYTES else count.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskConsumer:
    """Who made a disk short: a session, or with `is_group_wide` its agent group. `growths`: of all folders it
    writes."""

    session: Session
    is_group_wide: bool
    growths: Sequence[FolderGrowth]

    def growth(self, resource: DiskResource) -> int:
        return sum(max(0, one.growth(resource)) for one in self.growths)


def largest_growth(growths: Iterable[FolderGrowth], resource: DiskResource) -> FolderGrowth | None:
    """Whom to name: the folder that grew most, of those that did not grow the largest."""
    return max(growths, key=lambda one: (max(0, one.growth(resource)), one.size(resource)), default=None)


def find_dominant_consumer(
    growths: Sequence[FolderGrowth], space: DiskSpace, reserve: int, resource: DiskResource
) -> DiskConsumer | None:
    """Whoever has folders without whose growth the disk would have room for all to go on, and that grew by more than
    half of what the disk lost meanwhile: a session if it is one alone, else an agent group. None: nobody, or nobody
    alone, is the cause."""
    for suspects in (_consumers_by_session(growths), _consumers_by_group(growths)):
        found = max(suspects, key=lambda one: one.growth(resource), default=None)
        if found is not None and _is_dominant(found, space, reserve, resource):
            return found
    return None


def _consumers_by_session(growths: Iterable[FolderGrowth]) -> list[DiskConsumer]:
    own = [one for one in growths if not one.watched.is_group_wide]
    return [
        DiskConsumer(
            session=one.session,
            is_group_wide=False,
            growths=[each for each in own if each.session.id == one.session.id],
        )
        for one in own
    ]


def _consumers_by_group(growths: Sequence[FolderGrowth]) -> list[DiskConsumer]:
    """What lies in a workspace is any of its sessions' doing, so it is the group's; a session may fill all three."""
    return [
        DiskConsumer(
            session=one.session,
            is_group_wide=True,
            growths=[each for each in growths if each.session.agent_group_id == one.session.agent_group_id],
        )
        for one in growths
    ]


def _is_dominant(consumer: DiskConsumer, space: DiskSpace, reserve: int, resource: DiskResource) -> bool:
    grown = consumer.growth(resource)
    befores = [
        one.baseline.space.available(resource)
        for one in consumer.growths
        if one.baseline is not None and one.growth(resource) > 0
    ]
    if not befores:
        return False
    would_do = space.available(resource) + grown >= reserved_amount(space, reserve, resource) * RESUME_FACTOR
    return would_do and grown > (max(befores) - space.available(resource)) * DOMINANT_SHARE


def describe_growth(growth: FolderGrowth, resource: DiskResource) -> str:
    """A part of a sentence: which folder, whose, how large and by how much it grew."""
    watched, grown = growth.watched, growth.growth(resource)
    size = _format_amount(growth.size(resource), resource)
    if grown > 0:
        return lazy_gettext(
            "the {folder} folder of {owner} grew by {growth} to {size} ({path})",
            folder=watched.name,
            owner=watched.owner,
            growth=_format_amount(grown, resource),
            size=size,
            path=watched.path,
        )
    return lazy_gettext(
        "the {folder} folder of {owner} is the largest with {size} ({path})",
        folder=watched.name,
        owner=watched.owner,
        size=size,
        path=watched.path,
    )


def hold_reason(consumer: DiskConsumer, resource: DiskResource) -> str:
    """The reason of the hold."""
    most = largest_growth(consumer.growths, resource)
    assert most is not None, "a cause has grown"
    grown, size = _format_amount(consumer.growth(resource), resource), _format_amount(most.size(resource), resource)
    return lazy_gettext(
        "it took {growth} while the disk got short, most of it in its {folder} folder, which takes {size} now: remove"
        " what should not be there ({path})",
        growth=grown,
        folder=most.watched.name,
        size=size,
        path=most.watched.path,
    )


def _format_amount(amount: int, resource: DiskResource) -> str:
    if resource is DiskResource.BYTES:
        return f"{amount / 1024**2:,.0f} MiB"
    return lazy_gettext("{count} files", count=f"{amount:,}")


CHECK_INTERVAL_S = 0.5
"""A container writes a gigabyte a second at the most: what is usual as a reserve lasts from one look to the next."""
HOLD_RETRY_INTERVAL_S = 30.0
"""Between two tries to hold who made the disk short, while the disk refuses it: each is a line in the log. They are
stopped meanwhile, and tried once more before anybody goes on."""

_log = structlog.get_logger()


class ContainerControl(Protocol):
    """Whoever starts and stops them: the container manager."""

    def stop_for_low_disk(self) -> None: ...

    async def measure_growth(self) -> list[FolderGrowth]: ...

    async def hold_for_low_disk(self, session: Session, detail: str, *, is_group_wide: bool) -> bool: ...

    def resume_after_low_disk(self) -> None: ...


class MessageCollection(Protocol):
    """Whoever takes over what containers write: delivery."""

    def pause_collecting(self) -> None: ...

    def resume_collecting(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LowDisk:
    """A file system that is short: one of its folders, what it is short of, and who made it so, in words."""

    folder: Path
    space: DiskSpace
    resources: frozenset[DiskResource]
    largest_growth: str = ""

    @property
    def main_resource(self) -> DiskResource:
        """What to speak of."""
        return DiskResource.BYTES if DiskResource.BYTES in self.resources else DiskResource.INODES


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskScan:
    """`disks`: each file system once, by its device: the first of the folders that lies on it, and what it has left.
    `unreadable`: folders whose file system did not answer."""

    disks: Mapping[int, tuple[Path, DiskSpace]]
    unreadable: frozenset[Path] = frozenset()


def scan_disks(folders: Iterable[Path], read_space: Callable[[Path], DiskSpace] = read_disk_space) -> DiskScan:
    """What each file system has left. A folder that is not there says nothing of any. Blocking."""
    found: dict[int, tuple[Path, DiskSpace]] = {}
    unknown: set[Path] = set()
    for folder in folders:
        try:
            device = folder.stat().st_dev
            if device not in found:
                found[device] = (folder, read_space(folder))
        except OSError as error:
            _log.warning("disk_unreadable", folder=str(folder), error=str(error))
            if not isinstance(error, FileNotFoundError):
                unknown.add(folder)
    return DiskScan(disks=found, unreadable=frozenset(unknown))


def find_low_disks(scan: DiskScan, reserve: int, previous: Mapping[int, LowDisk]) -> dict[int, LowDisk]:
    """The file systems that are short by now. One that was, and does not answer, still is. Pure."""
    shorts = {
        device: was for device, was in previous.items() if device not in scan.disks and was.folder in scan.unreadable
    }
    for device, (folder, space) in scan.disks.items():
        was = previous.get(device)
        if of := low_resources(space, reserve, previous=was.resources if was else frozenset()):
            shorts[device] = (
                replace(was, space=space, resources=of) if was else LowDisk(folder=folder, space=space, resources=of)
            )
    return shorts


class DiskMonitor:
    """One per host. `folders`: what we and containers write, each perhaps on a file system of its own. `is_low`:
    containers are stopped."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        folders: Sequence[Path],
        reserve: int,
        containers: ContainerControl,
        collection: MessageCollection,
        read_space: Callable[[Path], DiskSpace] = read_disk_space,
    ) -> None:
        self._store = store
        self._clock = clock
        self._folders = folders
        self._reserve = reserve
        self._containers = containers
        self._collection = collection
        self._read_space = read_space
        self._low_disks: dict[int, LowDisk] = {}
        self._check_lock = asyncio.Lock()
        """Held while a disk is looked at, and while something is removed from it."""
        self._unnotified_since = ""
        self._pending_holds: list[tuple[DiskConsumer, DiskResource]] = []
        """Who is the cause, and not on hold yet."""
        self._next_hold_at = clock.monotonic()

    @property
    def is_low(self) -> bool:
        return bool(self._low_disks)

    def low_disks(self) -> list[LowDisk]:
        """The file systems that are short."""
        return list(self._low_disks.values())

    async def run(self) -> None:
        """For ever: look twice a second."""
        while True:
            await self.check()
            await self._clock.sleep(CHECK_INTERVAL_S)

    async def check(self) -> None:
        """Stop what is to be stopped, and let it go on. The owners are told as soon as the disk allows."""
        async with self._check_lock:
            looked = await asyncio.to_thread(scan_disks, self._folders, self._read_space)
            before, self._low_disks = self._low_disks, find_low_disks(looked, self._reserve, self._low_disks)
        new = self._low_disks.keys() - before.keys()
        if new:
            await self._handle_low_disks(new)
        if self._pending_holds and (not self._low_disks or self._clock.monotonic() >= self._next_hold_at):
            await self._place_holds()
        if before and not self._low_disks:
            _log.warning("disk_space_recovered", folders=[str(one.folder) for one in before.values()])
            self._unnotified_since = ""
            self._collection.resume_collecting()
            self._containers.resume_after_low_disk()
        if self._unnotified_since:
            await self._notify_owners()

    async def remove_unless_low(self, remove: Callable[[], Awaitable[None]]) -> None:
        """Remove something while no disk is short. While one is, nothing is removed: it may be what fills the disk, and
        is counted first. No look sees it half removed."""
        async with self._check_lock:
            if not self.is_low:
                await remove()

    async def _handle_low_disks(self, devices: Iterable[int]) -> None:
        """Stop all, then find out who it was: nothing that runs can hide from a count, and nothing grows meanwhile."""
        for device in devices:
            _log.error("disk_space_low", **_log_fields(self._low_disks[device]), effect="containers are stopped")
        self._unnotified_since = to_text(self._clock.now())
        self._collection.pause_collecting()
        self._containers.stop_for_low_disk()
        growths = await self._containers.measure_growth()
        for device in devices:
            short = self._low_disks[device]
            here = [one for one in growths if one.device == device]
            if (most := largest_growth(here, short.main_resource)) is None:
                continue
            self._low_disks[device] = replace(short, largest_growth=describe_growth(most, short.main_resource))
            _log.error("disk_consumer_found", folder=str(short.folder), what=self._low_disks[device].largest_growth)
            if (cause := find_dominant_consumer(here, short.space, self._reserve, short.main_resource)) is not None:
                self._pending_holds.append((cause, short.main_resource))

    async def _place_holds(self) -> None:
        for cause, what in list(self._pending_holds):
            if await self._containers.hold_for_low_disk(
                cause.session, hold_reason(cause, what), is_group_wide=cause.is_group_wide
            ):
                self._pending_holds.remove((cause, what))
        self._next_hold_at = self._clock.monotonic() + HOLD_RETRY_INTERVAL_S

    async def _notify_owners(self) -> None:
        """The owners, once each time it begins."""
        text = " ".join([*(_notice(short) for short in self._low_disks.values()), _(_RESUME_NOTICE)])
        cause = derive_id("disk", self._unnotified_since)
        try:
            async with self._store.transaction() as tx:
                await notify_owners(tx, text, exclude=(), cause=cause, now=self._clock.now())
        except NanohostError as error:
            _log.warning("owner_notify_failed", error=str(error))
            return
        self._unnotified_since = ""


_RESUME_NOTICE = gettext_noop(
    "I stopped all agents and keep what is left for the host. They resume by themselves when there is room: "
    "nanohost status, df -h, df -i"
)


def _notice(disk: LowDisk) -> str:
    if disk.main_resource is DiskResource.BYTES:
        free = f"{disk.space.free_bytes // 1024**2:,}"
        left = _("The disk is nearly full: {size} MiB are free in {folder}.", size=free, folder=disk.folder)
    else:
        left = _(
            "The disk can hold hardly any more files: {count} are left in {folder}.",
            count=f"{disk.space.free_inodes:,}",
            folder=disk.folder,
        )
    return f"{left} {capitalize_first(translate(disk.largest_growth))}." if disk.largest_growth else left


def _log_fields(disk: LowDisk) -> dict[str, str | int]:
    fields: dict[str, str | int] = {"folder": str(disk.folder), "free_mb": disk.space.free_bytes // 1024**2}
    return fields if disk.main_resource is DiskResource.BYTES else {**fields, "free_inodes": disk.space.free_inodes}
