"""A host in this process, with its control socket: what `run` and a chat without a daemon share."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import structlog

from nanohost.app import Host, running_host
from nanohost.cli.colours import PLAIN, RED
from nanohost.commands.context import CommandContext
from nanohost.control.server import serving
from nanohost.exposed_files import exposed
from nanohost.file_limit import raise_file_limit
from nanohost.home import Holding, Home, HomeBusy, hold
from nanohost.logs import scrubber, shows_colours
from nanohost.runtimes.choose import UNSANDBOXED_WARNING
from nanohost.runtimes.port import Isolation
from nanohost.settings import Settings, secrets_of
from nanohost.unused_files import unused

COMMAND_LIMIT_S = 5.0
"""How long a command on a stopped host may hold the home before a start gives up."""
MODEL_LIMIT_S = 3.0
"""How long a start waits to hear whether the model can be asked. Messages are served meanwhile."""

_log = structlog.get_logger()


@asynccontextmanager
async def hosting(
    home: Home, settings: Settings, *, progress: Callable[[str], None], keep_containers: bool
) -> AsyncIterator[Host]:
    """Hold the home and serve while entered. Raises NanohostError."""
    scrubber.learn(secrets_of(settings))
    if (too_few := raise_file_limit()) is not None:
        warn(too_few)
    for one in await asyncio.to_thread(exposed, home, settings):
        warn(f"{one.path}: {one.problem}. Mend it with: {one.do}")
    for idle in await asyncio.to_thread(unused, home):
        _log.warning("file_not_used", path=str(idle.path), problem=idle.problem, hint=idle.do)
    async with (
        holding(home),
        running_host(home, settings, progress=progress, keep_containers=keep_containers) as host,
    ):
        if host.ground.runtime.isolation is Isolation.NONE:
            warn(UNSANDBOXED_WARNING)
        context = CommandContext(home=home, settings=settings, clock=host.clock, store=host.store, live=host)
        async with serving(context):
            await _say_what_is_wrong_with_the_model(host)
            report = host.report()
            _log.info("host_ready", home=str(home.root), **{k: report[k] for k in ("pid", "runtime", "provider")})
            try:
                yield host
            finally:
                _log.info("host_stopping")


async def _say_what_is_wrong_with_the_model(host: Host) -> None:
    """At once, if it is known soon; else the log and the status say it."""
    if (found := await host.model.tried(MODEL_LIMIT_S)) is not None:
        warn(f"No agent can ask its model: {found.problem}. Mend it with: {found.do}")


@asynccontextmanager
async def holding(home: Home) -> AsyncIterator[None]:
    """Hold the home while entered; a command that has it for a moment is waited for. Raises HomeBusy."""
    with ExitStack() as stack:
        give_up = asyncio.get_running_loop().time() + COMMAND_LIMIT_S
        while True:
            try:
                stack.enter_context(hold(home))
                break
            except HomeBusy as busy:
                passing = busy.holder is None or busy.holder.holding is Holding.COMMAND
                if not passing or asyncio.get_running_loop().time() > give_up:
                    raise
                await asyncio.sleep(0.05)
        yield


def warn(sentence: str) -> None:
    """A sentence nobody should miss: red where there are colours."""
    colours = shows_colours(sys.stderr, os.environ)
    print(f"{RED}{sentence}{PLAIN}" if colours else f"WARNING: {sentence}", file=sys.stderr, flush=True)
