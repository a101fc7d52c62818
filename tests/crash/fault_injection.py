"""What a host stands on gives way: disk, clock, engine, channel, containers. One case each.

A case makes people write before, during and after, checks that its fault was felt, and counts as every run does: the
same host must have answered everything in the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from nanohost.containers.hold_service import HOLD_NOTICE as ON_HOLD
from nanohost.testing.time_limits import scaled_timeout
from tests.crash.fault_profiles import MAX_OCCURRENCES, random_faults
from tests.crash.faults import EngineProxy, block_writes, fill_disk, remount, small_disk
from tests.crash.faulty_runner import HOARD_MB
from tests.crash.measurements import Result
from tests.crash.processes import HOME_PLACEHOLDER, HostProcess
from tests.crash.runs import BUSY_SETTINGS
from tests.crash.scenario import FINISH_TIMEOUT_S, CrashScenario, prepare_scenario

Case = Callable[[Path], Coroutine[object, object, Result]]

MIN_FAULT_S = 1.0
"""The minimum duration of a fault."""
DISK_MB = 24
HOUR_S = 3600.0
POLL_INTERVAL_S = 0.1
MAX_LOST_CONTAINERS = 4
"""One a session: those that the case itself killed may cause late notices."""
SMALL_DISK_SETTINGS: Mapping[str, object] = {**BUSY_SETTINGS, "session_disk_mb": 16}
"""So little that a test can fill it."""
FAULTY_HOST = Path(__file__).with_name("faulty_host.py")
PROCESS_SETTINGS: Mapping[str, object] = {"runtime": "process"}


async def full_disk(root: Path) -> Result:
    """Messages arrive while no byte is free. Raises FaultUnavailable without the right to mount."""
    with small_disk(root, DISK_MB):
        async with prepare_scenario(
            "full disk", root, chats=3, settings=PROCESS_SETTINGS, log=_external_log(root)
        ) as scene:
            await _start_busy_host(scene)
            with fill_disk(root):
                await scene.write(9)
                await scene.wait_until(
                    "the log says that the disk is full", partial(_log_contains, scene.host, "disk is full")
                )
                await asyncio.sleep(MIN_FAULT_S)
                assert not scene.workload.expected() <= scene.platform.texts().keys(), "all was answered on a full disk"
            await scene.write(3)
            return await scene.result()


async def read_only_files(root: Path) -> Result:
    """Host and runners cannot write to any file for a while, as on a disk that turned read-only."""
    async with prepare_scenario("no write succeeds", root, chats=3, settings=PROCESS_SETTINGS) as scene:
        await _start_busy_host(scene)
        with block_writes([scene.host.pid, *scene.host.runner_pids()]):
            await scene.write(9)
            await asyncio.sleep(MIN_FAULT_S)
            assert not scene.workload.expected() <= scene.platform.texts().keys(), "all was answered without a write"
        await scene.write(3)
        return await scene.result()


async def read_only_at_start(root: Path) -> Result:
    """A host that is started on a read-only disk reports it and ends; started on the repaired disk it continues."""
    with small_disk(root, DISK_MB):
        async with prepare_scenario(
            "read-only disk", root, chats=3, settings=PROCESS_SETTINGS, log=_external_log(root)
        ) as scene:
            await _start_busy_host(scene)
            await scene.write(6)
            await asyncio.to_thread(scene.host.kill)
            await asyncio.to_thread(scene.host.kill_all_runners)
            await asyncio.to_thread(remount, root, "ro")
            scene.host.start()
            code = await asyncio.to_thread(scene.host.wait_for_exit, scaled_timeout(40))
            assert code, f"it ended with {code}"
            assert _log_contains(scene.host, "Read-only file system"), "it does not say why"
            await asyncio.to_thread(remount, root, "rw")
            await scene.write(3)
            scene.host.start()
            return await scene.result(container_kills=3)


async def clock_jump(root: Path, *, name: str, by_s: float, suspended: bool = False) -> Result:
    """The wall clock jumps while turns run and retries wait; `suspended`: all processes were stopped meanwhile."""
    async with _run_faulty_host(name, root, mode="plain", chats=4, settings={}) as (scene, offset):
        await _start_busy_host(scene)
        await scene.write(4)
        killed = await asyncio.to_thread(scene.host.kill_all_runners)  # retries are due soon, by the old clock
        await scene.write(4)
        before = _count_lost_containers(scene.host)
        with _suspended(scene.host) if suspended else nullcontext():
            _write_offset(offset, by_s)
        await scene.write(8)
        result = await scene.result(max(killed, scene.host.count_runner_deaths()))
        assert _count_lost_containers(scene.host) - before <= MAX_LOST_CONTAINERS, "working containers were ended"
        return result


async def engine_outage(root: Path) -> Result:
    """The engine is unreachable for a while; containers keep running meanwhile."""
    root.mkdir(parents=True, exist_ok=True)
    async with EngineProxy(root / "engine.sock").opened() as door:
        environment = {"DOCKER_HOST": door.url}
        settings = {"runtime": "docker"}
        async with prepare_scenario("engine gone", root, chats=4, settings=settings, environment=environment) as scene:
            scene.host.start()
            await scene.write(2)  # two of the chats have a container at that moment
            await scene.wait_until_answered()
            await door.close()
            await scene.write(6)
            await scene.wait_until(
                "the log says that no container came up", partial(_log_contains, scene.host, "container_not_started")
            )
            await asyncio.sleep(MIN_FAULT_S)
            await door.open()
            await scene.write(4)
            result = await scene.result()
            assert result.notices <= 2, f"{result.notices} notices to the two chats that had to wait"
            return result


async def flaky_channel(root: Path, *, idempotent: bool) -> Result:
    """The platform rate limits, fails before and after it has the message, cuts the connection, or never responds."""
    mood = random_faults(seed=5)
    name = "bad channel" if idempotent else "bad channel, no keys"
    async with prepare_scenario(
        name, root, chats=8, settings=PROCESS_SETTINGS, idempotent=idempotent, mood=mood
    ) as scene:
        scene.host.start()
        for _ in range(20):
            await scene.write(5)
            await asyncio.sleep(0.2)
        result = await scene.result(limit_s=4 * FINISH_TIMEOUT_S)
        assert scene.platform.fault_counts.keys() > MAX_OCCURRENCES.keys(), "some mood was not met"
        return result


async def unstoppable_runners(root: Path) -> Result:
    """Containers that ignore a stop; messages meanwhile are answered by the next container."""
    async with _run_faulty_host("stubborn container", root, mode="stubborn", chats=2, settings=BUSY_SETTINGS) as (
        scene,
        _,
    ):
        scene.host.start()
        await scene.write(4)
        await scene.wait_until_answered()
        await scene.wait_until("an idle container is stopped", partial(_log_contains, scene.host, "container_idle"))
        await scene.write(4)
        return await scene.result()


async def unresponsive_runners(root: Path) -> Result:
    """Containers run and claim no message, each in its session's first life: stopped, the next ones answer."""
    settings = {"heartbeat_limit_s": scaled_timeout(2)}
    async with _run_faulty_host("deaf container", root, mode="deaf", chats=2, settings=settings) as (scene, _):
        scene.host.start()
        await scene.write(4)
        await scene.wait_until_answered()
        await scene.write(4)
        return await scene.result(_count_lost_containers(scene.host))


