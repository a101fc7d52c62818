# /// script
# dependencies = []
# [tool.nanohost]
# kind = "runtime"
# api = 1
# auto = 10
# ///
"""Containers in a Docker engine: the fullest isolation, and the default where an engine answers. Podman's socket serves
as one (DOCKER_HOST=unix:///run/podman/podman.sock).

Calls go to the engine from four threads, so that a slow one delays neither the event loop nor every other container.
Deaths come from the engine's event stream. A dead container's output is saved in its session, then it is removed,
then the death is told. Only containers with the install's label are ever touched.
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
from nanohost.runtimes.docker_deaths import DeathWatch
from nanohost.runtimes.docker_engine import EngineKind, accept_engine, reach_engine
from nanohost.runtimes.docker_image import ensure_image
from nanohost.runtimes.launch import finished_or_undone
from nanohost.runtimes.port import (
    Container,
    ContainerSpec,
    DeathListener,
    Exited,
    Isolation,
    Running,
    RunState,
    RuntimeContext,
)
from nanohost.runtimes.remembered import Remembered
from nanohost.runtimes.runner_command import Identity
from nanohost.runtimes.seccomp import filter_digest
from nanohost.threads import Threads

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4

SECOND_LOOK_S = 2.0
"""How long a killed container may take to show up among the deaths before the engine is asked."""


async def create(context: RuntimeContext) -> DockerRuntime:
    """Its image is built when it is missing. Raises RuntimeUnavailable."""
    await asyncio.to_thread(_try_engine)
    image = await ensure_image(base_image=context.base_image, progress=context.progress)
    return DockerRuntime(install=context.install, image=image)


def reopen(install: str) -> DockerRuntime:
    """One that starts nothing."""
    return DockerRuntime(install=install, image="")


def _try_engine() -> None:
    client = reach_engine()
    try:
        accept_engine(client)
    finally:
        client.close()


@dataclass(slots=True, eq=False)
class _Living:
    """A container we wait for. `ending` is set while it is buried, `gone` when its death has been told."""

    container: Container
    ending: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class DockerRuntime:
    """Starts runners in Docker. `image` is what docker_image.ensure_image returned; `command` replaces its entry
    point in tests."""

    name = "docker"
    isolation = Isolation.CONTAINER

    def __init__(self, *, install: str, image: str, command: Sequence[str] | None = None) -> None:
        self.install = install
        self.image = image
        self._command = command
        self.system_calls = filter_digest()
        self._engine: DockerContainers | None = None
        self._threads: Threads | None = None
        self._living: dict[str, _Living] = {}
        self._starting: WeakValueDictionary[Identity, asyncio.Lock] = WeakValueDictionary()
        self._unclaimed: Remembered[str, None] = Remembered()
        self._exits: Remembered[Identity, Exited] = Remembered()
        self._errands: set[asyncio.Task[None]] = set()
        self._on_death: DeathListener | None = None

    @asynccontextmanager
    async def opened(self, on_death: DeathListener) -> AsyncIterator[None]:
        """Reach the engine and listen for deaths while entered. Raises RuntimeUnavailable within seconds."""
        client = await asyncio.to_thread(reach_engine)
        loop = asyncio.get_running_loop()
        watch = DeathWatch(
            self.install,
            on_death=lambda engine_id: _tell(loop, self._died, engine_id),
            on_connect=lambda: _tell(loop, self._reconnected),
        )
        try:
            kind = await asyncio.to_thread(accept_engine, client)
            self._engine = DockerContainers(
                client,
                install=self.install,
                image=self.image,
                command=self._command,
                profile_by_path=kind is EngineKind.PODMAN,
            )
            self._on_death = on_death
            with Threads("docker", THREADS) as self._threads:
                watch.start()
                try:
                    yield
                finally:
                    await asyncio.to_thread(watch.close)
                    await asyncio.gather(*self._errands)
        finally:
            self._on_death = self._engine = self._threads = None
            self._living.clear()
            client.close()

    async def start(self, spec: ContainerSpec) -> Container:
        """Start a container, or return the one of the same lease. Raises SpawnError."""
        async with self._starting.setdefault(Identity.of(spec), asyncio.Lock()):
            container = await finished_or_undone(self._ask(self._containers.start, spec), self._discard)
            return self._known(container).container

    async def stop(self, container: Container, *, grace_s: float) -> None:
        """Send SIGTERM, then SIGKILL after `grace_s` seconds. Returns when the container is removed."""
        for each in await self._ask(self._containers.listed, _identity(container)):
            living = self._known(each.container)
            if each.lives:
                await self._end(living, grace_s)
            else:
                self._died(each.id)
                await living.gone.wait()

    async def poll(self, container: Container) -> RunState:
        """Asks the engine. The exit code of a removed container is known to the host that removed it."""
        identity = _identity(container)
        for each in await self._ask(self._containers.listed, identity):
            if each.lives:
                return Running()
            if each.state != "created":
                return await self._ask(self._containers.ending, each.id)
        return self._exits.get(identity) or Exited(detail="no such container")

    async def adopt(self) -> Sequence[Container]:
        """All living containers of this install; dead ones are removed, their output saved."""
        adopted = []
        for each in await self._ask(self._containers.listed):
            if each.lives:
                adopted.append(self._known(each.container).container)
            elif each.id in self._living:
                self._died(each.id)
            elif each.identity not in self._starting:
                await self._ask(self._containers.bury, each.container)
        return adopted

    @property
    def _containers(self) -> DockerContainers:
        if self._engine is None:
            raise RuntimeUnavailable("The Docker runtime is not open.")
        return self._engine

    def _ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run a blocking call in one of the four threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    def _known(self, container: Container) -> _Living:
        """Wait for this container's death from now on; it may already have been told."""
        engine_id = container.state["id"]
        if engine_id not in self._living:
            self._living[engine_id] = _Living(container)
            if engine_id in self._unclaimed:
                self._died(engine_id)
        return self._living[engine_id]

    async def _end(self, living: _Living, grace_s: float) -> None:
        engine_id = living.container.state["id"]
        await self._ask(self._containers.signal, engine_id, "SIGTERM")
        if await _within(grace_s, living.gone):
            return
        await self._ask(self._containers.signal, engine_id, "SIGKILL")
        while not await _within(SECOND_LOOK_S, living.gone):
            await self._compare()

    async def _discard(self, container: Container) -> None:
        await self._ask(self._containers.remove, container.state["id"])

    def _died(self, engine_id: str) -> None:
        """The engine says this one is dead; it may say so again, or before start has returned."""
        living = self._living.get(engine_id)
        if living is None:
            self._unclaimed[engine_id] = None
        elif not living.ending:
            living.ending = True
            self._errand(self._bury(living))

    async def _bury(self, living: _Living) -> None:
        container = living.container
        try:
            ended = await self._ask(self._containers.bury, container)
        except NanohostError as error:
            log.warning("container_not_removed", session=container.session_id, why=str(error))
            ended = Exited(detail=str(error))
        self._exits[_identity(container)] = ended
        self._living.pop(container.state["id"], None)
        log.info("container_gone", runtime=self.name, session=container.session_id, code=ended.code)
        if self._on_death is not None:
            self._on_death(container)
        living.gone.set()

    def _reconnected(self) -> None:
        self._errand(self._compare())

    async def _compare(self) -> None:
        """Find deaths nobody told us of: what we know, against what the engine has."""
        expected = list(self._living)
        try:
            alive = {each.id for each in await self._ask(self._containers.listed) if each.lives}
        except NanohostError as error:
            log.warning("engine_not_compared", runtime=self.name, why=str(error))
            return
        for engine_id in expected:
            if engine_id not in alive:
                self._died(engine_id)

    def _errand(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def _identity(container: Container) -> Identity:
    return Identity(session_id=container.session_id, lease=container.lease)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    loop.call_soon_threadsafe(partial(what, *args, **kwargs))


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
