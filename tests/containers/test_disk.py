"""A reserve of each disk is kept for the host: below it containers stop until there is space, and a cause is named."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.containers.disk_monitor import (
    HOLD_RETRY_INTERVAL_S,
    DiskMonitor,
    FolderGrowth,
    describe_growth,
    find_dominant_consumer,
    largest_growth,
    scan_disks,
)
from nanohost.containers.disk_space import (
    BYTES_PER_INODE,
    DiskResource,
    DiskSpace,
    has_ample_space,
    low_resources,
    read_disk_space,
)
from nanohost.containers.disk_usage import DiskUsage, UsageSnapshot, WatchedFolder
from nanohost.db import roles, users
from nanohost.db.database import Store
from nanohost.db.domain_events import QueueHasWork
from nanohost.model import AgentGroupId, Role, Session, SessionId
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.rows import Origin
from tests.support.small_disk import mount_small_disk
from tests.support.template_home import opened_store

MIB = 1024**2


class RecordedCalls:
    """Satisfies Containers and Takes: records all calls, and notices to the owner, in order."""

    def __init__(self, growths: Sequence[FolderGrowth] = (), *, refusals: int = 0) -> None:
        self.words: list[str] = []
        self._growths = growths
        self._refusals = refusals

    async def measure_growth(self) -> list[FolderGrowth]:
        return list(self._growths)

    async def hold_for_low_disk(self, session: Session, detail: str, *, is_group_wide: bool) -> bool:
        self._refusals -= 1
        if self._refusals < 0:
            self.words.append(f"hold {session.group_folder if is_group_wide else session.id}: {detail}")
        return self._refusals < 0

    def stop_for_low_disk(self) -> None:
        self.words.append("stop")

    def resume_after_low_disk(self) -> None:
        self.words.append("start")

    def pause_collecting(self) -> None:
        self.words.append("stop taking")

    def resume_collecting(self) -> None:
        self.words.append("take")

    def told_owner(self, event: QueueHasWork) -> None:
        self.words.append(f"owner in {event.queue.platform_id}")


@asynccontextmanager
async def store_with_owner(root: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with opened_store(Home(root), durable=False) as store:
        place = Origin(channel_type="fake", instance="default", platform_id="d")
        async with store.transaction() as tx:
            await users.record_seen(tx, "fake:boss", name="Boss", now=clock.now())
            await users.save_dm(tx, "fake:boss", place, clock.now())
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=clock.now())
        yield store


def reserve_of(
    store: Store,
    clock: ManualClock,
    told: RecordedCalls,
    *folders: Path,
    space: Callable[[Path], DiskSpace] = read_disk_space,
) -> DiskMonitor:
    """A reserve of half a gigabyte on the disks of these folders."""
    store.bus.subscribe(QueueHasWork, told.told_owner)
    return DiskMonitor(
        store=store,
        clock=clock,
        folders=folders,
        reserve=512 * MIB,
        containers=told,
        collection=told,
        read_space=space,
    )


@pytest.mark.parametrize(
    ("space", "was_short", "short"),
    [
        (DiskSpace(total_bytes=100_000 * MIB, free_bytes=512 * MIB), False, False),
        (DiskSpace(total_bytes=100_000 * MIB, free_bytes=512 * MIB - 1), False, True),
        (DiskSpace(total_bytes=100_000 * MIB, free_bytes=600 * MIB), True, True),
        (DiskSpace(total_bytes=100_000 * MIB, free_bytes=640 * MIB), True, False),
        (DiskSpace(total_bytes=1_000 * MIB, free_bytes=50 * MIB), False, False),
        (DiskSpace(total_bytes=1_000 * MIB, free_bytes=49 * MIB), False, True),
    ],
)
def test_the_reserve_is_the_setting_but_at_most_a_twentieth_of_the_disk(
    space: DiskSpace, was_short: bool, short: bool
) -> None:
    was = frozenset({DiskResource.BYTES} if was_short else ())
    assert low_resources(space, 512 * MIB, previous=was) == ({DiskResource.BYTES} if short else set())


def test_a_reserve_of_zero_never_reports_a_low_disk() -> None:
    assert not low_resources(DiskSpace(total_bytes=MIB, free_bytes=0, total_inodes=10, free_inodes=0), 0)


async def test_a_full_disk_stops_containers_and_notifies_the_owner_once_and_free_space_resumes_them(
    tmp_path: Path,
) -> None:
    disk, clock, told = tmp_path / "disk", ManualClock(), RecordedCalls()
    with mount_small_disk(disk, 40):
        async with store_with_owner(tmp_path / "home", clock) as store:
            reserve = reserve_of(store, clock, told, disk)
            await reserve.check()
            assert told.words == []
            (disk / "hoard").write_bytes(b"\1" * (read_disk_space(disk).free_bytes - MIB))
            await reserve.check()
            await reserve.check()
            assert told.words == ["stop taking", "stop", "owner in d"]
            assert reserve.is_low
            (disk / "hoard").unlink()
            await reserve.check()
            await reserve.check()
            assert told.words[3:] == ["take", "start"]


@pytest.mark.behaviour("SE-06")
async def test_files_are_not_removed_between_the_disk_check_and_the_count(tmp_path: Path) -> None:
    """A log truncated between the disk check and the count would hide the cause."""
    clock, told, free, begun, go_on = ManualClock(), RecordedCalls(), [100], asyncio.Event(), asyncio.Event()

    def left(_: Path) -> DiskSpace:
        return DiskSpace(total_bytes=10_000 * MIB, free_bytes=free[0] * MIB)

    async def cut() -> None:
        begun.set()
        await go_on.wait()
        free[0] = 9_000

    async with store_with_owner(tmp_path / "home", clock) as store:
        reserve = reserve_of(store, clock, told, tmp_path, space=left)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reserve.remove_unless_low(cut))
            await begun.wait()
            tasks.create_task(reserve.check())
            go_on.set()
        assert not reserve.is_low
        free[0] = 100
        await reserve.check()
        await reserve.remove_unless_low(cut)
        assert (reserve.is_low, free[0]) == (True, 100)


async def test_a_notice_to_the_owner_that_a_full_disk_refuses_is_sent_later(tmp_path: Path) -> None:
    disk, clock, told = tmp_path / "disk", ManualClock(), RecordedCalls()
    with mount_small_disk(disk, 40):
        async with store_with_owner(disk, clock) as store:
            reserve = reserve_of(store, clock, told, disk)
            with suppress(OSError), (disk / "hoard").open("wb", buffering=0) as hoard:
                while True:
                    hoard.write(b"\1" * 4096)
            await reserve.check()
            assert told.words == ["stop taking", "stop"], "that does not wait for the disk"
            os.truncate(disk / "hoard", 38 * MIB)
            await reserve.check()
            assert told.words == ["stop taking", "stop", "owner in d"]


@pytest.mark.parametrize(
    ("inodes", "free", "was_short", "short"),
    [
        (10_000_000, 32_768, False, False),
        (10_000_000, 32_767, False, True),
        (10_000_000, 40_000, True, True),
        (10_000_000, 40_960, True, False),
        (1_000, 50, False, False),
        (1_000, 49, False, True),
        (0, 0, False, False),
    ],
)
def test_the_inode_reserve_is_proportional_and_absent_where_inodes_are_dynamic(
    inodes: int, free: int, was_short: bool, short: bool
) -> None:
    assert 512 * MIB // BYTES_PER_INODE == 32_768
    space = DiskSpace(total_bytes=100_000 * MIB, free_bytes=50_000 * MIB, total_inodes=inodes, free_inodes=free)
    was = frozenset({DiskResource.INODES} if was_short else ())
    assert low_resources(space, 512 * MIB, previous=was) == ({DiskResource.INODES} if short else set())


def test_only_a_resource_that_was_low_needs_ample_space_to_recover() -> None:
    space = DiskSpace(total_bytes=100_000 * MIB, free_bytes=600 * MIB, total_inodes=10_000_000, free_inodes=33_000)
    assert low_resources(space, 512 * MIB, previous=frozenset({DiskResource.BYTES})) == {DiskResource.BYTES}
    assert low_resources(space, 512 * MIB, previous=frozenset({DiskResource.INODES})) == {DiskResource.INODES}
    assert low_resources(space, 512 * MIB) == set()
    assert not has_ample_space(space, 512 * MIB)


async def test_a_disk_without_free_inodes_stops_containers_like_one_without_free_bytes(tmp_path: Path) -> None:
    disk, clock, told = tmp_path / "disk", ManualClock(), RecordedCalls()
    with mount_small_disk(disk, 40, inodes=1000):
        async with store_with_owner(tmp_path / "home", clock) as store:
            reserve = reserve_of(store, clock, told, disk)
            await reserve.check()
            assert told.words == []
            for number in range(read_disk_space(disk).free_inodes - 49):
                (disk / str(number)).touch()
            await reserve.check()
            assert told.words == ["stop taking", "stop", "owner in d"]
            text = await told_owner(store)
            assert text.startswith(f"The disk can hold hardly any more files: 49 are left in {disk}.")
            for number in range(100):
                (disk / str(number)).unlink()
            await reserve.check()
            assert told.words[3:] == ["take", "start"]


async def test_every_written_file_system_is_monitored_and_the_low_one_is_named(tmp_path: Path) -> None:
    home, disk, clock, told = tmp_path / "home", tmp_path / "groups", ManualClock(), RecordedCalls()
    with mount_small_disk(disk, 40):
        async with store_with_owner(home, clock) as store:
            folders = [home, home / "data", disk, tmp_path / "gone"]
            reserve = reserve_of(store, clock, told, *folders)
            (disk / "hoard").write_bytes(b"\1" * (read_disk_space(disk).free_bytes - MIB))
            await reserve.check()
            assert [short.folder for short in reserve.low_disks()] == [disk]
            assert f"1 MiB are free in {disk}" in await told_owner(store)


def test_a_file_system_is_queried_once_for_all_folders_on_it(tmp_path: Path) -> None:
    asked: list[Path] = []

    def space(folder: Path) -> DiskSpace:
        asked.append(folder)
        return DiskSpace(total_bytes=1, free_bytes=1)

    scan_disks([tmp_path, tmp_path.parent, tmp_path.parent.parent], space)
    assert asked == [tmp_path]


def grown(
    name: str,
    before_mb: int | None,
    now_mb: int,
    *,
    disk_mb: tuple[int, int] = (1024, 500),
    device: int = 1,
    session: str = "",
) -> FolderGrowth:
    """The growth of an agent's workspace, or of a session's folder; `disk_mb`: the free space at the count before, and
    now."""
    path = Path("/groups", name)
    watched = WatchedFolder(
        name="workspace", path=path, limit_bytes=10_000 * MIB, owner=f"the agent {name}", is_group_wide=not session
    )
    its = Session(
        id=SessionId(session or f"s-{name}"),
        agent_group_id=AgentGroupId(ord(name[0])),
        group_folder=name,
        messaging_group_id=None,
        thread_id=None,
        out_cursor=0,
        ack_cursor=0,
        due_at=None,
        lease=None,
        runtime=None,
        runtime_state={},
        created_at=START,
        last_active_at=START,
    )
    return FolderGrowth(
        watched=watched,
        session=its,
        device=device,
        current=mark(now_mb, disk_mb[1]),
        baseline=None if before_mb is None else mark(before_mb, disk_mb[0]),
    )


def mark(taken_mb: int, free_mb: int) -> UsageSnapshot:
    taken = taken_mb * MIB
    return UsageSnapshot(
        usage=DiskUsage(charged_bytes=taken, disk_bytes=taken, entries=taken_mb),
        space=DiskSpace(total_bytes=100_000 * MIB, free_bytes=free_mb * MIB),
    )


SHORT = DiskSpace(total_bytes=100_000 * MIB, free_bytes=500 * MIB)


@pytest.mark.parametrize(
    ("growths", "cause"),
    [
        ([grown("a", 0, 524)], "a"),
        ([grown("a", 0, 524), grown("b", 9_000, 9_000)], "a"),
        ([grown("a", 0, 400), grown("b", 0, 124)], "a"),
        ([grown("a", 0, 260), grown("a", 0, 130, session="s-a"), grown("a", 0, 130, session="s-a")], "a"),
        ([grown("a", 0, 100, session="s1"), grown("a", 0, 400, session="s2")], "s2"),
        ([grown("a", 0, 250, session="s1"), grown("a", 0, 250, session="s2")], "a"),
        ([grown("a", 0, 262), grown("b", 0, 262)], None),
        ([grown("a", 0, 250)], None),
        ([grown("a", 9_000, 9_010, disk_mb=(515, 500))], None),
        ([grown("a", None, 9_000)], None),
        ([grown("a", 500, 200)], None),
        ([], None),
    ],
    ids=[
        "all of it",
        "the largest did not grow",
        "most of it",
        "all of it in three folders",
        "a session of two",
        "two sessions of one agent",
        "two alike",
        "less than half: others wrote too, who are not known",
        "a disk that was nearly full anyway",
        "nobody knows how large it was",
        "it became smaller",
        "nothing is known",
    ],
)
def test_a_session_is_the_dominant_consumer_if_it_outgrew_all_others_and_explains_the_shortage(
    growths: Sequence[FolderGrowth], cause: str | None
) -> None:
    found = find_dominant_consumer(growths, SHORT, 512 * MIB, DiskResource.BYTES)
    named = None if found is None else found.session.group_folder if found.is_group_wide else found.session.id
    assert named == cause


def test_the_fastest_growing_folder_is_named_or_the_largest_if_growth_is_unknown() -> None:
    small, large, unknown = grown("small", 0, 524), grown("large", 9_000, 9_000), grown("unknown", None, 9_500)
    assert largest_growth([small, large, unknown], DiskResource.BYTES) is small
    assert describe_growth(small, DiskResource.BYTES) == (
        "the workspace folder of the agent small grew by 524 MiB to 524 MiB (/groups/small)"
    )
    assert largest_growth([large, unknown], DiskResource.BYTES) is unknown
    assert describe_growth(unknown, DiskResource.BYTES) == (
        "the workspace folder of the agent unknown is the largest with 9,500 MiB (/groups/unknown)"
    )
    assert describe_growth(small, DiskResource.INODES).endswith("grew by 524 files to 524 files (/groups/small)")


def reserve_with(
    store: Store, clock: ManualClock, told: RecordedCalls, folder: Path, left_mb: Sequence[int]
) -> DiskMonitor:
    """The reserve of a disk of 100,000 MiB, with the last of `left_mb` free."""
    return reserve_of(
        store, clock, told, folder, space=lambda _: DiskSpace(total_bytes=100_000 * MIB, free_bytes=left_mb[-1] * MIB)
    )


async def test_the_cause_of_a_low_disk_is_reported_to_the_owner_and_held_before_others_resume(
    tmp_path: Path,
) -> None:
    clock, left = ManualClock(), [2000, 500]
    device = tmp_path.stat().st_dev
    told = RecordedCalls(
        [grown("bad", 0, 1500, disk_mb=(2000, 500), device=device), grown("far", 0, 1900, device=device + 1)]
    )
    async with store_with_owner(tmp_path / "home", clock) as store:
        reserve = reserve_with(store, clock, told, tmp_path, left)
        await reserve.check()
        reason = (
            "it took 1,500 MiB while the disk got short, most of it in its workspace folder, which takes 1,500 MiB now"
        )
        [*stopped, held, owner] = told.words
        assert (stopped, owner) == (["stop taking", "stop"], "owner in d")
        assert held == f"hold bad: {reason}: remove what should not be there (/groups/bad)"
        named = "The workspace folder of the agent bad grew by 1,500 MiB to 1,500 MiB (/groups/bad)."
        assert named in await told_owner(store)
        assert [short.largest_growth for short in reserve.low_disks()] == [named[0].lower() + named[1:-1]]
        left.append(2000)
        await reserve.check()
        assert told.words[4:] == ["take", "start"]


async def test_a_hold_refused_on_a_full_disk_is_placed_before_other_sessions_resume(tmp_path: Path) -> None:
    clock, left = ManualClock(), [500]
    device = tmp_path.stat().st_dev
    told = RecordedCalls([grown("bad", 0, 1500, disk_mb=(2000, 500), device=device)], refusals=2)
    async with store_with_owner(tmp_path / "home", clock) as store:
        reserve = reserve_with(store, clock, told, tmp_path, left)
        await reserve.check()
        await clock.advance(HOLD_RETRY_INTERVAL_S)
        await reserve.check()
        assert told.words == ["stop taking", "stop", "owner in d"]
        left.append(2000)
        await reserve.check()
        assert [word.partition(":")[0] for word in told.words[3:]] == ["hold bad", "take", "start"]


async def test_a_hold_that_a_full_disk_refuses_is_retried_twice_a_minute(tmp_path: Path) -> None:
    clock = ManualClock()
    told = RecordedCalls([grown("bad", 0, 1500, disk_mb=(2000, 500), device=tmp_path.stat().st_dev)], refusals=2)
    async with store_with_owner(tmp_path / "home", clock) as store:
        reserve = reserve_of(
            store, clock, told, tmp_path, space=lambda _: DiskSpace(total_bytes=100_000 * MIB, free_bytes=500 * MIB)
        )
        for _ in range(10):
            await reserve.check()
        for held in (False, True):
            assert told.words == ["stop taking", "stop", "owner in d"]
            await clock.advance(HOLD_RETRY_INTERVAL_S)
            await reserve.check()
            assert any(word.startswith("hold bad") for word in told.words) == held


async def test_a_low_disk_that_does_not_answer_still_counts_as_low(tmp_path: Path) -> None:
    clock, told, answers = ManualClock(), RecordedCalls(), [True]

    def space(_: Path) -> DiskSpace:
        if not answers[-1]:
            raise OSError(errno.EIO, "Input/output error")
        return DiskSpace(total_bytes=100_000 * MIB, free_bytes=(500 if len(answers) == 1 else 2000) * MIB)

    async with store_with_owner(tmp_path / "home", clock) as store:
        reserve = reserve_of(store, clock, told, tmp_path, space=space)
        await reserve.check()
        answers.append(False)
        await reserve.check()
        assert reserve.is_low
        assert "start" not in told.words
        answers.append(True)
        await reserve.check()
        assert told.words[-2:] == ["take", "start"]


async def told_owner(store: Store) -> str:
    """The only notice to the owner."""
    [row] = await store.fetch_all("SELECT content FROM deliveries")
    text: str = json.loads(row["content"])["text"]
    return text
