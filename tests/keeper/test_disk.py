"""Some of the disk is kept for the host: when only that is left, containers stop, until there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from nanohost.aftermath import Aftermath
from nanohost.app import opened_store
from nanohost.home import Home
from nanohost.keeper.disk import DiskReserve, Space, is_short, space_of
from nanohost.model import Role
from nanohost.store import roles, users
from nanohost.store.database import Store
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.rows import Origin

MIB = 1024**2


class Told:
    """Satisfies Containers, Takes and Follows: what each was told, in order."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def stop_for_disk(self) -> None:
        self.words.append("stop")

    def disk_has_room(self) -> None:
        self.words.append("start")

    def stop_taking(self) -> None:
        self.words.append("stop taking")

    def take_again(self) -> None:
        self.words.append("take")

    def follow(self, aftermath: Aftermath) -> None:
        self.words += [f"owner in {lane.platform_id}" for lane in aftermath.lanes]


@asynccontextmanager
async def store_with_owner(root: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with opened_store(Home(root), durable=False) as store:
        place = Origin(channel_type="fake", instance="default", platform_id="d")
        async with store.transaction() as tx:
            await users.seen(tx, "fake:boss", name="Boss", now=clock.now())
            await users.learn_dm(tx, "fake:boss", place, clock.now())
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=clock.now())
        yield store


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A disk of its own. Skips without the right to mount."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "nanohost-small-disk", str(folder)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        with suppress(subprocess.SubprocessError):
            subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("space", "was_short", "short"),
    [
        (Space(total=100_000 * MIB, free=512 * MIB), False, False),
        (Space(total=100_000 * MIB, free=512 * MIB - 1), False, True),
        (Space(total=100_000 * MIB, free=600 * MIB), True, True),
        (Space(total=100_000 * MIB, free=640 * MIB), True, False),
        (Space(total=1_000 * MIB, free=50 * MIB), False, False),
        (Space(total=1_000 * MIB, free=49 * MIB), False, True),
    ],
)
def test_the_reserve_is_what_was_set_but_a_twentieth_of_a_small_disk(
    space: Space, was_short: bool, short: bool
) -> None:
    assert is_short(space, 512 * MIB, was_short=was_short) is short


def test_no_reserve_is_none_even_on_a_full_disk() -> None:
    assert not is_short(Space(total=MIB, free=0), 0, was_short=False)


async def test_a_disk_that_fills_stops_containers_tells_the_owner_once_and_all_goes_on_with_room(
    tmp_path: Path,
) -> None:
    disk, clock, told = tmp_path / "disk", ManualClock(), Told()
    with small_disk(disk, 40):
        async with store_with_owner(tmp_path / "home", clock) as store:
            reserve = DiskReserve(
                store=store, clock=clock, folder=disk, reserve=512 * MIB, containers=told, takes=told, follows=told
            )
            await reserve.look()
            assert told.words == []
            (disk / "hoard").write_bytes(b"\1" * (space_of(disk).free - MIB))
            await reserve.look()
            await reserve.look()
            assert told.words == ["stop taking", "stop", "owner in d"]
            assert reserve.short
            (disk / "hoard").unlink()
            await reserve.look()
            await reserve.look()
            assert told.words[3:] == ["take", "start"]


async def test_an_owner_who_cannot_be_told_on_a_full_disk_is_told_later(tmp_path: Path) -> None:
    disk, clock, told = tmp_path / "disk", ManualClock(), Told()
    with small_disk(disk, 40):
        async with store_with_owner(disk, clock) as store:
            reserve = DiskReserve(
                store=store, clock=clock, folder=disk, reserve=512 * MIB, containers=told, takes=told, follows=told
            )
            with suppress(OSError), (disk / "hoard").open("wb", buffering=0) as hoard:
                while True:
                    hoard.write(b"\1" * 4096)
            await reserve.look()
            assert told.words == ["stop taking", "stop"], "that does not wait for the disk"
            os.truncate(disk / "hoard", 38 * MIB)
            await reserve.look()
            assert told.words == ["stop taking", "stop", "owner in d"]
