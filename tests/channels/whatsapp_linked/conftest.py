"""The simulated bridge, and a channel over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from channels._whatsapp_linked import LinkedChannel, create
from nanohost.channel_api import ChannelContext
from nanohost.testing.simulators.whatsapp_linked import WhatsAppLinkedSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

Make = Callable[..., LinkedChannel]


async def wait_until(happened: Callable[[], bool]) -> None:
    """Poll for a condition without an event. Raises TimeoutError."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def phone() -> AsyncIterator[WhatsAppLinkedSimulator]:
    simulator = WhatsAppLinkedSimulator()
    async with simulator.running():
        yield simulator


@pytest.fixture
def make(phone: WhatsAppLinkedSimulator, tmp_path: Path) -> Make:
    """A channel with the simulator's settings, some of them replaced; None leaves one out."""

    def made(**changes: object) -> LinkedChannel:
        settings = {key: value for key, value in {**phone.settings(), **changes}.items() if value is not None}
        context = ChannelContext(instance="default", settings=settings, runtime_dir=tmp_path, home=tmp_path)
        channel = create(context)
        assert isinstance(channel, LinkedChannel)
        return channel

    return made
