"""Where a flow test plays: one folder, one host after another in it, and no runner left when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from nanohost.clock import Clock
from nanohost.runtimes.port import Container, Runtime
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.fake_runtime import FailingRuntime
from tests.support.flow import Flow, flowing, install_of, scripted_settings
from tests.support.hasty_clock import HastyClock
from tests.support.invariants import assert_clean

POLL_S = 0.2
PATIENT = {"heartbeat_limit_s": 1e9, "turn_limit_s": 1e9}
"""For hosts whose clock is hasty: their runners' hearts beat in the machine's time."""


class Options(TypedDict, total=False):
    """What a host is started with, beside the settings."""

    runtime: Runtime
    clock: Clock
    keep_containers: bool
    with_channel: bool


class Stage:
    """`fake` is the platform; it outlives the hosts."""

    def __init__(self, root: Path, *, watch: bool = True) -> None:
        self.root = root
        self.fake = FakeChannel()
        self._watch = watch

    def runtime(self, *, failures: int = 0) -> FailingRuntime:
        """A runtime that fails as often as it is told, and remembers what it started."""
        return FailingRuntime(ProcessRuntime(install=install_of(self.root)), failures=failures)

    @asynccontextmanager
    async def host(
        self, settings: dict[str, object] | None = None, *, clean: bool = True, **options: Unpack[Options]
    ) -> AsyncIterator[Flow]:
        """A running host. Everything must come to rest before it stops, unless told that it is not `clean`."""
        patience = PATIENT if isinstance(options.get("clock"), HastyClock) else {}
        wanted = scripted_settings(**{"watch": self._watch, "poll_interval_s": POLL_S, **patience, **(settings or {})})
        async with flowing(self.root, fake=self.fake, settings=wanted, **options) as flow:
            yield flow
            if clean:
                await assert_clean(flow)

    async def clear(self) -> None:
        """End the runners that a host has left alive."""
        runtime = ProcessRuntime(install=install_of(self.root))
        async with runtime.opened(_ignore):
            for container in await runtime.adopt():
                await runtime.stop(container, grace_s=0)


def _ignore(_: Container) -> None:
    """Nobody wants to know."""
