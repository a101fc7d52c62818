"""Stops containers when a disk is nearly full, finds out which session or agent filled it, and holds that."""

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
"""Of the lost free space: a consumer that wrote more than this share wrote more than all others together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderGrowth:
    """The size of a folder while its disk had ample space, and now. `device`: its file system. `baseline` is None if it
    was not counted then. `session`: one of the sessions that write it."""

    watched: WatchedFolder
    session: Session
    device: int
    current: UsageSnapshot
    baseline: UsageSnapshot | None = None

    def size(self, resource: DiskResource) -> int:
        return self.current.usage.disk_bytes if resource is DiskResource.BYTES else self.current.usage.entries

    def growth(self, resource: DiskResource) -> int:
        """Returns by how much the folder grew; 0 if that is not known."""
        if self.baseline is None:
            return 0
        count = self.baseline.usage
        return self.size(resource) - (count.disk_bytes if resource is DiskResource.BYTES else count.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskConsumer:
    """A session, or with `is_group_wide` an agent group, that may have filled a disk. `growths`: of all folders that it
    writes."""

    session: Session
    is_group_wide: bool
    growths: Sequence[FolderGrowth]

    def growth(self, resource: DiskResource) -> int:
        return sum(max(0, one.growth(resource)) for one in self.growths)


def largest_growth(growths: Iterable[FolderGrowth], resource: DiskResource) -> FolderGrowth | None:
    """Returns the folder that grew most; if none grew, the largest."""
    return max(growths, key=lambda one: (max(0, one.growth(resource)), one.size(resource)), default=None)


def find_dominant_consumer(
    growths: Sequence[FolderGrowth], space: DiskSpace, reserve: int, resource: DiskResource
) -> DiskConsumer | None:
    """Returns the consumer that alone filled the disk: a session if there is one, else an agent group.

    Without the growth of its folders the disk would have enough space to resume, and its folders grew by more than half
    of what the disk lost meanwhile. None if no single consumer is the cause.
    """
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
    """Returns a consumer for each agent group: any of its sessions may have written to its workspace."""
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
    is_enough = space.available(resource) + grown >= reserved_amount(space, reserve, resource) * RESUME_FACTOR
    return is_enough and grown > (max(befores) - space.available(resource)) * DOMINANT_SHARE


def describe_growth(growth: FolderGrowth, resource: DiskResource) -> str:
    """Returns a part of a sentence: which folder, whose, how large it is and by how much it grew."""
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
    """Returns the reason of the hold, for the operator."""
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
"""A container writes at most about a gigabyte a second: the default reserve lasts from one check to the next."""
HOLD_RETRY_INTERVAL_S = 30.0
"""Between two attempts to record a hold on a full disk; each failure is a line in the log. All containers are stopped
meanwhile, and the hold is tried once more before they start again."""

_log = structlog.get_logger()


class ContainerControl(Protocol):
    """Stops and holds containers; implemented by the container manager."""

    def stop_for_low_disk(self) -> None: ...

    async def measure_growth(self) -> list[FolderGrowth]: ...

    async def hold_for_low_disk(self, session: Session, detail: str, *, is_group_wide: bool) -> bool: ...

    def resume_after_low_disk(self) -> None: ...


class MessageCollection(Protocol):
    """Collects the messages that containers write; implemented by delivery."""

    def pause_collecting(self) -> None: ...

    def resume_collecting(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LowDisk:
    """A file system that is low: one of its folders, the resources that are low, and the largest growth, in words."""

    folder: Path
    space: DiskSpace
    resources: frozenset[DiskResource]
    largest_growth: str = ""

    @property
    def main_resource(self) -> DiskResource:
        """The resource to name to people."""
        return DiskResource.BYTES if DiskResource.BYTES in self.resources else DiskResource.INODES


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskScan:
    """`disks`: each file system once, by its device, with the first folder on it and its free space. `unreadable`:
    folders whose file system could not be read."""

    disks: Mapping[int, tuple[Path, DiskSpace]]
    unreadable: frozenset[Path] = frozenset()


def scan_disks(folders: Iterable[Path], read_space: Callable[[Path], DiskSpace] = read_disk_space) -> DiskScan:
    """Read the free space of each folder's file system. A folder that does not exist is left out. Blocking."""
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
    """Returns the file systems that are low now. One that was low and cannot be read now counts as low. Pure."""
    low_disks = {
        device: disk for device, disk in previous.items() if device not in scan.disks and disk.folder in scan.unreadable
    }
    for device, (folder, space) in scan.disks.items():
        before = previous.get(device)
        if low := low_resources(space, reserve, previous=before.resources if before else frozenset()):
            low_disks[device] = (
                replace(before, space=space, resources=low)
                if before
                else LowDisk(folder=folder, space=space, resources=low)
            )
    return low_disks


