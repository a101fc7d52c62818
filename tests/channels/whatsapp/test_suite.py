"""WhatsApp's Cloud API: the conformance suite over the simulator."""

from __future__ import annotations

import pytest

from channels.whatsapp import WhatsAppChannel, read_settings
from nanohost.channel_api import Channel, ChannelContext
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import ADA, Simulator
from nanohost.testing.simulator_suite import SimulatorSuite
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator
from nanohost.testing.time_limits import scaled_timeout


@pytest.mark.behaviour(
    "IN-01", "IN-05", "IN-07", "RT-01", "RT-11", "DL-05", "DL-06", "DL-08", "DL-09", "DL-11", "DL-12"
)
@pytest.mark.content(
    ContentKind.TEXT, ContentKind.EDIT, ContentKind.REACTION, ContentKind.DOCUMENT, ContentKind.BUTTON_PRESS
)
class TestWhatsApp(SimulatorSuite):
    DM = ADA.id
    GROUP = "Y2FwaV9ncm91cDox"

    @pytest.fixture
    def simulator(self) -> Simulator:
        return WhatsAppSimulator()

    def create(self, context: ChannelContext) -> Channel:
        """With a short wait: production waits 10 s for a status."""
        return WhatsAppChannel(read_settings(context.settings), status_wait_s=scaled_timeout(0.5))
