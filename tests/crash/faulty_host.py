"""A host whose clock a test shifts and whose runners may misbehave; in all else what `nanohost run` is.

    python -P tests/crash/faulty_host.py HOME OFFSET MODE

OFFSET is a file that holds seconds, read at every look at the clock. MODE is faulty_runner's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from nanohost.app import running_host
from nanohost.cli.host_process import wait_for_home_lock
from nanohost.cli.stop_signal import StopRequested, handle_stop_signals
from nanohost.clock import SystemClock
from nanohost.commands.context import CommandContext
from nanohost.config.home import Home
from nanohost.config.settings import load_settings
from nanohost.control.server import serve_control_socket
from nanohost.db import install
from nanohost.db.open import open_home_store
from nanohost.host import Overrides
from nanohost.logs import configure_logging
from nanohost.runtimes.process import ProcessRuntime

RUNNER = Path(__file__).with_name("faulty_runner.py")


class ShiftedClock(SystemClock):
    """The wall clock is off by the number in the file; durations are true, as on a machine whose clock was set."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=float(self._offset.read_text()))


async def serve(home: Home, offset: Path, mode: str) -> None:
    clock = ShiftedClock(offset)
    async with wait_for_home_lock(home):
        async with open_home_store(home) as store, store.transaction() as tx:
            install_id = await install.get_or_create(tx, clock.now())
        # The argument marks the process as a runner in a process list.
        command = (sys.executable, "-P", str(RUNNER), mode, str(offset), "agent_runner")
        parts = Overrides(runtime=ProcessRuntime(install=install_id, command=command), clock=clock)
        settings = load_settings(home.root, os.environ)
        async with (
            running_host(home, settings, overrides=parts) as host,
            serve_control_socket(
                CommandContext(home=home, settings=settings, clock=clock, store=host.store, host=host)
            ),
        ):
            structlog.get_logger().info("host_ready")
            await host.wait_until_failed()


async def main() -> None:
    configure_logging(os.environ)
    with suppress(StopRequested):
        async with handle_stop_signals():
            await serve(Home(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    asyncio.run(main())
