"""A linked device does what every channel must: the conformance suite over the simulated bridge."""

from __future__ import annotations

import pytest

from channels._whatsapp_linked import create
from nanohost.channel_api import Channel, ChannelContext
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import Simulator
from nanohost.testing.simulator_suite import SimulatorSuite
from nanohost.testing.simulators.whatsapp_linked import GROUP, WhatsAppLinkedSimulator


@pytest.mark.behaviour("IN-01", "IN-02", "IN-07", "RT-01", "DL-05", "DL-06", "DL-08", "DL-11", "DL-12")
@pytest.mark.content(ContentKind.TEXT, ContentKind.EDIT, ContentKind.REACTION, ContentKind.DOCUMENT)
class TestLinkedDevice(SimulatorSuite):
    DM, GROUP = "1001@s.whatsapp.net", GROUP

    @pytest.fixture
    def simulator(self) -> Simulator:
        return WhatsAppLinkedSimulator()

    def create(self, context: ChannelContext) -> Channel:
        return create(context)
