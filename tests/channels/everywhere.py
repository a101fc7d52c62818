"""One host with one agent on every platform that there is a simulator of: Ada's DM and Bob's on each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from nanohost.app import Parts, running_host
from nanohost.clock import Clock, SystemClock
from nanohost.commands.setup import MAIN, chat_place, ensure_chat, ensure_group, wire
from nanohost.home import Home, hold
from nanohost.model import UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.settings import Settings
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.limits import HANG_S, seconds
from nanohost.testing.simulated import find, simulated
from nanohost.testing.simulator import BOB, Simulator
from tests.flows.stage import PATIENT
from tests.support.flow import Flow, install_of, scripted_settings
from tests.support.new_home import begin_home

BOBS = {"slack": "D1002", "discord": "70001002"}
"""Bob's chat with the bot, where it is not his own id."""
_UNSEEN = dict.fromkeys(map(ord, "\u200b\u2060"))
"""What only keeps a platform from reading markup."""


def platform_names() -> list[str]:
    """The platforms that a host can be wired to here; a second way to the same platform is not one of its own."""
    return [name for name in simulated() if find(name).name == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Everywhere:
    """The platforms, by name."""

    platforms: Mapping[str, Simulator] = field(default_factory=lambda: {name: find(name) for name in platform_names()})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of them serve."""
        async with AsyncExitStack() as stack:
            for platform in self.platforms.values():
                await stack.enter_async_context(platform.running())
            yield

    async def say(self, text: str) -> None:
        """Ada writes on each."""
        for platform in self.platforms.values():
            await platform.write(platform.dm, text)

    async def until_read(self, *texts: str, limit_s: float = HANG_S) -> dict[str, float]:
        """When Ada has read all of these, by platform: seconds from now. Raises TimeoutError saying who lacks what."""
        return dict(await asyncio.gather(*(_read(one, texts, limit_s) for one in self.platforms.values())))

    def read(self) -> dict[str, list[str]]:
        """What Ada has read, by platform."""
        return {name: read_by(one) for name, one in self.platforms.items()}


def read_by(platform: Simulator, chat: str | None = None) -> list[str]:
    """What stands in a chat (Ada's, unless another is named) from the bot."""
    return [text.translate(_UNSEEN) for text in platform.texts(chat or platform.dm)]


def bobs_chat(platform: Simulator) -> str:
    return BOBS.get(platform.name, BOB.id)


def play(root: Path, *rules: Mapping[str, object]) -> None:
    """What the agent does: see agent_runner.providers.scripted."""
    folder = root / "groups" / MAIN
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.json").write_text(json.dumps(rules))


def settings_for(world: Everywhere, **host: object) -> Settings:
    """Of a host on all of the platforms."""
    plain = scripted_settings(**host)
    channels = {name: dict[str, object](one.settings()) for name, one in world.platforms.items()}
    return replace(plain, channels=channels)


@asynccontextmanager
async def hosted(
    root: Path, world: Everywhere, *groups: tuple[str, str], clock: Clock | None = None, **host: object
) -> AsyncIterator[Flow]:
    """The platforms and a host that is connected to all of them. `groups`: further chats, as (platform, id)."""
    home, parts = Home(root), Parts(runtime=ProcessRuntime(install=install_of(root)), clock=clock or SystemClock())
    host = {**(PATIENT if clock is not None else {}), **host}
    async with world.running():
        begin_home(home)
        with hold(home):
            async with running_host(home, settings_for(world, **host), keep_containers=False, parts=parts) as running:
                flow = Flow(host=running, fake=FakeChannel(), home=home)
                await _wire(flow, world, groups)
                await until_connected(flow)
                yield flow


async def until_connected(flow: Flow) -> None:
    """Some platforms keep nothing for a bot that never was there."""
    async with asyncio.timeout(seconds(HANG_S)):
        while any(state.state != "connected" for state in flow.host.connections.report()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _wire(flow: Flow, world: Everywhere, groups: Sequence[tuple[str, str]]) -> None:
    store, now = flow.host.store, flow.host.clock.now()
    agent = await ensure_group(store, flow.home, MAIN, who="local:demo", now=now)
    dms = [(name, chat) for name, one in world.platforms.items() for chat in (one.dm, bobs_chat(one))]
    for name, chat in [*dms, *groups]:
        async with store.transaction() as tx:
            place = await ensure_chat(tx, chat_place(name, chat), unknown=UnknownSender.PUBLIC, now=now)
            await wire(tx, place, agent, now=now)


async def _read(platform: Simulator, texts: Sequence[str], limit_s: float) -> tuple[str, float]:
    began = asyncio.get_running_loop().time()
    try:
        await platform.until(lambda: set(texts) <= set(read_by(platform)), limit_s=limit_s)
    except TimeoutError:
        lacking = set(texts) - set(read_by(platform))
        raise TimeoutError(f"{platform.name}: not within {limit_s:g} s: {sorted(lacking)}") from None
    return platform.name, asyncio.get_running_loop().time() - began
