"""Discord: the conformance suite over its simulator."""

from __future__ import annotations

from typing import ClassVar

import pytest

from channels.discord import create
from nanohost.channel_api import Channel, ChannelContext
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import Simulator
from nanohost.testing.simulator_suite import SimulatorHarness, SimulatorSuite
from nanohost.testing.simulators.discord import DM, GENERAL, THREAD, DiscordSimulator

from .bench import DiscordHarness


@pytest.mark.behaviour(
    "IN-02", "IN-05", "IN-07", "RT-01", "RT-11", "DL-05", "DL-06", "DL-08", "DL-09", "DL-11", "DL-12"
)
@pytest.mark.content(
    ContentKind.TEXT,
    ContentKind.THREAD,
    ContentKind.EDIT,
    ContentKind.REACTION,
    ContentKind.DOCUMENT,
    ContentKind.BUTTON_PRESS,
)
class TestDiscordConforms(SimulatorSuite):
    DM: ClassVar[str] = DM
    GROUP: ClassVar[str | None] = GENERAL
    THREAD: ClassVar[str | None] = THREAD

    @pytest.fixture
    def simulator(self) -> DiscordSimulator:
        return DiscordSimulator()

    def create(self, context: ChannelContext) -> Channel:
        return create(context)

    def make_harness(self, simulator: Simulator, channel: Channel) -> SimulatorHarness:
        return DiscordHarness(simulator, channel, chat=self.DM)
