"""What starts a container, as one port: start, stop, poll, adopt, and news of deaths.

A runtime keeps nothing that must survive the host. What it needs to find a container again is a small dictionary,
`Container.state`, which the host stores with the session; `adopt` finds the living ones even when that was not
stored yet, because every container carries its install, session and lease where the engine can list them
(labels in Docker, arguments on the command line elsewhere).

A runtime is one file with a header (nanohost.extensions.runtimes) and two functions: `async create(context) ->
Runtime`, one that works here or RuntimeUnavailable, and `reopen(install) -> Runtime`, fit to find and stop what was
started and to start nothing.

The conformance suite in nanohost.testing.runtime_suite says the same in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.settings import DockerSettings


class Isolation(StrEnum):
    """How much stands between the agent and this machine."""

    CONTAINER = "container"
    """Own file system, no network, limits on memory, CPU and processes."""
    SANDBOX = "sandbox"
    """Own namespaces, read-only system, no network; limits as far as the kernel lets us."""
    NONE = "none"
    """A plain process of this user: it can read and write what the user can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ceilings of one container. Memory in bytes, CPU in cores."""

    memory_bytes: int = DockerSettings().memory_bytes
    cpus: float = DockerSettings().cpus
    pids: int = DockerSettings().pids


def resource_limits(settings: DockerSettings) -> Limits:
    """As the operator set them."""
    return Limits(memory_bytes=settings.memory_bytes, cpus=settings.cpus, pids=settings.pids)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything a runtime may know about the container it starts.

    `session_dir` holds in/ out/ state/ run/ log/ and exists; `agent_dir` is the agent group's folder.
    `environment` is complete: the host's own environment is never passed on, and no secret is ever in it.
    `extensions` are folders of the install, side by side, with files for the runner: it may read them, and no more.
    """

    session_id: SessionId
    lease: LeaseId
    session_dir: Path
    agent_dir: Path
    environment: Mapping[str, str]
    limits: Limits = Limits()
    extensions: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container that was started. `state` is what the runtime needs to find it again: strings only."""

    session_id: SessionId
    lease: LeaseId
    state: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Alive as far as the engine can tell; says nothing about whether it makes progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """Gone. `code` is the exit code where the engine still knows it (137: killed, often for memory)."""

    code: int | None = None
    detail: str = ""


RunState = Running | Exited

DeathListener = Callable[[Container], None]
"""Called on the event loop once for each container that died, whoever ended it. Must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeContext:
    """What a runtime is made from. `install` is on everything that it starts; `base_image` is what the operator wants
    an image to be built on; `progress` gets a line a step of what takes long, from any thread."""

    install: str
    base_image: str | None = None
    progress: Callable[[str], None] = lambda _: None


class Runtime(Protocol):
    """One way of starting containers."""

    @property
    def name(self) -> str:
        """Its file's, such as `docker`: stored with the session, so that nobody else's container is touched."""
        ...

    @property
    def isolation(self) -> Isolation: ...

    def opened(self, on_death: DeathListener) -> AbstractAsyncContextManager[None]:
        """Reach the engine and listen for deaths while entered. Leaving it stops no container.

        Raises RuntimeUnavailable, with what to install or start as the hint.
        """
        ...

    async def start(self, spec: ContainerSpec) -> Container:
        """Start one container. Returning means the engine has it; the runner may need a moment to its first poll.

        A container of the same session and lease that is already there is returned as it is (a crash between start
        and our commit). Raises SpawnError, and then nothing is left running.
        """
        ...

    async def stop(self, container: Container, *, grace_s: float) -> None:
        """Ask it to end, kill it after `grace_s` seconds. Returning means it is gone; it is fine if it already was."""
        ...

    async def poll(self, container: Container) -> RunState:
        """Is it alive? Answers for a container that never started, has died, or was started by an earlier host."""
        ...

    async def adopt(self) -> Sequence[Container]:
        """All living containers of this install, those of earlier hosts included. Removes the remains of dead ones."""
        ...
