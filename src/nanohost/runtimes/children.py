"""Containers that are processes of this machine: what the process and the bubblewrap runtime have in common.

A container is found by the arguments of its processes, watched through pid descriptors (which also tell the end of
processes an earlier host started), and gone when the last of its processes is. Nothing is tied to the host's own
life, because a host that is restarted adopts what it finds. Linux only.
"""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import close
from typing import ClassVar

import structlog

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.launch import finished_or_undone
from nanohost.runtimes.port import Container, ContainerSpec, DeathListener, Exited, Isolation, Running, RunState
from nanohost.runtimes.procfs import PROC, ProcessId, exit_code, open_process
from nanohost.runtimes.remembered import Remembered
from nanohost.runtimes.runner_command import Identity

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One container. `processes` are all that must be gone for it to be gone, the innermost first."""

    identity: Identity
    processes: tuple[ProcessId, ...]

    @property
    def leader(self) -> ProcessId:
        return self.processes[0]

    def container(self) -> Container:
        state = {"pid": str(self.leader.pid), "started": str(self.leader.started)}
        return Container(session_id=self.identity.session_id, lease=self.identity.lease, state=state)


class Watch:
    """Waits for the last process of one child, then calls `on_gone` with the exit code, once.

    `gone` is for whoever waits for the end of the child with everything that follows; `on_gone` sees to it.
    """

    def __init__(
        self, child: Child, *, before_reaping: Callable[[Child], None], on_gone: Callable[[Watch, int | None], None]
    ) -> None:
        self.child = child
        self.gone = asyncio.Event()
        self._before_reaping = before_reaping
        self._on_gone = on_gone
        self._code: int | None = None
        self._loop = asyncio.get_running_loop()
        self._open: set[int] = set()
        for process in child.processes:
            if (descriptor := open_process(process)) is not None:
                self._open.add(descriptor)
                self._loop.add_reader(descriptor, self._ended, descriptor)
        if not self._open:
            self._loop.call_soon(on_gone, self, None)

    def close(self) -> None:
        """Stop watching. The processes go on."""
        for descriptor in self._open:
            self._loop.remove_reader(descriptor)
            close(descriptor)
        self._open.clear()

    def _ended(self, descriptor: int) -> None:
        self._before_reaping(self.child)
        code = exit_code(descriptor)
        self._code = self._code if code is None else code
        self._loop.remove_reader(descriptor)
        self._open.remove(descriptor)
        close(descriptor)
        if not self._open:
            self._on_gone(self, self._code)


class ChildRuntime(ABC):
    """The runtime port over processes; a way of starting them fills in the abstract methods, which may block."""

    name: ClassVar[str]
    isolation: ClassVar[Isolation]

    def __init__(self, *, install: str) -> None:
        self.install = install
        self._watches: dict[Identity, Watch] = {}
        self._exits: Remembered[Identity, Exited] = Remembered()
        self._starting = asyncio.Lock()
        self._errands: set[asyncio.Task[None]] = set()
        self._on_death: DeathListener | None = None

    @abstractmethod
    def check(self) -> None:
        """Find out by trying whether this machine can do it. Raises RuntimeUnavailable."""

    @abstractmethod
    def _launch(self, spec: ContainerSpec) -> Child:
        """Start the processes. Raises SpawnError, and then nothing runs."""

    @abstractmethod
    def _found(self) -> Sequence[Child]:
        """All living containers of this install, whoever started them."""

    @abstractmethod
    def _signal(self, child: Child, number: signal.Signals) -> None:
        """SIGTERM asks the runner to end, SIGKILL ends everything in the container."""

    @abstractmethod
    def _tidy(self, child: Child | None) -> None:
        """Remove what a dead container leaves beside its session; None: what any dead one left."""

    @abstractmethod
    def _before_reaping(self, child: Child) -> None:
        """One of the child's processes has ended, and its pid is not free yet: end the others. Must not block."""

    @asynccontextmanager
    async def opened(self, on_death: DeathListener) -> AsyncIterator[None]:
        """Listen for deaths while entered. Raises RuntimeUnavailable when this machine cannot run such containers."""
        if not PROC.joinpath("self", "stat").exists():
            raise RuntimeUnavailable(f"The {self.name} runtime needs Linux.", hint="use Docker here")
        await asyncio.to_thread(self.check)
        self._on_death = on_death
        try:
            yield
        finally:
            await asyncio.gather(*self._errands)
            self._on_death = None
            for watch in self._watches.values():
                watch.close()
            self._watches.clear()

    async def start(self, spec: ContainerSpec) -> Container:
        """Start a container, or return the one that runs under the same lease. Raises SpawnError."""
        identity = Identity.of(spec)
        async with self._starting:
            if there := await self._watch_of(identity):
                return there.child.container()
            job = asyncio.to_thread(self._launch, spec)
            child = await finished_or_undone(job, self._undo)
            return self._watched(child).child.container()

    async def stop(self, container: Container, *, grace_s: float) -> None:
        """Ask the runner to end, end it after `grace_s` seconds. Returns when nothing of it is left."""
        watch = await self._watch_of(_identity(container))
        if watch is None:
            return
        await asyncio.to_thread(self._signal, watch.child, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await watch.gone.wait()
        except TimeoutError:
            await asyncio.to_thread(self._signal, watch.child, signal.SIGKILL)
            await watch.gone.wait()

    async def poll(self, container: Container) -> RunState:
        """Alive or not; the exit code only when this host saw the end."""
        identity = _identity(container)
        if await self._watch_of(identity) is not None:
            return Running()
        return self._exits.get(identity) or Exited(detail="no such process")

    async def adopt(self) -> Sequence[Container]:
        """All living containers of this install, watched from now on; leftovers of dead ones are removed."""
        # Not while a start is under way: what it has just made looks like a leftover.
        async with self._starting:
            found = await asyncio.to_thread(self._found)
            containers = [self._watched(child).child.container() for child in found]
            await asyncio.to_thread(self._tidy, None)
        return containers

    async def _watch_of(self, identity: Identity) -> Watch | None:
        """The watch of a living container, started by whomever; None when it is not alive."""
        if identity not in self._watches:
            for child in await asyncio.to_thread(self._found):
                if child.identity == identity:
                    return self._watched(child)
        return self._watches.get(identity)

    def _watched(self, child: Child) -> Watch:
        watch = self._watches.get(child.identity)
        if watch is None:
            watch = Watch(child, before_reaping=self._before_reaping, on_gone=self._gone)
            self._watches[child.identity] = watch
        return watch

    def _gone(self, watch: Watch, code: int | None) -> None:
        if self._watches.pop(watch.child.identity, None) is None:
            return  # closed meanwhile
        self._exits[watch.child.identity] = Exited(code=code)
        errand = asyncio.get_running_loop().create_task(self._bury(watch, code))
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    async def _bury(self, watch: Watch, code: int | None) -> None:
        await asyncio.to_thread(self._tidy, watch.child)
        log.info("container_gone", runtime=self.name, session=watch.child.identity.session_id, code=code)
        if self._on_death is not None:
            self._on_death(watch.child.container())
        watch.gone.set()

    async def _undo(self, child: Child) -> None:
        await asyncio.to_thread(self._signal, child, signal.SIGKILL)
        await self._watched(child).gone.wait()


def _identity(container: Container) -> Identity:
    return Identity(session_id=container.session_id, lease=container.lease)
