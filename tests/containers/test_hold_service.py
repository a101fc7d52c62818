"""Held sessions: no container is started, messages wait, and each chat is notified once."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nanohost.containers.disk_space import DiskResource
from nanohost.containers.hold_service import HOLD_NOTICE
from nanohost.containers.pool import SlotState
from nanohost.containers.stuck_monitor import CHECK_INTERVAL_S
from nanohost.db import holds, roles, sessions, users
from nanohost.model import Role, Session
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.outbound import TurnEnd
from nanohost_protocol.rows import Origin, Usage
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, make_message, run_manager
from tests.containers.test_manager import beat, claim_due, has_started, open_runner, sweeping
from tests.containers.test_overdue_monitor import DEADLINE_S, delivered, late_messages_found, overdue_monitor
from tests.containers.test_rest import SlowToStartRuntime
from tests.support.invariants import wait_until

MIB = 1024**2


async def hold(bench: ContainerManagerHarness, session: Session) -> None:
    async with bench.store.transaction() as tx:
        await holds.hold_session(tx, session.id, by="local:ann", at=bench.clock.now(), reason="too loud")
    await wait_for_hold(bench, session)


async def release(bench: ContainerManagerHarness, session: Session) -> None:
    async with bench.store.transaction() as tx:
        await holds.release_session(tx, session.id)
    await wait_for_hold(bench, session)


async def wait_for_hold(bench: ContainerManagerHarness, session: Session) -> None:
    bench.manager.on_hold_changed(session.id)
    await wait_until_idle(bench)


async def wait_until_idle(bench: ContainerManagerHarness) -> None:
    keeper = bench.manager
    await wait_until(
        lambda: (
            not any(
                lanes.active_count()
                for lanes in (keeper._hold_workers, keeper._start_workers, keeper._reap_workers, keeper._ack_workers)
            )
        )
    )


async def write_message(bench: ContainerManagerHarness, session: Session, id: str, chat: str = "a") -> None:
    await bench.mailboxes.put(session, [replace(make_message(chat, bench.clock), id=id)])
    async with bench.store.transaction() as tx:
        await sessions.make_due(tx, session.id, at=bench.clock.now(), now=bench.clock.now())
    bench.manager.wake(session.id)
    await wait_until_idle(bench)


async def notices(bench: ContainerManagerHarness) -> list[tuple[str, str]]:
    rows = await bench.store.fetch_all("SELECT platform_id, content FROM deliveries ORDER BY created_at, seq")
    return [(row["platform_id"], json.loads(row["content"])["text"]) for row in rows]


@pytest.mark.parametrize("of_group", [False, True])
async def test_a_hold_notice_that_one_host_could_not_send_is_sent_by_the_next(
    tmp_path: Path, *, of_group: bool
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session, now = await bench.add_session("a"), bench.clock.now()  # with a message that waits
        async with bench.store.transaction() as tx:
            if of_group:
                await holds.hold_group(tx, session.agent_group_id, by="local:ann", at=now, reason="too loud")
            else:
                await holds.hold_session(tx, session.id, by="local:ann", at=now, reason="too loud")
        assert await notices(bench) == []
    for _ in range(2):
        async with run_manager(tmp_path, FakeRuntime()) as bench:
            await wait_until_idle(bench)
            assert await notices(bench) == [("a", HOLD_NOTICE)]
            assert bench.runtime.started_specs == []


@pytest.mark.parametrize("of_group", [False, True])
async def test_a_person_at_the_terminal_is_told_the_reason_of_a_hold_and_the_command_to_type(
    tmp_path: Path, *, of_group: bool
) -> None:
    """There may be no owner whom the host could notify."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session, now = await bench.add_session("a"), bench.clock.now()
        at_terminal = Origin(channel_type="terminal", instance="default", platform_id="t", platform_message_id="p1")
        await bench.mailboxes.put(session, [replace(make_message("t", bench.clock), id="typed", origin=at_terminal)])
        async with bench.store.transaction() as tx:
            if of_group:
                await holds.hold_group(tx, session.agent_group_id, by="host", at=now, reason="it grew")
            else:
                await holds.hold_session(tx, session.id, by="host", at=now, reason="it grew")
        await wait_for_hold(bench, session)
        release = "agents release a" if of_group else f"sessions release {session.id}"
        words = (
            f"I am on hold and do not work right now: it grew. I keep your message. To release me: nanohost {release}"
        )
        assert sorted(await notices(bench)) == [("a", HOLD_NOTICE), ("t", words)]


