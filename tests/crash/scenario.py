"""The environment of a run: a home, a platform with its people, and a host as an operator runs it. Every run ends the
same way: the last host may finish, it is stopped in order, and the results are counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nanohost.testing.time_limits import scaled_timeout
from tests.crash.approval_workload import ApprovalWorkload, MessageKind, prepare_home
from tests.crash.fault_profiles import FaultKind, no_faults
from tests.crash.measurements import Result, measure_run, unfinished
from tests.crash.platform import FakePlatform
from tests.crash.processes import NANOHOST_RUN, HostProcess
from tests.crash.workload import UserWorkload, prepare_workload_home

STATUS_INTERVAL_S = 0.25
POLL_INTERVAL_S = 0.05
FINISH_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashScenario:
    name: str
    host: HostProcess
    platform: FakePlatform
    workload: UserWorkload | ApprovalWorkload
    idempotent: bool
    started_at: float

    async def result(self, container_kills: int = 0, *, limit_s: float = FINISH_TIMEOUT_S) -> Result:
        """Wait until nothing is left to do, stop the host, count."""
        try:
            async with asyncio.timeout(scaled_timeout(limit_s)):
                await self._wait_until_finished()
        except TimeoutError:
            pass  # what is unfinished is counted
        left = await asyncio.to_thread(unfinished, self.host.root)
        assert await asyncio.to_thread(self.host.stop) == 0, f"{self.name}: the host did not stop in order"
        return await asyncio.to_thread(
            measure_run,
            self.name,
            self.host,
            self.platform,
            self.workload,
            idempotent=self.idempotent,
            container_kills=container_kills,
            unfinished=left,
            seconds=time.monotonic() - self.started_at,
        )

    async def write(self, messages: int) -> None:
        """Write so many messages, a few milliseconds apart."""
        for _ in range(messages):
            self.workload.write()
            await asyncio.sleep(0.01)

    async def wait_until_answered(self) -> None:
        """Wait until people have seen every answer."""
        wanted = self.workload.expected()
        await self.wait_until(
            "all is answered", lambda: wanted <= self.platform.texts().keys(), within_s=FINISH_TIMEOUT_S
        )

    async def wait_until(self, what: str, holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
        """Poll for a condition. The host must be running meanwhile."""
        ends = time.monotonic() + scaled_timeout(within_s)
        while not holds():
            assert time.monotonic() < ends, f"{self.name}: not within {within_s:.0f} s of a quiet machine: {what}"
            code = await asyncio.to_thread(self.host.wait_for_exit, POLL_INTERVAL_S)
            assert code is None, f"{self.name}: the host ended with {code}"

    async def _wait_until_finished(self) -> None:
        await self.platform.wait_until_seen(self.workload.expected())
        while not await asyncio.to_thread(self._is_done):
            code = await asyncio.to_thread(self.host.wait_for_exit, POLL_INTERVAL_S)
            assert code is None, f"{self.name}: the host ended with {code}"

    def _is_done(self) -> bool:
        return self.host.is_ready() and unfinished(self.host.root) == 0


@asynccontextmanager
async def prepare_scenario(
    name: str,
    root: Path,
    *,
    chats: int,
    settings: Mapping[str, object],
    idempotent: bool = True,
    tool_every: int = 3,
    mood: Callable[[], FaultKind] = no_faults,
    log: str | Path = "host.log",
    program: Sequence[str] = NANOHOST_RUN,
    environment: Mapping[str, str] | None = None,
    forked: bool = True,
) -> AsyncIterator[CrashScenario]:
    """A home, people and a platform, and a host that is not started yet."""
    platform = FakePlatform(mood)
    began = time.monotonic()
    async with platform.opened():
        process = HostProcess(
            root,
            platform.port,
            settings,
            idempotent=idempotent,
            log=log,
            program=program,
            environment=environment,
            forked=forked,
        )
        await prepare_workload_home(root, chats)
        people = UserWorkload(platform, chats, tool_every=tool_every)
        try:
            yield CrashScenario(
                name=name, host=process, platform=platform, workload=people, idempotent=idempotent, started_at=began
            )
        finally:
            await asyncio.to_thread(process.cleanup)


@asynccontextmanager
async def prepare_approval_scenario(
    name: str, root: Path, *, settings: Mapping[str, object], oftener: MessageKind | None = None
) -> AsyncIterator[CrashScenario]:
    """The same with the approval workload."""
    platform = FakePlatform()
    began = time.monotonic()
    async with platform.opened():
        guard = {"tasks.create": "hold"}
        process = HostProcess(root, platform.port, settings, able=True, guard=guard)
        await prepare_home(root)
        people = ApprovalWorkload(platform, frequent_kind=oftener)
        try:
            yield CrashScenario(
                name=name, host=process, platform=platform, workload=people, idempotent=True, started_at=began
            )
        finally:
            await asyncio.to_thread(process.cleanup)
