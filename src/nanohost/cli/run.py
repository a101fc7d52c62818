"""nanohost run: the daemon. The first SIGINT or SIGTERM stops in order, the second at once. What hangs has a limit."""

from __future__ import annotations

import os
from contextlib import suppress

import structlog

from nanohost.cli.ending import Ending
from nanohost.cli.hosting import hosting
from nanohost.cli.settings import StopSettings
from nanohost.cli.stop_signal import Stopped, stoppable
from nanohost.home import Home
from nanohost.known_names import load_checked
from nanohost.logs import set_up_logs
from nanohost.settings import Settings, zone_of

_log = structlog.get_logger()


def run(home: Home) -> int:
    """Serve until a signal. Raises NanohostError."""
    set_up_logs(os.environ, zone=zone_of(home.root, os.environ))
    settings = load_checked(home, os.environ)
    with Ending(settings.of(StopSettings).stop_limit_s) as ending:
        ending.run(_serve(home, settings, ending))
    return 0


async def _serve(home: Home, settings: Settings, ending: Ending) -> None:
    with suppress(Stopped):
        async with (
            stoppable(ending.begin) as leaving,
            hosting(home, settings, progress=_progress, keep_containers=True) as host,
        ):
            try:
                await host.stopped()
            finally:
                leaving()


def _progress(line: str) -> None:
    _log.info("image_build", line=line)
