from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.slack import ReconnectDelays, SlackChannel, SlackSettings
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulators.slack import SlackSimulator
from nanohost.testing.time_limits import scaled_timeout


@pytest.fixture
async def slack() -> AsyncIterator[SlackSimulator]:
    """A simulated workspace."""
    simulator = SlackSimulator()
    async with simulator.running():
        yield simulator


@pytest.fixture
def channel(slack: SlackSimulator) -> SlackChannel:
    """A channel with short timeouts."""
    settings = SlackSettings.model_validate(
        {**slack.settings(), "timeout_s": scaled_timeout(0.5), "ping_s": scaled_timeout(0.2)}
    )
    return SlackChannel(settings, pauses=ReconnectDelays(min_s=0.05, max_s=0.2, auth_retry_s=0.2))


@pytest.fixture
def inbox() -> SuiteInbox:
    return SuiteInbox()


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty file to fetch into."""
    path = tmp_path / "fetched"
    path.touch()
    return path