async def disk_filling_runners(root: Path) -> Result:
    """A container fills its folder: it is stopped and held, status and the person are told, nothing of it is deleted,
    and after cleanup and release all is answered."""
    async with _run_faulty_host(
        "container fills its disk", root, mode="hoarder", chats=1, settings=SMALL_DISK_SETTINGS
    ) as (scene, _):
        scene.host.start()
        await scene.write(2)
        await scene.wait_until(
            "the log says why it was stopped", partial(_log_contains, scene.host, '"reason": "disk"')
        )
        told = ("c0", ON_HOLD)
        await scene.wait_until("its person is told", lambda: told in scene.platform.texts(), within_s=60)
        status = await asyncio.to_thread(scene.host.command, "status")
        assert "its out folder has grown" in status.stdout, status.stdout + status.stderr
        hoard = list(root.glob("sessions/*/*/out/hoard-*"))
        assert len(hoard) == HOARD_MB, "something of it was deleted"
        for file in hoard:
            file.unlink()
        session = hoard[0].parent.parent.name
        await asyncio.to_thread(scene.host.command, "sessions", "release", session)
        await scene.write(2)
        result = await scene.result(_count_lost_containers(scene.host))
        assert result.notices == 1, f"{result.notices} notices"
        return result


async def two_hosts(root: Path, *, rounds: int = 3) -> Result:
    """Two hosts are started together on one home: one serves, one is refused; the winner is killed, and again."""
    async with prepare_scenario("two hosts", root, chats=2, settings=PROCESS_SETTINGS) as scene:
        other = HostProcess(root, scene.platform.port, PROCESS_SETTINGS, log="other.log")
        try:
            for _ in range(rounds):
                await scene.write(2)
                for host in (scene.host, other):
                    host.start()
                loser, winner = await _sort_loser_winner(scene.host, other)
                assert _log_contains(loser, str(winner.pid)), "the refused host does not say who serves"
                await scene.platform.wait_until_seen(scene.workload.expected(), FINISH_TIMEOUT_S)
                await asyncio.to_thread(winner.kill)
        finally:
            await asyncio.to_thread(other.cleanup)
        scene.host.kill_count += other.kill_count
        await scene.write(2)
        scene.host.start()
        return await scene.result()


