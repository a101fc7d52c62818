# /// script
# dependencies = []
# [tool.nanohost]
# kind = "runtime"
# api = 1
# auto = 10
# ///
"""Runs containers in a Docker engine: the strongest isolation, and the default if an engine answers. Podman's socket
works too (DOCKER_HOST=unix:///run/podman/podman.sock).

Calls to the engine run in four threads, so that a slow one delays neither the event loop nor all other containers.
Deaths come from the engine's event stream. The runtime saves a dead container's output in its session, removes the
container, and then reports the death. Never: touches a container without the install's label.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

import structlog

from nanohost.errors import NanohostError, RuntimeUnavailable
from nanohost.runtimes.docker_containers import DockerContainers
from nanohost.runtimes.docker_engine import EngineKind, check_engine, connect_engine
from nanohost.runtimes.docker_events import EngineEventListener
from nanohost.runtimes.docker_image import ensure_image
from nanohost.runtimes.launch import complete_or_undo
from nanohost.runtimes.runner_command import ContainerIdentity
from nanohost.runtimes.runtime_api import (
    Container,
    ContainerSpec,
    DeathListener,
    Exited,
    Isolation,
    Running,
    RunState,
    RuntimeContext,
)
from nanohost.runtimes.seccomp import filter_digest
from nanohost.work.bounded_dict import BoundedDict
from nanohost.work.thread_pool import ThreadPool

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

THREAD_COUNT = 4

RECONCILE_AFTER_S = 2.0
"""How long to wait for the death of a killed container before the engine is asked for its containers."""


async def create(context: RuntimeContext) -> DockerRuntime:
    """Returns a runtime that works on this machine; builds its image if it is missing. Raises RuntimeUnavailable."""
    await asyncio.to_thread(_check_engine)
    image = await ensure_image(base_image=context.base_image, progress=context.progress)
    return DockerRuntime(install=context.install, image=image)


def reopen(install: str) -> DockerRuntime:
    """Returns a runtime that finds and stops containers, and starts none."""
    return DockerRuntime(install=install, image="")


def _check_engine() -> None:
    client = connect_engine()
    try:
        check_engine(client)
    finally:
        client.close()


@dataclass(slots=True, eq=False)
class _TrackedContainer:
    """A container whose death is awaited. `is_reaping` is set while it is removed, `exited` when its death has been
    reported."""

    container: Container
    is_reaping: bool = False
    exited: asyncio.Event = field(default_factory=asyncio.Event)


class DockerRuntime:
    """Starts runners in Docker. `image`: the tag from docker_image.ensure_image. `command` replaces its entry point in
    tests."""

    name = "docker"
    isolation = Isolation.CONTAINER

    def __init__(self, *, install: str, image: str, command: Sequence[str] | None = None) -> None:
        self.install = install
        self.image = image
        self._command = command
        self.system_calls = filter_digest()
        self._engine: DockerContainers | None = None
        self._threads: ThreadPool | None = None
        self._tracked: dict[str, _TrackedContainer] = {}
        self._start_locks: WeakValueDictionary[ContainerIdentity, asyncio.Lock] = WeakValueDictionary()
        self._early_exits: BoundedDict[str, None] = BoundedDict()
        self._exits: BoundedDict[ContainerIdentity, Exited] = BoundedDict()
        self._background_tasks: set[asyncio.Task[None]] = set()
        self._on_death: DeathListener | None = None

    @asynccontextmanager
    async def opened(self, on_death: DeathListener) -> AsyncIterator[None]:
        """Connect to the engine and listen for deaths while entered. Raises RuntimeUnavailable within seconds."""
        client = await asyncio.to_thread(connect_engine)
        loop = asyncio.get_running_loop()
        watch = EngineEventListener(
            self.install,
            on_death=lambda engine_id: _call_in_loop(loop, self._handle_exit, engine_id),
            on_connect=lambda: _call_in_loop(loop, self._on_reconnect),
        )
        try:
            kind = await asyncio.to_thread(check_engine, client)
            self._engine = DockerContainers(
                client,
                install=self.install,
                image=self.image,
                command=self._command,
                profile_by_path=kind is EngineKind.PODMAN,
            )
            self._on_death = on_death
            with ThreadPool("docker", THREAD_COUNT) as self._threads:
                watch.start()
                try:
                    yield
                finally:
                    await asyncio.to_thread(watch.close)
                    await asyncio.gather(*self._background_tasks)
        finally:
            self._on_death = self._engine = self._threads = None
            self._tracked.clear()
            client.close()

    async def start(self, spec: ContainerSpec) -> Container:
        """Start a container, or return the existing one of the same lease. Raises SpawnError."""
        async with self._start_locks.setdefault(ContainerIdentity.from_spec(spec), asyncio.Lock()):
            container = await complete_or_undo(self._run_in_thread(self._containers.start, spec), self._remove)
            return self._track(container).container

    async def stop(self, container: Container, *, grace_s: float) -> None:
        """Send SIGTERM, then SIGKILL after `grace_s` seconds. Returns when the container is removed."""
        for each in await self._run_in_thread(self._containers.list_containers, _identity(container)):
            tracked = self._track(each.container)
            if each.is_alive:
                await self._terminate(tracked, grace_s)
            else:
                self._handle_exit(each.id)
                await tracked.exited.wait()

    async def poll(self, container: Container) -> RunState:
        """Ask the engine. Only the host that removed a container knows its exit code."""
        identity = _identity(container)
        for each in await self._run_in_thread(self._containers.list_containers, identity):
            if each.is_alive:
                return Running()
            if each.state != "created":
                return await self._run_in_thread(self._containers.exit_status, each.id)
        return self._exits.get(identity) or Exited(detail="no such container")

    async def adopt(self) -> Sequence[Container]:
        """Returns all living containers of this install. Removes dead ones and saves their output."""
        adopted = []
        for each in await self._run_in_thread(self._containers.list_containers):
            if each.is_alive:
                adopted.append(self._track(each.container).container)
            elif each.id in self._tracked:
                self._handle_exit(each.id)
            elif each.identity not in self._start_locks:
                await self._run_in_thread(self._containers.reap, each.container)
        return adopted

    @property
    def _containers(self) -> DockerContainers:
        if self._engine is None:
            raise RuntimeUnavailable("The Docker runtime is not open.")
        return self._engine

    def _run_in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run a blocking call in one of the four threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    def _track(self, container: Container) -> _TrackedContainer:
        """Track this container until its death, which may have been reported already."""
        engine_id = container.state["id"]
        if engine_id not in self._tracked:
            self._tracked[engine_id] = _TrackedContainer(container)
            if engine_id in self._early_exits:
                self._handle_exit(engine_id)
        return self._tracked[engine_id]

    async def _terminate(self, tracked: _TrackedContainer, grace_s: float) -> None:
        engine_id = tracked.container.state["id"]
        await self._run_in_thread(self._containers.signal, engine_id, "SIGTERM")
        if await _wait_with_timeout(grace_s, tracked.exited):
            return
        await self._run_in_thread(self._containers.signal, engine_id, "SIGKILL")
        while not await _wait_with_timeout(RECONCILE_AFTER_S, tracked.exited):
            await self._reconcile()

    async def _remove(self, container: Container) -> None:
        await self._run_in_thread(self._containers.remove, container.state["id"])

    def _handle_exit(self, engine_id: str) -> None:
        """Handle a reported death. The engine may report it twice, or before `start` has returned."""
        tracked = self._tracked.get(engine_id)
        if tracked is None:
            self._early_exits[engine_id] = None
        elif not tracked.is_reaping:
            tracked.is_reaping = True
            self._spawn_task(self._reap(tracked))

    async def _reap(self, tracked: _TrackedContainer) -> None:
        container = tracked.container
        try:
            ended = await self._run_in_thread(self._containers.reap, container)
        except NanohostError as error:
            log.warning("container_not_removed", session=container.session_id, why=str(error))
            ended = Exited(detail=str(error))
        self._exits[_identity(container)] = ended
        self._tracked.pop(container.state["id"], None)
        log.info("container_process_exited", runtime=self.name, session=container.session_id, code=ended.code)
        if self._on_death is not None:
            self._on_death(container)
        tracked.exited.set()

    def _on_reconnect(self) -> None:
        self._spawn_task(self._reconcile())

    async def _reconcile(self) -> None:
        """Find deaths that the engine did not report: compare the tracked containers with those of the engine."""
        expected = list(self._tracked)
        try:
            alive = {each.id for each in await self._run_in_thread(self._containers.list_containers) if each.is_alive}
        except NanohostError as error:
            log.warning("engine_reconcile_failed", runtime=self.name, why=str(error))
            return
        for engine_id in expected:
            if engine_id not in alive:
                self._handle_exit(engine_id)

    def _spawn_task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)


def _identity(container: Container) -> ContainerIdentity:
    return ContainerIdentity(session_id=container.session_id, lease=container.lease)


def _call_in_loop(
    loop: asyncio.AbstractEventLoop, callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs
) -> None:
    loop.call_soon_threadsafe(partial(callback, *args, **kwargs))


async def _wait_with_timeout(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
