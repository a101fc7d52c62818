from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.discord import DiscordChannel
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators.discord import DM, DiscordSimulator

from .bench import DiscordBench, made


@pytest.fixture
async def platform() -> AsyncIterator[DiscordSimulator]:
    simulator = DiscordSimulator()
    async with simulator.running():
        yield simulator


@pytest.fixture
def channel(platform: DiscordSimulator, tmp_path: Path) -> DiscordChannel:
    return made(platform, tmp_path)


@pytest.fixture
def desk(platform: DiscordSimulator, channel: DiscordChannel) -> DiscordBench:
    return DiscordBench(platform, channel, chat=DM)


@pytest.fixture
def inbox() -> SuiteInbox:
    return SuiteInbox()