async def _start_busy_host(scene: CrashScenario) -> None:
    """A running host, with a container for each chat, and more messages waiting."""
    scene.host.start()
    await scene.write(6)
    await scene.wait_until_answered()
    await scene.write(3)


@asynccontextmanager
async def _run_faulty_host(
    name: str, root: Path, *, mode: str, chats: int, settings: Mapping[str, object]
) -> AsyncIterator[tuple[CrashScenario, Path]]:
    """A host with a clock shifted by a file, and with faulty runners."""
    root.mkdir(parents=True, exist_ok=True)
    offset = root / "offset"
    _write_offset(offset, 0.0)
    program = ("-P", str(FAULTY_HOST), HOME_PLACEHOLDER, str(offset), mode)
    async with prepare_scenario(
        name, root, chats=chats, settings={**PROCESS_SETTINGS, **settings}, program=program
    ) as scene:
        yield scene, offset


def _write_offset(offset: Path, seconds: float) -> None:
    """Atomically: no reader sees half of it."""
    draft = offset.with_suffix(".new")
    draft.write_text(str(seconds))
    draft.replace(offset)


@contextmanager
def _suspended(host: HostProcess) -> Iterator[None]:
    """Host and runners are stopped, as on a suspended machine."""
    pids = [host.pid, *host.runner_pids()]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number is signal.SIGSTOP:
            yield


def _log_contains(host: HostProcess, words: str) -> bool:
    return words in host.log.read_text()


def _count_lost_containers(host: HostProcess) -> int:
    """The number of containers that ended during work: stopped as stuck, or dead."""
    return sum(1 for line in host.log.read_text().splitlines() if '"event": "container_failed"' in line)


def _external_log(root: Path) -> Path:
    """A log on another disk than the failing one."""
    return root.parent / f"{root.name}.log"


async def _sort_loser_winner(one: HostProcess, other: HostProcess) -> tuple[HostProcess, HostProcess]:
    async with asyncio.timeout(scaled_timeout(FINISH_TIMEOUT_S)):
        while True:
            for loser, winner in ((one, other), (other, one)):
                code = await asyncio.to_thread(loser.wait_for_exit, POLL_INTERVAL_S)
                if code is not None:
                    assert code > 0, f"the refused host ended with {code}"
                    return loser, winner


CASES: Mapping[str, Case] = {
    "bad channel": partial(flaky_channel, idempotent=True),
    "bad channel, no keys": partial(flaky_channel, idempotent=False),
    "container fills its disk": disk_filling_runners,
    "deaf container": unresponsive_runners,
    "full disk": full_disk,
    "no write succeeds": read_only_files,
    "read-only disk": read_only_at_start,
    "clock an hour ahead": partial(clock_jump, name="clock an hour ahead", by_s=HOUR_S),
    "clock an hour back": partial(clock_jump, name="clock an hour back", by_s=-HOUR_S),
    "three days of suspend": partial(clock_jump, name="three days of suspend", by_s=72 * HOUR_S, suspended=True),
    "engine gone": engine_outage,
    "two hosts": two_hosts,
    "stubborn container": unstoppable_runners,
}
WITH_DOCKER = {"engine gone"}
DESCRIPTIONS: Mapping[str, str] = {
    "bad channel": "the platform answers 429, fails before and after it has a message, cuts the connection after it"
    " has one, or never answers, by chance",
    "bad channel, no keys": "the same on a platform that shows a message twice when it is sent twice",
    "container fills its disk": "a container writes more than it may into its folder: it is stopped and held, its"
    " person is told once, `nanohost status` names it, nothing is deleted; when the files are removed and it is"
    " released it goes on",
    "deaf container": "a container lives and takes no message: it is stopped as stuck",
    "full disk": "the home's disk has no byte left while messages come; the same host goes on when there is room",
    "no write succeeds": "every write of host and runners to a file fails for a while; the same host goes on",
    "read-only disk": "the host is killed and started on a disk that was mounted read-only: it says so and ends, its"
    " people wait; started on the mended disk it goes on",
    "clock an hour ahead": "the wall clock of host and containers is set while turns run and retries wait",
    "clock an hour back": "the same; retries and reminders are brought forward, so that nobody waits an hour",
    "three days of suspend": "host and containers stand still, and the clock is three days on when they wake",
    "engine gone": "the Docker engine does not answer for a while; containers that live go on, who needs a new one is"
    " told once and waits",
    "two hosts": "two hosts are started on one home, the one that serves is killed, three times",
    "stubborn container": "containers ignore SIGTERM: they are ended by SIGKILL, who writes meanwhile waits for the"
    " next",
}
