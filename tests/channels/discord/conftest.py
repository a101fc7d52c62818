from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.discord import DiscordChannel
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators.discord import DM, DiscordSimulator

from .bench import DiscordHarness, make_channel


@pytest.fixture
async def platform() -> AsyncIterator[DiscordSimulator]:
    simulator = DiscordSimulator()
    async with simulator.running():
        yield simulator


@pytest.fixture
def channel(platform: DiscordSimulator, tmp_path: Path) -> DiscordChannel:
    return make_channel(platform, tmp_path)


@pytest.fixture
def harness(platform: DiscordSimulator, channel: DiscordChannel) -> DiscordHarness:
    return DiscordHarness(platform, channel, chat=DM)


@pytest.fixture
def inbox() -> SuiteInbox:
    return SuiteInbox()
