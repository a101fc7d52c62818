"""nanohost run: the daemon. The first SIGINT or SIGTERM stops in order, the second at once."""

from __future__ import annotations

import asyncio
import os
import signal

from nanohost.cli.hosting import hosting
from nanohost.home import Home
from nanohost.logs import set_up_logs
from nanohost.settings import load_settings

NOW = 130


def run(home: Home) -> int:
    """Serve until a signal. Raises NanohostError."""
    set_up_logs(os.environ)
    settings = load_settings(home.root, os.environ)

    async def serve() -> None:
        stop = _stop_signal()
        async with hosting(home, settings, progress=_progress, keep_containers=True) as host:
            failed = asyncio.create_task(host.stopped(), name="host failure")
            stopping = asyncio.create_task(stop.wait(), name="stop signal")
            done, pending = await asyncio.wait({failed, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            if failed in done:
                failed.result()

    asyncio.run(serve())
    return 0


def _stop_signal() -> asyncio.Event:
    """Set by the first signal; the second ends the process where it stands, which is safe at any moment."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(NOW)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def _progress(line: str) -> None:
    import structlog

    structlog.get_logger().info("image_build", line=line)
