from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from channels.whatsapp import WhatsAppChannel, read_settings
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator

pytest.register_assert_rewrite("nanohost.testing.simulator_suite")


@pytest.fixture
async def meta() -> AsyncIterator[WhatsAppSimulator]:
    """Meta is there."""
    simulator = WhatsAppSimulator()
    async with simulator.running():
        yield simulator


@pytest.fixture
def channel(meta: WhatsAppSimulator) -> WhatsAppChannel:
    """A channel in a hurry: it waits a fraction of what it waits for in earnest."""
    return WhatsAppChannel(read_settings(meta.settings()), status_wait_s=0.5, answer_limit_s=0.5)


@asynccontextmanager
async def receiving(channel: WhatsAppChannel, inbox: SuiteInbox) -> AsyncIterator[None]:
    """The channel is connected, and hands in what comes."""
    async with channel.connected():
        task = asyncio.create_task(channel.receive(inbox))
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def inbox() -> SuiteInbox:
    return SuiteInbox()
