"""A host in this process, with its control socket: what `run` and a chat without a daemon share."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from nanohost.app import Host, running_host
from nanohost.commands.context import CommandContext
from nanohost.control.server import serving
from nanohost.home import Home, hold
from nanohost.logs import scrubber
from nanohost.runtimes.choose import UNSANDBOXED_WARNING
from nanohost.runtimes.port import Isolation
from nanohost.settings import Settings, secrets_of

RED, PLAIN = "\033[31m", "\033[0m"

_log = structlog.get_logger()


@asynccontextmanager
async def hosting(
    home: Home, settings: Settings, *, progress: Callable[[str], None], keep_containers: bool
) -> AsyncIterator[Host]:
    """Hold the home and serve while entered. Raises NanohostError."""
    scrubber.learn(secrets_of(settings))
    with hold(home):
        async with running_host(home, settings, progress=progress, keep_containers=keep_containers) as host:
            if host.ground.runtime.isolation is Isolation.NONE:
                warn(UNSANDBOXED_WARNING)
            context = CommandContext(home=home, settings=settings, clock=host.clock, store=host.store, live=host)
            async with serving(context):
                report = host.report()
                _log.info("host_ready", home=str(home.root), **{k: report[k] for k in ("pid", "runtime", "provider")})
                yield host
                _log.info("host_stopping")


def warn(sentence: str) -> None:
    """A sentence nobody should miss: red where there are colours."""
    colours = sys.stderr.isatty()
    print(f"{RED}{sentence}{PLAIN}" if colours else f"WARNING: {sentence}", file=sys.stderr, flush=True)
