"""The common base of the process and the bubblewrap runtime, whose containers are processes of this machine.

A container is found by the arguments of its processes, watched through pid descriptors (which also report the end of
processes of an earlier host), and gone when its last process is gone. Containers outlive the host, because a restarted
host adopts them. Linux only.
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
from nanohost.runtimes.launch import complete_or_undo
from nanohost.runtimes.procfs import PROC, ProcessId, open_process, reap_exit_code
from nanohost.runtimes.runner_command import ContainerIdentity
from nanohost.runtimes.runtime_api import Container, ContainerSpec, DeathListener, Exited, Isolation, Running, RunState
from nanohost.text.translation import lazy_gettext
from nanohost.work.bounded_dict import BoundedDict

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContainer:
    """One container. It is gone when all `processes` are gone; the innermost is first."""

    identity: ContainerIdentity
    processes: tuple[ProcessId, ...]

    @property
    def leader(self) -> ProcessId:
        return self.processes[0]

    def container(self) -> Container:
        state = {"pid": str(self.leader.pid), "started": str(self.leader.start_ticks)}
        return Container(session_id=self.identity.session_id, lease=self.identity.lease, state=state)


class ProcessWatch:
    """Waits for the last process of one child, then calls `on_exited` once with the exit code.

    `exited` is set after the clean-up that `on_exited` starts.
    """

    def __init__(
        self,
        child: ProcessContainer,
        *,
        before_reaping: Callable[[ProcessContainer], None],
        on_exited: Callable[[ProcessWatch, int | None], None],
    ) -> None:
        self.child = child
        self.exited = asyncio.Event()
        self._before_reaping = before_reaping
        self._on_exited = on_exited
        self._exit_code: int | None = None
        self._loop = asyncio.get_running_loop()
        self._open_fds: set[int] = set()
        for process in child.processes:
            if (descriptor := open_process(process)) is not None:
                self._open_fds.add(descriptor)
                self._loop.add_reader(descriptor, self._on_process_exit, descriptor)
        if not self._open_fds:
            self._loop.call_soon(on_exited, self, None)

    def close(self) -> None:
        """Stop watching. The processes continue."""
        for descriptor in self._open_fds:
            self._loop.remove_reader(descriptor)
            close(descriptor)
        self._open_fds.clear()

    def _on_process_exit(self, descriptor: int) -> None:
        self._before_reaping(self.child)
        code = reap_exit_code(descriptor)
        self._exit_code = self._exit_code if code is None else code
        self._loop.remove_reader(descriptor)
        self._open_fds.remove(descriptor)
        close(descriptor)
        if not self._open_fds:
            self._on_exited(self, self._exit_code)


class ProcessRuntimeBase(ABC):
    """Implements the runtime port with processes. A subclass implements the abstract methods, which may block."""

    name: ClassVar[str]
    isolation: ClassVar[Isolation]

    def __init__(self, *, install: str) -> None:
        self.install = install
        self._watches: dict[ContainerIdentity, ProcessWatch] = {}
        self._exits: BoundedDict[ContainerIdentity, Exited] = BoundedDict()
        self._start_lock = asyncio.Lock()
        self._background_tasks: set[asyncio.Task[None]] = set()
        self._on_death: DeathListener | None = None

    @abstractmethod
    def check(self) -> None:
        """Test whether this runtime works on this machine. Raises RuntimeUnavailable."""

    @abstractmethod
    def _launch(self, spec: ContainerSpec) -> ProcessContainer:
        """Start the processes. Raises SpawnError; then nothing runs."""

    @abstractmethod
    def _find_running(self) -> Sequence[ProcessContainer]:
        """Returns all living containers of this install, whoever started them."""

    @abstractmethod
    def _signal(self, child: ProcessContainer, number: signal.Signals) -> None:
        """Send a signal: SIGTERM to the runner, SIGKILL to everything in the container."""

    @abstractmethod
    def _clean_up(self, child: ProcessContainer | None) -> None:
        """Remove what a dead container left outside its session's folder; None: what all dead ones left."""

    @abstractmethod
    def _before_reaping(self, child: ProcessContainer) -> None:
        """End the child's other processes after one has ended, before its pid is freed. Must not block."""

    @asynccontextmanager
    async def opened(self, on_death: DeathListener) -> AsyncIterator[None]:
        """Listen for deaths while entered. Raises RuntimeUnavailable if this machine cannot run such containers."""
        if not PROC.joinpath("self", "stat").exists():
            raise RuntimeUnavailable(
                lazy_gettext("The {runtime} runtime needs Linux.", runtime=self.name),
                hint=lazy_gettext("use Docker here"),
            )
        await asyncio.to_thread(self.check)
        self._on_death = on_death
        try:
            yield
        finally:
            await asyncio.gather(*self._background_tasks)
            self._on_death = None
            for watch in self._watches.values():
                watch.close()
            self._watches.clear()

    async def start(self, spec: ContainerSpec) -> Container:
        """Start a container, or return the one that runs with the same lease. Raises SpawnError."""
        identity = ContainerIdentity.from_spec(spec)
        async with self._start_lock:
            if watch := await self._find_watch(identity):
                return watch.child.container()
            job = asyncio.to_thread(self._launch, spec)
            child = await complete_or_undo(job, self._abort_start)
            return self._ensure_watch(child).child.container()

    async def stop(self, container: Container, *, grace_s: float) -> None:
        """Ask the runner to end, kill it after `grace_s` seconds. Returns when nothing of the container is left."""
        watch = await self._find_watch(_identity(container))
        if watch is None:
            return
        await asyncio.to_thread(self._signal, watch.child, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await watch.exited.wait()
        except TimeoutError:
            await asyncio.to_thread(self._signal, watch.child, signal.SIGKILL)
            await watch.exited.wait()

    async def poll(self, container: Container) -> RunState:
        """Returns whether the container is alive. The exit code is known only if this host saw the end."""
        identity = _identity(container)
        if await self._find_watch(identity) is not None:
            return Running()
        return self._exits.get(identity) or Exited(detail="no such process")

    async def adopt(self) -> Sequence[Container]:
        """Returns all living containers of this install and watches them. Removes leftovers of dead ones."""
        # Not during a start: its new resources would look like leftovers.
        async with self._start_lock:
            found = await asyncio.to_thread(self._find_running)
            containers = [self._ensure_watch(child).child.container() for child in found]
            await asyncio.to_thread(self._clean_up, None)
        return containers

    async def _find_watch(self, identity: ContainerIdentity) -> ProcessWatch | None:
        """Returns the watch of a living container, whoever started it; None if it is not alive."""
        if identity not in self._watches:
            for child in await asyncio.to_thread(self._find_running):
                if child.identity == identity:
                    return self._ensure_watch(child)
        return self._watches.get(identity)

    def _ensure_watch(self, child: ProcessContainer) -> ProcessWatch:
        watch = self._watches.get(child.identity)
        if watch is None:
            watch = ProcessWatch(child, before_reaping=self._before_reaping, on_exited=self._on_exited)
            self._watches[child.identity] = watch
        return watch

    def _on_exited(self, watch: ProcessWatch, code: int | None) -> None:
        if self._watches.pop(watch.child.identity, None) is None:
            return  # closed meanwhile
        self._exits[watch.child.identity] = Exited(code=code)
        task = asyncio.get_running_loop().create_task(self._reap(watch, code))
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)

    async def _reap(self, watch: ProcessWatch, code: int | None) -> None:
        await asyncio.to_thread(self._clean_up, watch.child)
        log.info("container_process_exited", runtime=self.name, session=watch.child.identity.session_id, code=code)
        if self._on_death is not None:
            self._on_death(watch.child.container())
        watch.exited.set()

    async def _abort_start(self, child: ProcessContainer) -> None:
        await asyncio.to_thread(self._signal, child, signal.SIGKILL)
        await self._ensure_watch(child).exited.wait()


def _identity(container: Container) -> ContainerIdentity:
    return ContainerIdentity(session_id=container.session_id, lease=container.lease)
