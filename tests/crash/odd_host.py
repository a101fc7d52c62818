"""A host whose clock a test shifts and whose runners may misbehave; in all else what `nanohost run` is.

    python -P tests/crash/odd_host.py HOME OFFSET MODE

OFFSET is a file that holds seconds, read at every look at the clock. MODE is odd_runner's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from nanohost.app import Parts, opened_store, running_host
from nanohost.cli.hosting import holding
from nanohost.cli.stop_signal import Stopped, stoppable
from nanohost.clock import SystemClock
from nanohost.commands.context import CommandContext
from nanohost.control.server import serving
from nanohost.home import Home
from nanohost.logs import set_up_logs
from nanohost.runtimes.process import ProcessRuntime
from nanohost.settings import load_settings
from nanohost.store import install

RUNNER = Path(__file__).with_name("odd_runner.py")


class ShiftedClock(SystemClock):
    """The wall clock is off by what the file says; durations are true, as on a machine whose clock was set."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=float(self._offset.read_text()))


async def serve(home: Home, offset: Path, mode: str) -> None:
    clock = ShiftedClock(offset)
    async with holding(home):
        async with opened_store(home) as store, store.transaction() as tx:
            install_id = await install.ensure(tx, clock.now())
        # The word tells whoever lists processes that this is a runner.
        command = (sys.executable, "-P", str(RUNNER), mode, str(offset), "agent_runner")
        parts = Parts(runtime=ProcessRuntime(install=install_id, command=command), clock=clock)
        settings = load_settings(home.root, os.environ)
        async with (
            running_host(home, settings, parts=parts) as host,
            serving(CommandContext(home=home, settings=settings, clock=clock, store=host.store, live=host)),
        ):
            structlog.get_logger().info("host_ready")
            await host.stopped()


async def main() -> None:
    set_up_logs(os.environ)
    with suppress(Stopped):
        async with stoppable():
            await serve(Home(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    asyncio.run(main())