class DiskMonitor:
    """One per host. `folders`: the folders that the host and containers write, each perhaps on its own file system.
    While `is_low`, containers are stopped."""

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
        """Held while the disks are scanned, and while something is removed from one."""
        self._unnotified_since = ""
        self._pending_holds: list[tuple[DiskConsumer, DiskResource]] = []
        """The consumers that filled a disk and are not on hold yet."""
        self._next_hold_at = clock.monotonic()

    @property
    def is_low(self) -> bool:
        return bool(self._low_disks)

    def low_disks(self) -> list[LowDisk]:
        """Returns the file systems that are low."""
        return list(self._low_disks.values())

    async def run(self) -> None:
        """Run for ever: check twice a second."""
        while True:
            await self.check()
            await self._clock.sleep(CHECK_INTERVAL_S)

    async def check(self) -> None:
        """Scan the disks. Stop all containers if one is low, or resume them. Notify the owners once the disk allows."""
        async with self._check_lock:
            scan = await asyncio.to_thread(scan_disks, self._folders, self._read_space)
            before, self._low_disks = self._low_disks, find_low_disks(scan, self._reserve, self._low_disks)
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
        """Remove something, unless a disk is low: it may be what fills the disk, and is measured first. Disks are not
        scanned during the removal."""
        async with self._check_lock:
            if not self.is_low:
                await remove()

    async def _handle_low_disks(self, devices: Iterable[int]) -> None:
        """Stop all containers, then find out which one filled the disk: nothing changes while folders are measured."""
        for device in devices:
            _log.error("disk_space_low", **_log_fields(self._low_disks[device]), effect="containers are stopped")
        self._unnotified_since = to_text(self._clock.now())
        self._collection.pause_collecting()
        self._containers.stop_for_low_disk()
        growths = await self._containers.measure_growth()
        for device in devices:
            disk = self._low_disks[device]
            on_device = [growth for growth in growths if growth.device == device]
            if (largest := largest_growth(on_device, disk.main_resource)) is None:
                continue
            self._low_disks[device] = replace(disk, largest_growth=describe_growth(largest, disk.main_resource))
            _log.error("disk_consumer_found", folder=str(disk.folder), what=self._low_disks[device].largest_growth)
            consumer = find_dominant_consumer(on_device, disk.space, self._reserve, disk.main_resource)
            if consumer is not None:
                self._pending_holds.append((consumer, disk.main_resource))

    async def _place_holds(self) -> None:
        for consumer, resource in list(self._pending_holds):
            if await self._containers.hold_for_low_disk(
                consumer.session, hold_reason(consumer, resource), is_group_wide=consumer.is_group_wide
            ):
                self._pending_holds.remove((consumer, resource))
        self._next_hold_at = self._clock.monotonic() + HOLD_RETRY_INTERVAL_S

    async def _notify_owners(self) -> None:
        """Notify the owners, once each time that a disk becomes low."""
        text = " ".join([*(_notice(disk) for disk in self._low_disks.values()), _(_RESUME_NOTICE)])
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
