"""What each example of a simulated platform becomes: the real channel, no host."""

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
from nanohost.testing.channel_suite import SuiteInbox, event_identity, run_receive_loop
from nanohost.testing.content import ContentKind
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import Simulator
from nanohost.testing.simulator_suite import SimulatorHarness
from tests.channels.discord.bench import DiscordHarness

HARNESSES: Mapping[str, type[SimulatorHarness]] = {"discord": DiscordHarness}
"""Examples that need more than a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedExample:
    """The result of one example: the accepted events and the reported moves."""

    content: ContentKind
    events: Sequence[InboundEvent]
    moves: Sequence[tuple[str, str]] = field(default_factory=list)


@cache
def receive_examples(platform: str) -> Mapping[str, ReceivedExample]:
    """The result of each example, by name. Not to be called from a running loop."""
    return asyncio.run(_receive_examples(platform))


@asynccontextmanager
async def open_harness(platform: str) -> AsyncIterator[SimulatorHarness]:
    """The platform serves while entered; its channel is as the host makes it."""
    simulator = find_simulator(platform)
    with tempfile.TemporaryDirectory(prefix="nanohost-examples-") as folder:
        home = Path(folder)
        async with simulator.running():
            bench = HARNESSES.get(platform, SimulatorHarness)
            yield bench(simulator, make_channel(simulator, home), chat=simulator.dm)


def make_channel(platform: Simulator, home: Path) -> Channel:
    """The platform's channel as a host makes it."""
    context = ChannelContext(instance="default", settings=platform.settings(), runtime_dir=home, home=home)
    channel: Channel = importlib.import_module(f"channels.{platform.name}").create(context)
    return channel


async def _receive_examples(platform: str) -> Mapping[str, ReceivedExample]:
    inbox = SuiteInbox()
    async with open_harness(platform) as bench, run_receive_loop(bench, inbox):
        await bench.wait_until_listening()
        examples = [(name, content) for content, names in bench.simulator.content_examples().items() for name in names]
        return {name: await _receive_example(bench, inbox, name, content) for name, content in examples}


async def _receive_example(
    bench: SimulatorHarness, inbox: SuiteInbox, name: str, content: ContentKind
) -> ReceivedExample:
    """Ada sends the example and then a text: once the text was received, so was the example, if it makes an event."""
    events, moves = len(inbox.accepted), len(inbox.moved_chats)
    ids = await bench.simulator.send_named_example(name, bench.simulator.dm)
    after = f"after {name}"
    await bench.simulator.write(bench.simulator.dm, after)
    await inbox.wait_for_accepted(after)
    if content != ContentKind.SERVICE:  # it may take longer in another chat
        await inbox.wait_until(
            lambda: len(inbox.moved_chats) > moves or any(one.platform_message_id in ids[-1:] for one in inbox.accepted)
        )
    before = {event_identity(event) for event in inbox.accepted[:events]}  # Slack reports a mention twice
    heard = [event for event in inbox.accepted[events:] if event.text != after and event_identity(event) not in before]
    return ReceivedExample(content=content, events=heard, moves=inbox.moved_chats[moves:])
