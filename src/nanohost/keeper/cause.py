"""Who made a disk short. Pure: how folders have grown since the disk had plenty, and what it has left, in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nanohost.keeper.footprint import UsageSnapshot, WatchedFolder
from nanohost.keeper.space import RESUME_FACTOR, DiskResource, DiskSpace, reserved_amount
from nanohost.model import Session

DOMINANT_SHARE = 0.5
"""Of what the disk lost: who wrote more than that wrote more than all others together, be they known or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderGrowth:
    """What a folder took while its disk had plenty, and what it takes now. `device`: its file system. `baseline` is None
    when it was not counted then. `session`: one of those that write it."""

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
    """Who made a disk short: a session, or with `is_group_wide` its agent group. `growths`: of all folders it writes."""

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
    folder = f"the {growth.watched.name} folder of {growth.watched.owner}"
    size, grown = _format_amount(growth.size(resource), resource), growth.growth(resource)
    if grown > 0:
        return f"{folder} grew by {_format_amount(grown, resource)} to {size} ({growth.watched.path})"
    return f"{folder} is the largest with {size} ({growth.watched.path})"


def hold_reason(consumer: DiskConsumer, resource: DiskResource) -> str:
    """The reason of the hold."""
    most = largest_growth(consumer.growths, resource)
    assert most is not None, "a cause has grown"
    grown, size = _format_amount(consumer.growth(resource), resource), _format_amount(most.size(resource), resource)
    return (
        f"it took {grown} while the disk got short, most of it in its {most.watched.name} folder, which takes {size} "
        f"now: remove what should not be there ({most.watched.path})"
    )


def _format_amount(amount: int, resource: DiskResource) -> str:
    return f"{amount / 1024**2:,.0f} MiB" if resource is DiskResource.BYTES else f"{amount:,} files"
