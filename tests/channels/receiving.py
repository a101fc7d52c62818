"""A channel that hands in what comes, with no host: for tests in which it never ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nanohost.channel_api import Channel, Inbox


@asynccontextmanager
async def run_channel(channel: Channel, inbox: Inbox) -> AsyncIterator[None]:
    """The channel is connected, and hands in what comes."""
    async with channel.connected(), run_receive(channel, inbox):
        yield


@asynccontextmanager
async def run_receive(channel: Channel, inbox: Inbox) -> AsyncIterator[None]:
    """A channel that is connected already hands in what comes."""
    task = asyncio.create_task(channel.receive(inbox), name="receive")
    await asyncio.sleep(0)
    try:
        yield
        assert not task.done(), "receive ended"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