async def test_a_hold_stops_the_container_and_the_next_message_starts_none(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await hold(bench, session)
        await wait_until(lambda: not bench.manager.containers())
        await write_message(bench, session, "more")
        assert (bench.runtime.living, len(bench.runtime.started_specs)) == ([], 1)
        assert bench.manager.failures() == {}, "nothing failed"
        await release(bench, session)
        await wait_until(lambda: len(bench.runtime.started_specs) == 2)


async def test_a_held_session_with_work_takes_no_slot_at_a_sweep(tmp_path: Path) -> None:
    """Otherwise an idle container of another session would be evicted."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        await hold(bench, session)
        await bench.manager._sweep_once(bench.clock.now())
        assert (bench.manager.queued(), bench.manager.containers()) == ((), [])
        await release(bench, session)
        await wait_until(lambda: len(bench.runtime.started_specs) == 1)


async def test_a_hold_is_notified_once_in_each_chat_and_held_messages_are_not_late(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        await hold(bench, session)
        for number in range(3):
            await write_message(bench, session, f"more-{number}")
        await write_message(bench, session, "elsewhere", chat="b")
        assert await notices(bench) == [("a", HOLD_NOTICE), ("b", HOLD_NOTICE)]
        await delivered(bench)
        await bench.clock.advance(2 * DEADLINE_S)
        await overdue_monitor(bench).check()
        assert await late_messages_found(bench) == []
        await release(bench, session)
        await hold(bench, session)
        later = sorted(await notices(bench))
        assert later == [("a", HOLD_NOTICE), ("a", HOLD_NOTICE), ("b", HOLD_NOTICE)], (
            "another hold; of b's message it was said"
        )


async def test_a_hold_of_an_agent_group_holds_all_its_sessions_and_no_other(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        held, other = await bench.add_session("a"), await bench.add_session("b")
        async with bench.store.transaction() as tx:
            await holds.hold_group(tx, held.agent_group_id, by="local:ann", at=bench.clock.now(), reason="too loud")
        for session in (held, other):
            bench.manager.wake(session.id)
        await wait_until_idle(bench)
        assert [one.session_id for one in bench.runtime.started_specs] == [other.id]


async def test_a_container_still_starting_when_its_session_is_held_is_stopped(tmp_path: Path) -> None:
    runtime = SlowToStartRuntime()
    async with run_manager(tmp_path, runtime) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await runtime.asked.wait()
        async with bench.store.transaction() as tx:
            await holds.hold_session(tx, session.id, by="local:ann", at=bench.clock.now(), reason="too loud")
        bench.manager.on_hold_changed(session.id)
        await wait_until(lambda: not bench.manager._hold_workers.active_count())
        runtime.ready.set()
        await wait_until(lambda: bool(runtime.started_specs) and not bench.manager.containers())
        assert runtime.living == []


async def test_a_container_of_a_session_held_while_the_host_was_down_is_stopped_at_start(
    tmp_path: Path,
) -> None:
    runtime = FakeRuntime()
    async with run_manager(tmp_path, runtime) as bench:
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until_idle(bench)
        async with bench.store.transaction() as tx:
            await holds.hold_session(tx, session.id, by="local:ann", at=bench.clock.now(), reason="too loud")
    async with run_manager(tmp_path, runtime) as bench:
        await wait_until(lambda: not runtime.living)
        await wait_until(lambda: not bench.manager.containers())


@pytest.mark.behaviour("SE-06")
@pytest.mark.parametrize("name", ["out", "state"])
async def test_a_session_that_fills_a_folder_is_stopped_and_held_and_the_owner_notified(
    tmp_path: Path, name: str
) -> None:
    async with run_manager(tmp_path, FakeRuntime(), session_bytes=MIB) as bench:
        await has_an_owner(bench)
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until_idle(bench)
        folder = bench.mailboxes.layout(session).root / name
        (folder / "hoard").write_bytes(b"\1" * 2 * MIB)
        with closing(open_runner(bench, session)) as runner:
            await claim_due(bench, session, runner)
        await check_health(bench, session)
        await wait_until(lambda: not bench.manager.containers())
        await wait_until_idle(bench)
        await write_message(bench, session, "more")
        assert (bench.runtime.living, len(bench.runtime.started_specs), bench.manager.failures()) == ([], 1, {})
        reason = (
            f"its {name} folder has grown beyond 1 MiB: remove what should not be there ({folder}), or raise "
            "session_disk_mb in [host] of nanohost.toml and start nanohost again"
        )
        (row,) = await holds.list_for_status(bench.store.reports)
        assert (row["session"], row["by"], row["reason"]) == (session.id, "host", reason)
        owner = f"Session {session.id} is on hold: {reason}. When that is done: nanohost sessions release {session.id}"
        assert sorted(await notices(bench)) == sorted([("a", HOLD_NOTICE), ("d", owner)])
        (folder / "hoard").unlink()
        await release(bench, session)
        await wait_until(lambda: len(bench.runtime.started_specs) == 2)


@pytest.mark.behaviour("SE-06")
async def test_an_agent_whose_workspace_is_too_large_is_held_with_all_its_sessions(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime(), workspace_bytes=MIB) as bench:
        session = await bench.add_session("a")
        async with bench.store.transaction() as tx:
            other = await sessions.add(
                tx, agent_group=session.agent_group_id, messaging_group=None, thread_id="t", now=bench.clock.now()
            )
        workspace = tmp_path / "groups" / "a"
        workspace.mkdir()
        bench.manager.wake(session.id)
        bench.manager.wake(other)
        await wait_until(partial(has_started, bench, 2))
        await wait_until_idle(bench)
        (workspace / "hoard").write_bytes(b"\1" * 2 * MIB)
        await check_health(bench, session)
        await wait_until(lambda: not bench.manager.containers())
        (row,) = await holds.list_for_status(bench.store.reports)
        assert (row["session"], row["agent_group"]) == ("", "a")
        assert f"its workspace folder has grown beyond 1 MiB: remove what should not be there ({workspace})" in str(row)
        bench.manager.wake(other)
        await wait_until_idle(bench)
        assert len(bench.runtime.started_specs) == 2


@pytest.mark.behaviour("SE-06")
async def test_an_idle_container_is_checked_as_often_as_a_busy_one(tmp_path: Path) -> None:
    """It may have left a process behind that writes."""
    async with run_manager(tmp_path, FakeRuntime(), session_bytes=MIB) as bench, sweeping(bench):
        session = await bench.add_session("a")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until_idle(bench)
        with closing(open_runner(bench, session)) as runner:
            await claim_due(bench, session, runner)
            runner.finish(TurnEnd(turn_id="t", messages=(), usage=Usage()), highest_seen_seq=0, now=bench.clock.now())
            bench.manager.on_outbox_changed(session.id)
            await wait_until(lambda: not bench.manager.containers()[0].is_busy)
        beat(bench, session)
        await bench.clock.advance(CHECK_INTERVAL_S)
        await wait_until_idle(bench)
        (bench.mailboxes.layout(session).out_dir / "hoard").write_bytes(b"\1" * 2 * MIB)
        await bench.clock.advance(CHECK_INTERVAL_S)
        await wait_until(lambda: not bench.manager.containers())
        assert len(await holds.list_for_status(bench.store.reports)) == 1


@pytest.mark.behaviour("SE-06")
async def test_a_folder_too_large_from_the_start_is_reported_once_and_held_when_it_grows(
    tmp_path: Path,
) -> None:
    workspace = tmp_path / "groups" / "a"
    runtime = FakeRuntime()
    async with run_manager(tmp_path, runtime, workspace_bytes=10 * MIB) as bench:
        await has_an_owner(bench)
        session = await bench.add_session("a")
        workspace.mkdir(parents=True)
        (workspace / "work").write_bytes(b"\1" * 15 * MIB)
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        await wait_until_idle(bench)
        await check_health(bench, session)
        await check_health(bench, session)
        warning = (
            "The agent a goes on, but its workspace folder takes 15 MiB, more than the 10 MiB it may. It was so when I "
            "first looked, so I stop nothing until it grows by 1 MiB more: remove what should not be there "
            f"({workspace}), or raise workspace_mb in [host] of nanohost.toml and start nanohost again."
        )
        assert await notices(bench) == [("d", warning)]
        assert [(one.setting, size) for one, size in bench.manager.folders_over_limit()] == [("workspace_mb", 15 * MIB)]
        assert len(runtime.living) == 1
    async with run_manager(tmp_path, runtime, workspace_bytes=10 * MIB) as bench:
        await wait_until_idle(bench)
        await check_health(bench, session)
        assert await notices(bench) == [("d", warning)], "it was told by the host before"
        (workspace / "more").write_bytes(b"\1" * 2 * MIB)
        await check_health(bench, session)
        await wait_until(lambda: not runtime.living)
        [row] = await holds.list_for_status(bench.store.reports)
        assert "its workspace folder has grown beyond 10 MiB by more than 1 MiB" in str(row["reason"])


@pytest.mark.behaviour("SE-06")
async def test_a_folder_uncountable_while_in_use_is_counted_before_the_next_container(
    tmp_path: Path,
) -> None:
    """All containers that write to it are stopped in order: no attempt is counted, and nobody is held."""
    async with run_manager(tmp_path, FakeRuntime(), workspace_bytes=10 * MIB) as bench, sweeping(bench):
        session = await bench.add_session("a")
        async with bench.store.transaction() as tx:
            other = await sessions.add(
                tx, agent_group=session.agent_group_id, messaging_group=None, thread_id="t", now=bench.clock.now()
            )
            await sessions.make_due(tx, other, at=bench.clock.now(), now=bench.clock.now())
        workspace = tmp_path / "groups" / "a"
        workspace.mkdir(parents=True)
        bench.manager.wake(session.id)
        bench.manager.wake(other)
        await wait_until(partial(has_started, bench, 2))
        await wait_until_idle(bench)
        footprint = next(
            one for one in bench.manager._health_monitor.folders._footprints(session) if one.watched.is_group_wide
        )
        footprint.needs_idle_scan = True
        assert await bench.manager._stop_writers(session) == {session.id, other}
        await wait_until(lambda: len(bench.runtime.started_specs) == 4)
        assert not footprint.needs_idle_scan
        assert (bench.manager.failures(), await holds.list_for_status(bench.store.reports)) == ({}, [])
        footprint.needs_idle_scan = True
        await bench.manager._stop_writers(session)
        (workspace / "hoard").write_bytes(b"\1" * 11 * MIB)
        await wait_until(lambda: not bench.runtime.living)
        bench.manager.wake(other)
        await wait_until(lambda: not bench.manager.containers())
        await wait_until_idle(bench)
        [row] = await holds.list_for_status(bench.store.reports)
        assert "its workspace folder has grown beyond 10 MiB" in str(row["reason"])
        assert len(bench.runtime.started_specs) == 4


async def test_a_health_check_leaves_folders_alone_during_an_idle_scan(tmp_path: Path) -> None:
    """The session has no container yet, so its folders need not stay open; and the count runs in a thread."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        folders, counts, goes_on = bench.manager._health_monitor.folders, threading.Event(), threading.Event()
        first = next(folders._footprints(session))
        loop = threading.current_thread()

        def waits() -> float:
            if threading.current_thread() is not loop and first.is_counting():
                counts.set()
                assert goes_on.wait(scaled_timeout(HANG_TIMEOUT_S))
            return 0.0

        first.needs_idle_scan, first.monotonic = True, waits
        before = asyncio.create_task(folders.check_before_start(session))
        assert await asyncio.to_thread(counts.wait, scaled_timeout(HANG_TIMEOUT_S))
        looks_at_others = asyncio.create_task(folders.stop_counting_idle([]))
        await asyncio.sleep(0)
        assert first.is_counting()
        goes_on.set()
        await looks_at_others
        assert await before is None
        assert first.latest_snapshot is not None


@pytest.mark.behaviour("SE-06")
async def test_folder_growth_is_measured_once_a_low_disk_has_stopped_all_containers(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        filler, other = await bench.add_session("a"), await bench.add_session("b")
        for session in (filler, other):
            bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 2))
        await wait_until_idle(bench)
        folders = bench.manager._health_monitor.folders
        for known in folders._states.values():
            known.footprint.has_ample_space = lambda _: False  # the disk is low from here on
        state = bench.mailboxes.layout(filler).state_dir
        (state / "hoard").write_bytes(b"\1" * 3 * MIB)
        bench.manager.stop_for_low_disk()
        grown = [one for one in await bench.manager.measure_growth() if one.growth(DiskResource.BYTES) > MIB]
        assert bench.runtime.living == []
        assert [(one.watched.path, one.growth(DiskResource.BYTES)) for one in grown] == [(state, 3 * MIB)]
        assert grown[0].watched.owner == f"session {filler.id} of the agent a"
        assert await bench.manager.hold_for_low_disk(grown[0].session, "it grew", is_group_wide=False)
        bench.manager.resume_after_low_disk()
        bench.manager.wake(other.id)
        bench.manager.wake(filler.id)
        await wait_until(lambda: len(bench.runtime.started_specs) == 3)
        await wait_until_idle(bench)
        assert [one.session_id for one in bench.runtime.living] == [other.id]


