# /// script
# dependencies = []
# [tool.nanohost]
# kind = "channel"
# name = "hangs"
# api = 1
# ///
"""A channel that hangs where it is told to, as on a disk that does not answer: in `open` of a pipe nobody writes to."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nanohost.channel_api import Address, Capabilities, Channel, ChannelContext, Inbox, OutboundText, Receipt


def create(context: ChannelContext) -> Channel:
    return HangingChannel(str(context.settings["where"]), context.home / "pipe")


class HangingChannel:
    """Hangs once there is a pipe, and creates a file beside it to say so."""

    capabilities = Capabilities()

    def __init__(self, where: str, pipe: Path) -> None:
        self._where = where
        self._pipe = pipe

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        yield
        if self._where == "closing":
            await asyncio.Event().wait()

    async def receive(self, inbox: Inbox) -> None:
        while not self._pipe.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        match self._where:
            case "worker":
                await asyncio.to_thread(self._wait, self._pipe)
            case "thread":
                threading.Thread(target=self._wait, args=(self._pipe,), name="of its own").start()
            case "loop":
                self._wait(self._pipe)
            case _:
                self._pipe.with_name("hanging").touch()
        await asyncio.Event().wait()

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return Receipt()

    def _wait(self, pipe: Path) -> None:
        pipe.with_name("hanging").touch()
        os.close(os.open(pipe, os.O_RDONLY))
