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

from nanohost.keeper.held import WORDS as ON_HOLD
from nanohost.testing.limits import seconds
from tests.crash.faults import EngineDoor, filled, no_writing, remount, small_disk
from tests.crash.measured import Result
from tests.crash.moods import AT_MOST, bad_days
from tests.crash.odd_runner import HOARD_MB
from tests.crash.runs import RESTLESS
from tests.crash.scene import SETTLE_LIMIT_S, Scene, staged
from tests.crash.victims import HOME, HostProcess

Case = Callable[[Path], Coroutine[object, object, Result]]

FELT_S = 1.0
"""How long a fault lasts at least."""
DISK_MB = 24
HOUR_S = 3600.0
LOOK_S = 0.1
MOST_GONE = 4
"""One a session: those that the case itself killed may be told of late."""
SMALL: Mapping[str, object] = {**RESTLESS, "session_disk_mb": 16}
"""So little that a test can fill it."""
ODD_HOST = Path(__file__).with_name("odd_host.py")
PROCESS: Mapping[str, object] = {"runtime": "process"}


async def full_disk(root: Path) -> Result:
    """Messages come while no byte is left. Raises CannotBeDone without the right to mount."""
    with small_disk(root, DISK_MB):
        async with staged("full disk", root, chats=3, settings=PROCESS, log=_beside(root)) as scene:
            await _at_work(scene)
            with filled(root):
                await scene.write(9)
                await scene.until("the log says that the disk is full", partial(_said, scene.host, "disk is full"))
                await asyncio.sleep(FELT_S)
                assert not scene.people.expected() <= scene.platform.texts().keys(), "all was answered on a full disk"
            await scene.write(3)
            return await scene.result()


async def disk_refuses(root: Path) -> Result:
    """Host and runners can write to no file for a while: what a disk that turned read-only does to them."""
    async with staged("no write succeeds", root, chats=3, settings=PROCESS) as scene:
        await _at_work(scene)
        with no_writing([scene.host.pid, *scene.host.runners()]):
            await scene.write(9)
            await asyncio.sleep(FELT_S)
            assert not scene.people.expected() <= scene.platform.texts().keys(), "all was answered without a write"
        await scene.write(3)
        return await scene.result()


async def read_only_at_start(root: Path) -> Result:
    """A host that is started on a read-only disk says so and ends; started on the mended one it goes on."""
    with small_disk(root, DISK_MB):
        async with staged("read-only disk", root, chats=3, settings=PROCESS, log=_beside(root)) as scene:
            await _at_work(scene)
            await scene.write(6)
            await asyncio.to_thread(scene.host.kill)
            await asyncio.to_thread(scene.host.kill_all_runners)
            await asyncio.to_thread(remount, root, "ro")
            scene.host.start()
            code = await asyncio.to_thread(scene.host.exited_within, seconds(40))
            assert code, f"it ended with {code}"
            assert _said(scene.host, "Read-only file system"), "it does not say why"
            await asyncio.to_thread(remount, root, "rw")
            await scene.write(3)
            scene.host.start()
            return await scene.result(container_kills=3)


async def clock_set(root: Path, *, name: str, by_s: float, suspended: bool = False) -> Result:
    """The wall clock jumps while turns run and retries wait; `suspended`: all stood still meanwhile."""
    async with _odd(name, root, mode="plain", chats=4, settings={}) as (scene, offset):
        await _at_work(scene)
        await scene.write(4)
        killed = await asyncio.to_thread(scene.host.kill_all_runners)  # retries are due soon, by the old clock
        await scene.write(4)
        before = _containers_gone(scene.host)
        with _standing_still(scene.host) if suspended else nullcontext():
            _write_offset(offset, by_s)
        await scene.write(8)
        result = await scene.result(max(killed, scene.host.deaths()))
        assert _containers_gone(scene.host) - before <= MOST_GONE, "working containers were ended"
        return result


async def engine_gone(root: Path) -> Result:
    """The engine is not there for a while, then it is; containers live on meanwhile."""
    root.mkdir(parents=True, exist_ok=True)
    async with EngineDoor(root / "engine.sock").opened() as door:
        environment = {"DOCKER_HOST": door.url}
        settings = {"runtime": "docker"}
        async with staged("engine gone", root, chats=4, settings=settings, environment=environment) as scene:
            scene.host.start()
            await scene.write(2)  # two of the chats have a container when it happens
            await scene.answered()
            await door.shut()
            await scene.write(6)
            await scene.until(
                "the log says that no container came up", partial(_said, scene.host, "container_not_started")
            )
            await asyncio.sleep(FELT_S)
            await door.open()
            await scene.write(4)
            result = await scene.result()
            assert result.notices <= 2, f"{result.notices} notices to the two chats that had to wait"
            return result


async def bad_channel(root: Path, *, idempotent: bool) -> Result:
    """The platform limits, fails before and after it has the message, cuts the connection, or never answers."""
    mood = bad_days(seed=5)
    name = "bad channel" if idempotent else "bad channel, no keys"
    async with staged(name, root, chats=8, settings=PROCESS, idempotent=idempotent, mood=mood) as scene:
        scene.host.start()
        for _ in range(20):
            await scene.write(5)
            await asyncio.sleep(0.2)
        result = await scene.result(limit_s=4 * SETTLE_LIMIT_S)
        assert scene.platform.moods.keys() > AT_MOST.keys(), "some mood was not met"
        return result


async def stubborn_runners(root: Path) -> Result:
    """Containers that do not end when they are told to; who writes meanwhile is answered by the next."""
    async with _odd("stubborn container", root, mode="stubborn", chats=2, settings=RESTLESS) as (scene, _):
        scene.host.start()
        await scene.write(4)
        await scene.answered()
        await scene.until("an idle container is stopped", partial(_said, scene.host, "container_idle"))
        await scene.write(4)
        return await scene.result()


