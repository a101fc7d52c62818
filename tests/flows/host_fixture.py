"""The environment of a flow test: one folder, one host after another in it, and no runner left at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from nanohost.clock import Clock
from nanohost.runtimes.process import ProcessRuntime
from nanohost.runtimes.runtime_api import Container, Runtime
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.fake_runtime import FailingRuntime
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import RunningHost, install_id_for, run_host, scripted_settings
from tests.support.invariants import assert_clean

POLL_INTERVAL_S = 0.2
NO_WATCHDOG_SETTINGS = {"heartbeat_limit_s": 1e9, "turn_limit_s": 1e9}
"""For hosts with an accelerated clock: heartbeats of their runners are in real time."""


class HostOptions(TypedDict, total=False):
    """Options of a host beside the settings."""

    runtime: Runtime
    clock: Clock
    keep_containers: bool
    with_channel: bool


class HostTestEnv:
    """`fake` is the platform; it outlives the hosts."""

    def __init__(self, root: Path, *, watch: bool = True) -> None:
        self.root = root
        self.fake = FakeChannel()
        self._watch = watch

    def make_runtime(self, *, failures: int = 0) -> FailingRuntime:
        """A runtime that fails a given number of times, and records what it started."""
        return FailingRuntime(ProcessRuntime(install=install_id_for(self.root)), failures=failures)

    @asynccontextmanager
    async def run_host(
        self,
        settings: dict[str, object] | None = None,
        *,
        should_verify_clean: bool = True,
        **options: Unpack[HostOptions],
    ) -> AsyncIterator[RunningHost]:
        """A running host. Before it stops everything must be settled, unless `should_verify_clean` is False."""
        patience = NO_WATCHDOG_SETTINGS if isinstance(options.get("clock"), AcceleratedClock) else {}
        wanted = scripted_settings(
            **{"watch": self._watch, "poll_interval_s": POLL_INTERVAL_S, **patience, **(settings or {})}
        )
        async with run_host(self.root, fake=self.fake, settings=wanted, **options) as flow:
            yield flow
            if should_verify_clean:
                await assert_clean(flow)

    async def cleanup(self) -> None:
        """Stop the runners that a host has left running."""
        runtime = ProcessRuntime(install=install_id_for(self.root))
        async with runtime.opened(_ignore):
            for container in await runtime.adopt():
                await runtime.stop(container, grace_s=0)


def _ignore(_: Container) -> None:
    """Ignore the event."""
