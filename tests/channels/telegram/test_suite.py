"""What every channel must do, done by Telegram's."""

from __future__ import annotations

import pytest

from channels.telegram import Patience, TelegramChannel, read_settings
from nanohost.channel_api import Channel, ChannelContext
from nanohost.testing.content import Content
from nanohost.testing.simulator import ADA
from nanohost.testing.simulator_suite import SimulatorSuite
from nanohost.testing.simulators.telegram import TelegramSimulator

HASTY = Patience(answer_s=1.0, poll_s=5, poll_grace_s=1.0, pause_s=0.01, most_pause_s=0.1, conflict_s=0.1, auth_s=0.1)


@pytest.mark.content(Content.TEXT, Content.THREAD, Content.EDIT, Content.REACTION, Content.DOCUMENT, Content.PRESS)
class TestTelegram(SimulatorSuite):
    DM, GROUP, THREAD = ADA.id, "-1001234", "77"

    @pytest.fixture
    def simulator(self) -> TelegramSimulator:
        return TelegramSimulator()

    def create(self, context: ChannelContext) -> Channel:
        return TelegramChannel(read_settings(context.settings), patience=HASTY)
