"""A channel that receives, without a host: for tests in which `receive` never ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nanohost.channel_api import Channel, Inbox


@asynccontextmanager
async def run_channel(channel: Channel, inbox: Inbox) -> AsyncIterator[None]:
    """Connect the channel and receive."""
    async with channel.connected(), run_receive(channel, inbox):
        yield


@asynccontextmanager
async def run_receive(channel: Channel, inbox: Inbox) -> AsyncIterator[None]:
    """Receive on a connected channel."""
    task = asyncio.create_task(channel.receive(inbox), name="receive")
    await asyncio.sleep(0)
    try:
        yield
        assert not task.done(), "receive ended"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
