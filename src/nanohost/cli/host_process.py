"""Runs a host in this process with its control socket, for `run` and for a chat without a daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import structlog

from nanohost.app import running_host
from nanohost.cli.colours import RED, RESET
from nanohost.cli.open_files import raise_file_limit
from nanohost.commands.context import CommandContext
from nanohost.config.home import Home, HomeLocked, LockPurpose, lock_home
from nanohost.config.settings import Settings, collect_secrets
from nanohost.control.server import serve_control_socket
from nanohost.host import Host
from nanohost.logs import scrubber, supports_colours
from nanohost.maintenance.exposed_files import find_exposed_files
from nanohost.maintenance.unused_files import find_unused_files
from nanohost.runtimes.choose import UNSANDBOXED_WARNING
from nanohost.runtimes.runtime_api import Isolation

COMMAND_TIMEOUT_S = 5.0
"""Seconds that a command without a host may hold the home's lock before a start gives up."""
MODEL_CHECK_TIMEOUT_S = 3.0
"""Seconds that a start waits for the check of the model. Messages are handled meanwhile."""

_log = structlog.get_logger()


@asynccontextmanager
async def serve_host(
    home: Home, settings: Settings, *, progress: Callable[[str], None], should_keep_containers: bool
) -> AsyncIterator[Host]:
    """Holds the home's lock and runs the host while entered. Raises NanohostError."""
    scrubber.add_secrets(collect_secrets(settings))
    if (too_few := raise_file_limit()) is not None:
        print_warning(too_few)
    for one in await asyncio.to_thread(find_exposed_files, home, settings):
        print_warning(f"{one.path}: {one.problem}. Fix it with: {one.fix_command}")
    for idle in await asyncio.to_thread(find_unused_files, home):
        _log.warning("file_unused", path=str(idle.path), problem=idle.problem, hint=idle.hint)
    async with (
        wait_for_home_lock(home),
        running_host(home, settings, progress=progress, keep_containers=should_keep_containers) as host,
    ):
        if host.foundation.runtime.isolation is Isolation.NONE:
            print_warning(UNSANDBOXED_WARNING)
        context = CommandContext(home=home, settings=settings, clock=host.clock, store=host.store, host=host)
        async with serve_control_socket(context):
            await _warn_if_model_fails(host)
            report = host.report()
            _log.info("host_ready", home=str(home.root), **{k: report[k] for k in ("pid", "runtime", "provider")})
            try:
                yield host
            finally:
                _log.info("host_stopping")


async def _warn_if_model_fails(host: Host) -> None:
    """Warns at once if the first check of the model fails soon; later problems are in the log and in status."""
    if (found := await host.model_monitor.wait_for_first_check(MODEL_CHECK_TIMEOUT_S)) is not None:
        print_warning(f"No agent can ask its model: {found.message}. Fix it with: {found.hint}")


@asynccontextmanager
async def wait_for_home_lock(home: Home) -> AsyncIterator[None]:
    """Holds the home's lock while entered; waits for a command that holds it briefly. Raises HomeLocked."""
    with ExitStack() as stack:
        give_up = asyncio.get_running_loop().time() + COMMAND_TIMEOUT_S
        while True:
            try:
                stack.enter_context(lock_home(home))
                break
            except HomeLocked as busy:
                passing = busy.holder is None or busy.holder.purpose is LockPurpose.COMMAND
                if not passing or asyncio.get_running_loop().time() > give_up:
                    raise
                await asyncio.sleep(0.05)
        yield


def print_warning(message: str) -> None:
    """Prints an important sentence, in red if the terminal has colours."""
    colours = supports_colours(sys.stderr, os.environ)
    print(f"{RED}{message}{RESET}" if colours else f"WARNING: {message}", file=sys.stderr, flush=True)
