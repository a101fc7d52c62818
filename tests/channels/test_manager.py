"""Channels that misbehave while they connect or close: the host starts, works and stops nevertheless."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nanohost.channel_api import (
    Accepted,
    ChannelDown,
    ChannelError,
    InboundEvent,
    Inbox,
    MenuCommand,
    NotSent,
)
from nanohost.channels.loader import discover
from nanohost.channels.manager import ChannelManager
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.work.supervisor import ServiceState, Supervisor

GOOD, BAD = ("good", "default"), ("bad", "default")


class Hangs(FakeChannel):
    """Never finishes connecting, or closing."""

    def __init__(self, *, at_start: bool) -> None:
        super().__init__()
        self._at_start = at_start

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        if self._at_start:
            await asyncio.Event().wait()
        yield
        await asyncio.Event().wait()


class FailsToClose(FakeChannel):
    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        yield
        raise RuntimeError("closed twice")


class Cancelled(FakeChannel):
    """Its library cancels what `receive` waits for, the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def receive(self, inbox: Inbox) -> None:
        self.calls += 1
        if self.calls == 1:
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost
        await asyncio.Event().wait()


class IgnoresCancellation(Cancelled):
    """Treats its cancellation as the end of a connection."""

    async def receive(self, inbox: Inbox) -> None:
        self.calls += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return


class NoInbox(SuiteInbox):
    async def accept(self, event: InboundEvent) -> Accepted:
        raise AssertionError("nobody writes here")


def connections(tmp_path: Path, bad: FakeChannel, limit_s: float | None = None) -> ChannelManager:
    return ChannelManager(
        catalogue=discover([]),
        configured=[],
        home=tmp_path,
        runtime_dir=tmp_path,
        preloaded={BAD: bad, GOOD: FakeChannel()},
        connect_timeout_s=limit_s or scaled_timeout(0.05),
    )


@pytest.mark.behaviour("DL-07")
async def test_a_channel_that_hangs_while_connecting_does_not_delay_others(tmp_path: Path) -> None:
    limit_s = scaled_timeout(0.05)
    both = connections(tmp_path, Hangs(at_start=True), limit_s)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), both.opened():
        assert list(both) == [GOOD]
        [failed] = [state for state in both.connection_states() if state.state == "failed"]
        assert (failed.name, failed.detail) == ("bad", f"it did not connect within {limit_s:g} s")


@pytest.mark.parametrize("bad", [Hangs(at_start=False), FailsToClose()], ids=["hangs", "fails"])
async def test_a_channel_that_cannot_be_closed_does_not_prevent_the_host_from_stopping(
    tmp_path: Path, bad: FakeChannel
) -> None:
    both = connections(tmp_path, bad)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), both.opened():
        assert set(both) == {GOOD, BAD}


@pytest.mark.behaviour("IN-03")
async def test_a_receiver_cancelled_by_its_library_is_restarted(tmp_path: Path) -> None:
    clock, channel = ManualClock(), Cancelled()
    both = connections(tmp_path, channel)
    async with (
        asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)),
        both.opened(),
        Supervisor(clock, jitter=lambda: 0.5) as supervisor,
    ):
        both.start_receiving(supervisor, lambda *_: NoInbox(), clock=ManualClock())
        await clock.wait_for_sleeper()
        await clock.advance(1.1)
        assert channel.calls == 2
        assert {service.state for service in supervisor.services()} == {ServiceState.RUNNING}


async def test_a_receiver_that_swallows_its_cancellation_still_ends_with_the_host(tmp_path: Path) -> None:
    channel = IgnoresCancellation()
    both = connections(tmp_path, channel)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), both.opened(), Supervisor(ManualClock()) as supervisor:
        both.start_receiving(supervisor, lambda *_: NoInbox(), clock=ManualClock())
        await asyncio.sleep(0)
    assert channel.calls == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("channel bad")]


class HasAMenu(FakeChannel):
    """Its platform cannot be reached at first."""

    def __init__(self, *failures: ChannelError) -> None:
        super().__init__()
        self.failures = list(failures)
        self.offered: list[str] = []
        self.asked = 0

    async def show_commands(self, commands: Sequence[MenuCommand]) -> None:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        self.offered = [one.name for one in commands]


async def test_a_platforms_command_menu_is_set_once_it_can_be_reached(tmp_path: Path) -> None:
    clock, able = ManualClock(), HasAMenu(ChannelDown("no line"), NotSent("no answer"))
    both = ChannelManager(
        catalogue=discover([]),
        configured=[],
        home=tmp_path,
        runtime_dir=tmp_path,
        preloaded={GOOD: able, BAD: FakeChannel()},
    )
    async with both.opened(), Supervisor(clock) as supervisor:
        both.start_receiving(
            supervisor, lambda *_: NoInbox(), clock=clock, commands=[MenuCommand(name="stop", help="stop it")]
        )
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            for pause_s in (1, 2):
                await clock.wait_for_sleeper()
                await clock.advance(pause_s)
        assert (able.offered, able.asked) == (["stop"], 3)
        names = {service.name for service in supervisor.services()}
        assert names == {"channel good:default", "channel bad:default", "menu of good:default"}
        assert all(service.state is ServiceState.RUNNING for service in supervisor.services())
