"""A Slack channel as the host runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nanohost.channel_api import Channel, Inbox

RECEIVE_RETRY_S = 0.01


@asynccontextmanager
async def run_channel(channel: Channel, inbox: Inbox) -> AsyncIterator[list[Exception | None]]:
    """Connect and receive, again whenever `receive` ends; yields how it ended each time."""
    ended: list[Exception | None] = []

    async def serve() -> None:
        while True:
            try:
                await channel.receive(inbox)
            except Exception as error:
                ended.append(error)
            else:
                ended.append(None)
            await asyncio.sleep(RECEIVE_RETRY_S)

    async with channel.connected():
        task = asyncio.create_task(serve(), name="receive")
        try:
            yield ended
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
