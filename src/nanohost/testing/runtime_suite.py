"""What every runtime must do, as tests. A runtime's author subclasses the suite and brings a bench:

    class TestMyRuntime(RuntimeSuite):
        @pytest.fixture
        def bench(self) -> RuntimeBench:
            return MyBench()

The bench makes runtimes whose containers run `python3 stand_in.py` in the agent's folder (the working directory)
where a runner would be; the suite puts that program there. A fresh runtime of the same install is what our own
restart looks like. Every wait ends after `LIMIT_S` seconds, and everything started is ended. Needs Linux, pytest and
pytest-asyncio; put `pytest.register_assert_rewrite("nanohost.testing.runtime_suite")` into a conftest.py for readable
failures.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nanohost.errors import SpawnError
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.port import Container, ContainerSpec, Exited, Isolation, Limits, Running, Runtime
from nanohost.testing import stand_in_runner
from nanohost_protocol.layout import SessionLayout

LIMIT_S = 20.0
"""The longest any wait may take. A death is told within a fraction of a second on an idle machine."""

STAND_IN = ("python3", "stand_in.py")
"""What a container of a bench runs; the six arguments that say whose it is follow."""

HOST_SECRET = "a-secret-of-the-host"  # noqa: S105 - made up, so that the suite can look for it

ADDED_NAMES = {
    *("HOME", "PATH", "LANG", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"),
    *("NANOHOST_WORKSPACE", "PWD", "HOSTNAME", "LC_CTYPE"),
}
"""What a runtime, its engine or Python itself may add to a spec's environment."""


class RuntimeBench(ABC):
    """Makes runtimes of one kind."""

    @abstractmethod
    def runtime(self, install: str) -> Runtime:
        """A fresh runtime, not opened, for this install; its containers run STAND_IN."""


@dataclass(slots=True)
class Deaths:
    """A death listener that can be waited for."""

    told: list[Container] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, container: Container) -> None:
        self.told.append(container)
        self._news.set()

    async def first(self) -> Container:
        async with asyncio.timeout(LIMIT_S):
            await self._news.wait()
        return self.told[0]


@dataclass(slots=True)
class Stage:
    """One test's sessions, runtimes and containers, all of one install."""

    bench: RuntimeBench
    root: Path
    install: str = field(default_factory=lambda: uuid.uuid4().hex)
    deaths: Deaths = field(default_factory=Deaths)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Runtime]:
        """A fresh runtime; entering this again is our own restart."""
        runtime = self.bench.runtime(self.install)
        async with runtime.opened(self.deaths):
            yield runtime

    def spec(
        self,
        behaves: str = "wait",
        *,
        session: str = "one",
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> ContainerSpec:
        """A session on disk, complete with the stand-in and the pipes it talks through."""
        session_dir, agent_dir = self.root / "sessions" / session, self.root / "agent"
        agent_dir.mkdir(exist_ok=True)
        shutil.copy(stand_in_runner.__file__, agent_dir / "stand_in.py")
        for name in ("in", "out", "state", "run", "log"):
            (session_dir / name).mkdir(parents=True, exist_ok=True)
        for name in ("report", "orders"):
            pipe = session_dir / "out" / name
            if not pipe.exists():
                os.mkfifo(pipe)
                pipe.chmod(0o666)
        return ContainerSpec(
            session_id=SessionId(f"session-{session}"),
            lease=LeaseId(uuid.uuid4().hex),
            session_dir=session_dir,
            agent_dir=agent_dir,
            environment={"STAND_IN": behaves, **(environment or {})},
            limits=limits or Limits(pids=64),
        )

    async def clear(self) -> None:
        """End whatever is left of this install."""
        async with self.opened() as runtime:
            for container in await runtime.adopt():
                await runtime.stop(container, grace_s=0)


async def report_of(spec: ContainerSpec) -> dict[str, Any]:
    """What the stand-in says first. Waits for it."""
    loop = asyncio.get_running_loop()
    # Opened for writing too: the pipe then has no end as long as we listen.
    pipe = os.open(SessionLayout(spec.session_dir).out_dir / "report", os.O_RDWR | os.O_NONBLOCK)
    said = bytearray()
    complete: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        said.extend(os.read(pipe, 65536))
        if said.endswith(b"\n") and not complete.done():
            complete.set_result(None)

    loop.add_reader(pipe, read)
    try:
        async with asyncio.timeout(LIMIT_S):
            await complete
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)
    found: dict[str, Any] = json.loads(said)
    return found


def give_order(spec: ContainerSpec) -> None:
    """Let a stand-in that obeys exit with 7."""
    orders = os.open(SessionLayout(spec.session_dir).out_dir / "orders", os.O_RDWR | os.O_NONBLOCK)
    os.write(orders, b"!")
    # Never read and never closed for the stand-in's sake: it may not have opened the pipe yet.
    spec_pipes.append(orders)


spec_pipes: list[int] = []


class RuntimeSuite:
    """Subclass this, and bring a fixture `bench`."""

    @pytest.fixture
    def bench(self) -> RuntimeBench:
        raise NotImplementedError("a runtime's own test class brings the bench")

    @pytest.fixture
    async def stage(self, bench: RuntimeBench, tmp_path: Path) -> AsyncIterator[Stage]:
        stage = Stage(bench, tmp_path)
        yield stage
        await stage.clear()
        while spec_pipes:
            os.close(spec_pipes.pop())
