"""The conformance suite, run with Telegram's channel."""

from __future__ import annotations

import pytest

from channels.telegram import TelegramChannel, read_settings
from nanohost.channel_api import Channel, ChannelContext
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import ADA
from nanohost.testing.simulator_suite import SimulatorSuite
from nanohost.testing.simulators.telegram import TelegramSimulator
from tests.channels.telegram.bench import make_fast_timeouts


@pytest.mark.content(
    ContentKind.TEXT,
    ContentKind.THREAD,
    ContentKind.EDIT,
    ContentKind.REACTION,
    ContentKind.DOCUMENT,
    ContentKind.BUTTON_PRESS,
)
class TestTelegram(SimulatorSuite):
    DM, GROUP, THREAD = ADA.id, "-1001234", "77"

    @pytest.fixture
    def simulator(self) -> TelegramSimulator:
        return TelegramSimulator()

    def create(self, context: ChannelContext) -> Channel:
        return TelegramChannel(read_settings(context.settings), timeouts=make_fast_timeouts())
