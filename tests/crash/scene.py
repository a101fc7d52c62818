"""Where a run takes place: a home, a platform and people of its own, and a host as an operator runs it.

Every run ends the same way: the host that lives then may do what is left, it is stopped in order, and all is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nanohost.testing.limits import seconds
from tests.crash.household import Household, What, settle_in
from tests.crash.measured import Result, measured, unfinished
from tests.crash.moods import Mood, fine
from tests.crash.people import People, furnish
from tests.crash.platform import Platform
from tests.crash.victims import NANOHOST_RUN, HostProcess

TICK_S = 0.25
LOOK_S = 0.05
SETTLE_LIMIT_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    name: str
    host: HostProcess
    platform: Platform
    people: People | Household
    idempotent: bool
    began: float

    async def result(self, container_kills: int = 0, *, limit_s: float = SETTLE_LIMIT_S) -> Result:
        """Wait until nothing is left to do, stop the host, count."""
        try:
            async with asyncio.timeout(seconds(limit_s)):
                await self._settled()
        except TimeoutError:
            pass  # what is missing is counted
        left = await asyncio.to_thread(unfinished, self.host.root)
        assert await asyncio.to_thread(self.host.stop) == 0, f"{self.name}: the host did not stop in order"
        return await asyncio.to_thread(
            measured,
            self.name,
            self.host,
            self.platform,
            self.people,
            idempotent=self.idempotent,
            container_kills=container_kills,
            unfinished=left,
            seconds=time.monotonic() - self.began,
        )

    async def write(self, messages: int) -> None:
        """So many messages, a few milliseconds apart."""
        for _ in range(messages):
            self.people.write()
            await asyncio.sleep(0.01)

    async def answered(self) -> None:
        """Wait until people have seen every answer."""
        wanted = self.people.expected()
        await self.until("all is answered", lambda: wanted <= self.platform.texts().keys(), within_s=SETTLE_LIMIT_S)

    async def until(self, what: str, holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
        """Look again and again. The host must live meanwhile."""
        ends = time.monotonic() + seconds(within_s)
        while not holds():
            assert time.monotonic() < ends, f"{self.name}: not within {within_s:.0f} s of a quiet machine: {what}"
            code = await asyncio.to_thread(self.host.exited_within, LOOK_S)
            assert code is None, f"{self.name}: the host ended with {code}"

    async def _settled(self) -> None:
        await self.platform.until_seen(self.people.expected())
        while not await asyncio.to_thread(self._is_done):
            code = await asyncio.to_thread(self.host.exited_within, LOOK_S)
            assert code is None, f"{self.name}: the host ended with {code}"

    def _is_done(self) -> bool:
        return self.host.is_ready() and unfinished(self.host.root) == 0


@asynccontextmanager
async def staged(
    name: str,
    root: Path,
    *,
    chats: int,
    settings: Mapping[str, object],
    idempotent: bool = True,
    tool_every: int = 3,
    mood: Callable[[], Mood] = fine,
    log: str | Path = "host.log",
    program: Sequence[str] = NANOHOST_RUN,
    environment: Mapping[str, str] | None = None,
    forked: bool = False,
) -> AsyncIterator[Scene]:
    """A home, people and a platform, and a host that is not started yet."""
    platform = Platform(mood)
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
        await furnish(root, chats)
        people = People(platform, chats, tool_every=tool_every)
        try:
            yield Scene(name=name, host=process, platform=platform, people=people, idempotent=idempotent, began=began)
        finally:
            await asyncio.to_thread(process.end)


@asynccontextmanager
async def staged_where_people_decide(
    name: str, root: Path, *, settings: Mapping[str, object], oftener: What | None = None
) -> AsyncIterator[Scene]:
    """The same with a household: see there."""
    platform = Platform()
    began = time.monotonic()
    async with platform.opened():
        guard = {"tasks.create": "hold"}
        process = HostProcess(root, platform.port, settings, forked=True, able=True, guard=guard)
        await settle_in(root)
        people = Household(platform, oftener=oftener)
        try:
            yield Scene(name=name, host=process, platform=platform, people=people, idempotent=True, began=began)
        finally:
            await asyncio.to_thread(process.end)
