"""A runtime whose engine fails when a test says so, in front of a real one. For tests of whoever starts containers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from nanohost.errors import SpawnError
from nanohost.runtimes.runtime_api import Container, ContainerSpec, DeathListener, Isolation, RunState, Runtime


class FailingRuntime:
    """Satisfies nanohost.runtimes.runtime_api.Runtime. The next `failures_left` starts raise SpawnError."""

    def __init__(self, inner: Runtime, *, failures: int = 0) -> None:
        self._inner = inner
        self.failures_left = failures
        self.started: list[ContainerSpec] = []
        """What was started, in order; a start that failed is not here."""

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def isolation(self) -> Isolation:
        return self._inner.isolation

    def opened(self, on_death: DeathListener) -> AbstractAsyncContextManager[None]:
        return self._inner.opened(on_death)

    async def start(self, spec: ContainerSpec) -> Container:
        if self.failures_left > 0:
            self.failures_left -= 1
            raise SpawnError("the engine has no room", hint="make room")
        container = await self._inner.start(spec)
        self.started.append(spec)
        return container

    async def stop(self, container: Container, *, grace_s: float) -> None:
        await self._inner.stop(container, grace_s=grace_s)

    async def poll(self, container: Container) -> RunState:
        return await self._inner.poll(container)

    async def adopt(self) -> Sequence[Container]:
        return await self._inner.adopt()
