"""Runs nanohost run, the daemon. The first SIGINT or SIGTERM stops it in order, the second at once; a stop has a
time limit."""

from __future__ import annotations

import os
from contextlib import suppress

import structlog

from nanohost.cli.host_process import serve_host
from nanohost.cli.settings import StopSettings
from nanohost.cli.shutdown import ShutdownGuard
from nanohost.cli.stop_signal import StopRequested, handle_stop_signals
from nanohost.commands.settings_check import load_validated_settings
from nanohost.config.home import Home
from nanohost.config.settings import Settings, display_zone
from nanohost.logs import LOG_VARIABLE, configure_logging

_log = structlog.get_logger()


def run(home: Home, *, level: str = "") -> int:
    """Runs the host until a signal. `level`: the log level, which overrides NANOHOST_LOG. Raises NanohostError."""
    environ = {**os.environ, LOG_VARIABLE: f"{level},{os.environ.get(LOG_VARIABLE, '')}"} if level else os.environ
    configure_logging(environ, zone=display_zone(home.root, os.environ))
    settings = load_validated_settings(home, os.environ)
    with ShutdownGuard(settings.section(StopSettings).stop_limit_s) as ending:
        ending.run(_serve(home, settings, ending))
    return 0


async def _serve(home: Home, settings: Settings, shutdown_guard: ShutdownGuard) -> None:
    with suppress(StopRequested):
        async with (
            handle_stop_signals(shutdown_guard.start_timeout) as leaving,
            serve_host(home, settings, progress=_log_progress, should_keep_containers=True) as host,
        ):
            try:
                await host.wait_until_failed()
            finally:
                leaving()


def _log_progress(line: str) -> None:
    _log.info("image_build_progressed", line=line)