async def deaf_runners(root: Path) -> Result:
    """Containers live and take no message, each in its session's first life: stopped, the next ones answer."""
    settings = {"heartbeat_limit_s": seconds(2)}
    async with _odd("deaf container", root, mode="deaf", chats=2, settings=settings) as (scene, _):
        scene.host.start()
        await scene.write(4)
        await scene.answered()
        await scene.write(4)
        return await scene.result(_containers_gone(scene.host))


async def hoarders(root: Path) -> Result:
    """A container fills its folder: it is stopped and held, status and the person are told, nothing of it is deleted,
    and when somebody made room and released it all is answered."""
    async with _odd("container fills its disk", root, mode="hoarder", chats=1, settings=SMALL) as (scene, _):
        scene.host.start()
        await scene.write(2)
        await scene.until("the log says why it was stopped", partial(_said, scene.host, '"reason": "disk"'))
        told = ("c0", ON_HOLD)
        await scene.until("its person is told", lambda: told in scene.platform.texts(), within_s=60)
        status = await asyncio.to_thread(scene.host.command, "status")
        assert "its out folder has grown" in status.stdout, status.stdout + status.stderr
        hoard = list(root.glob("sessions/*/*/out/hoard-*"))
        assert len(hoard) == HOARD_MB, "something of it was deleted"
        for file in hoard:
            file.unlink()
        session = hoard[0].parent.parent.name
        await asyncio.to_thread(scene.host.command, "sessions", "release", session)
        await scene.write(2)
        result = await scene.result(_containers_gone(scene.host))
        assert result.notices == 1, f"{result.notices} notices"
        return result


async def two_hosts(root: Path, *, rounds: int = 3) -> Result:
    """Two hosts are started together on one home: one serves, one is refused; the winner is killed, and again."""
    async with staged("two hosts", root, chats=2, settings=PROCESS) as scene:
        other = HostProcess(root, scene.platform.port, PROCESS, log="other.log")
        try:
            for _ in range(rounds):
                await scene.write(2)
                for host in (scene.host, other):
                    host.start()
                loser, winner = await _loser_and_winner(scene.host, other)
                assert _said(loser, str(winner.pid)), "the refused host does not say who serves"
                await scene.platform.until_seen(scene.people.expected(), SETTLE_LIMIT_S)
                await asyncio.to_thread(winner.kill)
        finally:
            await asyncio.to_thread(other.end)
        scene.host.kills += other.kills
        await scene.write(2)
        scene.host.start()
        return await scene.result()


async def _at_work(scene: Scene) -> None:
    """A host that serves, with a container for each chat, and more to do."""
    scene.host.start()
    await scene.write(6)
    await scene.answered()
    await scene.write(3)


@asynccontextmanager
async def _odd(
    name: str, root: Path, *, mode: str, chats: int, settings: Mapping[str, object]
) -> AsyncIterator[tuple[Scene, Path]]:
    """A host with a clock to shift, by the file it is given with it, and with odd runners."""
    root.mkdir(parents=True, exist_ok=True)
    offset = root / "offset"
    _write_offset(offset, 0.0)
    program = ("-P", str(ODD_HOST), HOME, str(offset), mode)
    async with staged(name, root, chats=chats, settings={**PROCESS, **settings}, program=program) as scene:
        yield scene, offset


def _write_offset(offset: Path, seconds: float) -> None:
    """In one step: nobody reads half of it."""
    draft = offset.with_suffix(".new")
    draft.write_text(str(seconds))
    draft.replace(offset)


@contextmanager
def _standing_still(host: HostProcess) -> Iterator[None]:
    """Host and runners stand still, as in a suspended machine."""
    pids = [host.pid, *host.runners()]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number is signal.SIGSTOP:
            yield


def _said(host: HostProcess, words: str) -> bool:
    return words in host.log.read_text()


def _containers_gone(host: HostProcess) -> int:
    """How many ended that had worked or should have: stopped as stuck, or dead."""
    return sum(1 for line in host.log.read_text().splitlines() if '"event": "container_died"' in line)


def _beside(root: Path) -> Path:
    """A log that is not on the disk that is taken away."""
    return root.parent / f"{root.name}.log"


async def _loser_and_winner(one: HostProcess, other: HostProcess) -> tuple[HostProcess, HostProcess]:
    async with asyncio.timeout(seconds(SETTLE_LIMIT_S)):
        while True:
            for loser, winner in ((one, other), (other, one)):
                code = await asyncio.to_thread(loser.exited_within, LOOK_S)
                if code is not None:
                    assert code > 0, f"the refused host ended with {code}"
                    return loser, winner


CASES: Mapping[str, Case] = {
    "bad channel": partial(bad_channel, idempotent=True),
    "bad channel, no keys": partial(bad_channel, idempotent=False),
    "container fills its disk": hoarders,
    "deaf container": deaf_runners,
    "full disk": full_disk,
    "no write succeeds": disk_refuses,
    "read-only disk": read_only_at_start,
    "clock an hour ahead": partial(clock_set, name="clock an hour ahead", by_s=HOUR_S),
    "clock an hour back": partial(clock_set, name="clock an hour back", by_s=-HOUR_S),
    "three days of suspend": partial(clock_set, name="three days of suspend", by_s=72 * HOUR_S, suspended=True),
    "engine gone": engine_gone,
    "two hosts": two_hosts,
    "stubborn container": stubborn_runners,
}
WITH_DOCKER = {"engine gone"}
MEANINGS: Mapping[str, str] = {
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
