"""What the host is told of each example that a simulated platform can send: the platform's real channel, no host."""

from __future__ import annotations

import asyncio
import importlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from nanohost.channel_api import Channel, ChannelContext, InboundEvent
from nanohost.testing.channel_suite import SuiteInbox, identity, receiving
from nanohost.testing.content import Content
from nanohost.testing.simulated import find
from nanohost.testing.simulator import Simulator
from nanohost.testing.simulator_suite import SimulatorBench
from tests.channels.discord.bench import DiscordBench

BENCHES: Mapping[str, type[SimulatorBench]] = {"discord": DiscordBench}
"""Where it takes more than to be connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What came of one example: what was handed in, and which chats are called otherwise now."""

    content: Content
    events: Sequence[InboundEvent]
    moves: Sequence[tuple[str, str]] = field(default_factory=list)


@cache
def arrived(platform: str) -> Mapping[str, Arrived]:
    """Of each example, by name. Not to be called where a loop runs."""
    return asyncio.run(_arrived(platform))


@asynccontextmanager
async def bench_of(platform: str) -> AsyncIterator[SimulatorBench]:
    """The platform serves while entered; its channel is as the host makes it."""
    simulator = find(platform)
    with tempfile.TemporaryDirectory(prefix="nanohost-examples-") as folder:
        home = Path(folder)
        async with simulator.running():
            bench = BENCHES.get(platform, SimulatorBench)
            yield bench(simulator, real_channel(simulator, home), chat=simulator.dm)


def real_channel(platform: Simulator, home: Path) -> Channel:
    """The platform's channel as a host makes it."""
    context = ChannelContext(instance="default", settings=platform.settings(), runtime_dir=home, home=home)
    channel: Channel = importlib.import_module(f"channels.{platform.name}").create(context)
    return channel


async def _arrived(platform: str) -> Mapping[str, Arrived]:
    inbox = SuiteInbox()
    async with bench_of(platform) as bench, receiving(bench, inbox):
        await bench.listening()
        examples = [(name, content) for content, names in bench.simulator.contents().items() for name in names]
        return {name: await _arrive(bench, inbox, name, content) for name, content in examples}


async def _arrive(bench: SimulatorBench, inbox: SuiteInbox, name: str, content: Content) -> Arrived:
    """Ada sends it, and when that is heard which she says after it, it has been heard, too, if it tells anything."""
    events, moves = len(inbox.accepted), len(inbox.moves)
    ids = await bench.simulator.send_kind(name, bench.simulator.dm)
    after = f"after {name}"
    await bench.simulator.write(bench.simulator.dm, after)
    await inbox.until_accepted(after)
    if content != Content.SERVICE:  # in another chat it may take longer
        await inbox.until(
            lambda: len(inbox.moves) > moves or any(one.platform_message_id in ids[-1:] for one in inbox.accepted)
        )
    before = {identity(event) for event in inbox.accepted[:events]}  # Slack tells of a mention twice
    heard = [event for event in inbox.accepted[events:] if event.text != after and identity(event) not in before]
    return Arrived(content=content, events=heard, moves=inbox.moves[moves:])
