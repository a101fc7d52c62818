from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from channels.whatsapp import WhatsAppChannel, read_settings
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator
from nanohost.testing.time_limits import scaled_timeout


@pytest.fixture
async def meta() -> AsyncIterator[WhatsAppSimulator]:
    """A simulated Meta."""
    simulator = WhatsAppSimulator()
    async with simulator.running():
        yield simulator


@pytest.fixture
def channel(meta: WhatsAppSimulator) -> WhatsAppChannel:
    """A channel with short timeouts."""
    return WhatsAppChannel(
        read_settings(meta.settings()), status_wait_s=scaled_timeout(0.5), answer_limit_s=scaled_timeout(0.5)
    )


@pytest.fixture
def inbox() -> SuiteInbox:
    return SuiteInbox()
