"""Slack: the conformance suite over its simulator."""

from __future__ import annotations

from typing import ClassVar

import pytest

from channels.slack import create
from nanohost.channel_api import Channel, ChannelContext
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator_suite import SimulatorSuite
from nanohost.testing.simulators.slack import SlackSimulator


@pytest.mark.behaviour("IN-01", "IN-02", "IN-05", "IN-07", "RT-11", "DL-05", "DL-06", "DL-08", "DL-11", "DL-12")
@pytest.mark.content(
    ContentKind.TEXT,
    ContentKind.THREAD,
    ContentKind.EDIT,
    ContentKind.REACTION,
    ContentKind.DOCUMENT,
    ContentKind.BUTTON_PRESS,
)
class TestSlackConforms(SimulatorSuite):
    DM: ClassVar[str] = "D1001"
    GROUP: ClassVar[str | None] = "C500"
    THREAD: ClassVar[str | None] = "1700000000.000100"
    HAS_TYPING_IN_DM: ClassVar[bool] = False

    @pytest.fixture
    def simulator(self) -> SlackSimulator:
        return SlackSimulator()

    def create(self, context: ChannelContext) -> Channel:
        return create(context)
