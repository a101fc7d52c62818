"""One host with one agent on every simulated platform, with the direct chats of Ada and Bob."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from nanohost.app import running_host
from nanohost.clock import Clock, SystemClock
from nanohost.commands.setup import MAIN_GROUP, create_wiring, ensure_chat, ensure_group, parse_chat_address
from nanohost.config.home import Home, lock_home
from nanohost.config.settings import Settings
from nanohost.host import Overrides
from nanohost.model import UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.simulated_chat import find_simulator, simulator_names
from nanohost.testing.simulator import BOB, Simulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.host_fixture import NO_WATCHDOG_SETTINGS
from tests.support.flow import RunningHost, install_id_for, scripted_settings
from tests.support.template_home import create_home_database

BOB_CHATS = {"slack": "D1002", "discord": "70001002"}
"""Bob's chat with the bot, where it is not his own id."""
_INVISIBLE_CHARS = dict.fromkeys(map(ord, "\u200b\u2060"))
"""Characters that only keep a platform from parsing markup."""


def platform_names() -> list[str]:
    """The platforms that a host can be wired to here; a second channel of the same platform is left out."""
    return [name for name in simulator_names() if find_simulator(name).name == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllPlatforms:
    """The platforms, by name."""

    platforms: Mapping[str, Simulator] = field(
        default_factory=lambda: {name: find_simulator(name) for name in platform_names()}
    )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of them serve."""
        async with AsyncExitStack() as stack:
            for platform in self.platforms.values():
                await stack.enter_async_context(platform.running())
            yield

    async def send_to_all(self, text: str) -> None:
        """Ada writes on each."""
        for platform in self.platforms.values():
            await platform.write(platform.dm, text)

    async def wait_until_read(self, *texts: str, limit_s: float = HANG_TIMEOUT_S) -> dict[str, float]:
        """When Ada has read all of these, by platform: seconds from now. Raises TimeoutError saying who lacks what."""
        return dict(await asyncio.gather(*(_read(one, texts, limit_s) for one in self.platforms.values())))

    def read_texts(self) -> dict[str, list[str]]:
        """What Ada has read, by platform."""
        return {name: read_by(one) for name, one in self.platforms.items()}


def read_by(platform: Simulator, chat: str | None = None) -> list[str]:
    """The bot's messages in a chat (Ada's by default)."""
    return [text.translate(_INVISIBLE_CHARS) for text in platform.texts(chat or platform.dm)]


def bobs_chat(platform: Simulator) -> str:
    return BOB_CHATS.get(platform.name, BOB.id)


def write_agent_script(root: Path, *rules: Mapping[str, object]) -> None:
    """What the agent does: see agent_runner.providers.scripted."""
    folder = root / "groups" / MAIN_GROUP
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.json").write_text(json.dumps(rules))


def make_settings(world: AllPlatforms, **host: object) -> Settings:
    """Settings of a host on all platforms."""
    plain = scripted_settings(**host)
    channels = {name: dict[str, object](one.settings()) for name, one in world.platforms.items()}
    return replace(plain, channels=channels)


@asynccontextmanager
async def run_host(
    root: Path, world: AllPlatforms, *groups: tuple[str, str], clock: Clock | None = None, **host: object
) -> AsyncIterator[RunningHost]:
    """The platforms and a host that is connected to all of them. `groups`: further chats, as (platform, id)."""
    home, parts = (
        Home(root),
        Overrides(runtime=ProcessRuntime(install=install_id_for(root)), clock=clock or SystemClock()),
    )
    host = {**(NO_WATCHDOG_SETTINGS if clock is not None else {}), **host}
    async with world.running():
        create_home_database(home)
        with lock_home(home):
            async with running_host(
                home, make_settings(world, **host), keep_containers=False, overrides=parts
            ) as running:
                flow = RunningHost(host=running, fake=FakeChannel(), home=home)
                await _wire(flow, world, groups)
                await wait_until_connected(flow)
                yield flow


async def wait_until_connected(flow: RunningHost) -> None:
    """Some platforms keep no messages for a bot that never connected."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while any(state.state != "connected" for state in flow.host.connections.connection_states()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _wire(flow: RunningHost, world: AllPlatforms, groups: Sequence[tuple[str, str]]) -> None:
    store, now = flow.host.store, flow.host.clock.now()
    agent = await ensure_group(store, flow.home, MAIN_GROUP, who="local:demo", now=now)
    dms = [(name, chat) for name, one in world.platforms.items() for chat in (one.dm, bobs_chat(one))]
    for name, chat in [*dms, *groups]:
        async with store.transaction() as tx:
            place = await ensure_chat(tx, parse_chat_address(name, chat), unknown=UnknownSender.PUBLIC, now=now)
            await create_wiring(tx, place, agent, now=now)


async def _read(platform: Simulator, texts: Sequence[str], limit_s: float) -> tuple[str, float]:
    began = asyncio.get_running_loop().time()
    try:
        await platform.wait_until(lambda: set(texts) <= set(read_by(platform)), timeout_s=limit_s)
    except TimeoutError:
        lacking = set(texts) - set(read_by(platform))
        raise TimeoutError(f"{platform.name}: not within {limit_s:g} s: {sorted(lacking)}") from None
    return platform.name, asyncio.get_running_loop().time() - began
