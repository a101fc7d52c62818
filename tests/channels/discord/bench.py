"""Discord's gateway gets no acknowledgement, and keeps no messages for a bot that never connected."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from channels.discord import DiscordChannel, create
from nanohost.channel_api import Address, ChannelContext
from nanohost.testing.simulator_suite import SimulatorHarness
from nanohost.testing.simulators.discord import DM, GENERAL, THREAD, DiscordSimulator

IN_DM = Address(platform_id=DM)
IN_GENERAL = Address(platform_id=GENERAL)
IN_THREAD = Address(platform_id=GENERAL, thread_id=THREAD)


class DiscordHarness(SimulatorHarness):
    has_acknowledgements = False
    simulator: DiscordSimulator

    async def wait_until_listening(self) -> None:
        await self.simulator.wait_until(lambda: self.simulator.is_listened_to)


def make_channel(platform: DiscordSimulator, home: Path, **settings: object) -> DiscordChannel:
    """A channel as the host makes it."""
    context = ChannelContext(
        instance="default", settings=dict(platform.settings()) | settings, runtime_dir=home, home=home
    )
    return cast("DiscordChannel", create(context))
