"""Defines the runtime port: start, stop, poll and adopt containers, and report their deaths.

A runtime keeps no state that must survive the host. What it needs to find a container again is a small dictionary,
`Container.state`, which the host stores with the session. `adopt` finds living containers even if that was not stored,
because each one carries its install, session and lease where the engine can list them (labels in Docker, command line
arguments elsewhere).

A runtime is one file with a header (nanohost.extensions.runtimes) and two functions: `async create(context) ->
Runtime` returns one that works on this machine or raises RuntimeUnavailable; `reopen(install) -> Runtime` returns one
that finds and stops containers, and starts none.

The conformance suite in nanohost.testing.runtime_suite tests this contract.
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
    """How strongly the agent is isolated from this machine."""

    CONTAINER = "container"
    """Own file system, no network, limits on memory, CPU and processes."""
    SANDBOX = "sandbox"
    """Own namespaces, read-only system, no network; limits as far as the kernel allows."""
    NONE = "none"
    """A plain process of this user: it can read and write what the user can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resource limits of one container. Memory in bytes, CPU in cores."""

    memory_bytes: int = DockerSettings().memory_bytes
    cpus: float = DockerSettings().cpus
    pids: int = DockerSettings().pids


def resource_limits(settings: DockerSettings) -> Limits:
    """Returns the limits from the settings."""
    return Limits(memory_bytes=settings.memory_bytes, cpus=settings.cpus, pids=settings.pids)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything that a runtime may know about the container that it starts.

    `session_dir` exists and holds in/ out/ state/ run/ log/. `agent_dir`: the agent group's folder. `environment`: all
    of it; the host's own environment is never passed on, and it never holds a secret. `extensions`: folders of the
    install, in one parent folder, with files that the runner may read and not write.
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
    """A started container. `state`: what the runtime needs to find it again, strings only."""

    session_id: SessionId
    lease: LeaseId
    state: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The container is alive according to the engine, whether it makes progress or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The container is gone. `code`: the exit code if the engine still knows it (137: killed, often for memory)."""

    code: int | None = None
    detail: str = ""


RunState = Running | Exited

DeathListener = Callable[[Container], None]
"""Called on the event loop, once for each dead container, whoever ended it. Must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeContext:
    """What `create` makes a runtime from. `install`: the id that marks everything it starts. `base_image`: the
    operator's choice of an image to build on. `progress`: called with a line for each slow step, from any thread."""

    install: str
    base_image: str | None = None
    progress: Callable[[str], None] = lambda _: None


class Runtime(Protocol):
    """Starts and stops containers in one way."""

    @property
    def name(self) -> str:
        """The name of its file, such as `docker`. Stored with the session, so that only its own containers are
        touched."""
        ...

    @property
    def isolation(self) -> Isolation: ...

    def opened(self, on_death: DeathListener) -> AbstractAsyncContextManager[None]:
        """Connect to the engine and listen for deaths while entered. Exit stops no container.

        Raises RuntimeUnavailable, with what to install or start as the hint.
        """
        ...

    async def start(self, spec: ContainerSpec) -> Container:
        """Start one container. Returns when the engine runs it; the runner may need a moment until its first poll.

        Returns an existing container of the same session and lease as it is (after a crash between the start and our
        commit). Raises SpawnError; then nothing is left running.
        """
        ...

    async def stop(self, container: Container, *, grace_s: float) -> None:
        """Ask the container to end, kill it after `grace_s` seconds. Returns when it is gone, or if it was gone
        already."""
        ...

    async def poll(self, container: Container) -> RunState:
        """Returns whether a container is alive, also if it never started, or if an earlier host started it."""
        ...

    async def adopt(self) -> Sequence[Container]:
        """Returns all living containers of this install, also those of earlier hosts. Cleans up after dead ones."""
        ...