@pytest.mark.parametrize("of_group", [False, True])
async def test_holding_a_deleted_session_for_a_low_disk_is_not_retried(tmp_path: Path, *, of_group: bool) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("a")
        async with bench.store.transaction() as tx:
            await tx.execute("DELETE FROM sessions WHERE id = ?", (session.id,))
            await tx.execute("DELETE FROM wirings WHERE agent_group_id = ?", (session.agent_group_id,))
            await tx.execute("DELETE FROM agent_groups WHERE id = ?", (session.agent_group_id,))
        assert await bench.manager.hold_for_low_disk(session, "it grew", is_group_wide=of_group)


async def test_a_nearly_full_disk_stops_all_containers_and_they_restart_with_free_space(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench, sweeping(bench):
        running = await bench.add_session("a")
        bench.manager.wake(running.id)
        await wait_until(partial(has_started, bench, 1))
        bench.manager.stop_for_low_disk()
        await wait_until(lambda: not bench.manager.containers())
        waiting = await bench.add_session("b")
        bench.manager.wake(waiting.id)
        bench.manager.resume()  # a pause ended meanwhile
        assert (bench.runtime.living, bench.manager.failures()) == ([], {})
        bench.manager.resume_after_low_disk()
        await wait_until(lambda: len(bench.runtime.living) == 2)
        assert {slot.state for slot in bench.manager.containers()} <= {SlotState.STARTING, SlotState.RUNNING}


async def has_an_owner(bench: ContainerManagerHarness) -> None:
    now, place = bench.clock.now(), Origin(channel_type="fake", instance="default", platform_id="d")
    async with bench.store.transaction() as tx:
        await users.record_seen(tx, "fake:boss", name="Boss", now=now)
        await users.save_dm(tx, "fake:boss", place, now)
        await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=now)


async def check_health(bench: ContainerManagerHarness, session: Session) -> None:
    beat(bench, session)
    await bench.clock.advance(10)
    await bench.manager._sweep_once(bench.clock.now())
