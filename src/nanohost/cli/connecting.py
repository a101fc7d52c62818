"""Which host a chat talks to: the one that runs or is about to, else one that is started in this process.

Never takes the home from a host that is starting, and never fails because one is: it waits.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nanohost.cli.registered import perform
from nanohost.cli.terminal_client import TerminalClient
from nanohost.commands.registry import find
from nanohost.errors import NanohostError
from nanohost.home import Home, HomeBusy, is_announced
from nanohost.provider_settings import provider_for

Tell = Callable[[str], None]

LOOK_AGAIN_S = 0.2
RESTART_S = 5.0
"""For which a daemon that has gone is waited for before its home is taken."""
DUMB_LIMIT_S = 5.0
"""How long a host that answers commands may be without its terminal."""
WAITS = "Another nanohost is starting or stopping here: this waits for it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """By whom. `is_here`: a host in this process. `again`: for --once, to be called when it has gone; a daemon that is
    being restarted is left the home, and a chat that was the host and left is followed by this process. Returns whether
    the host is here now."""

    is_here: bool
    again: Callable[[], Awaitable[bool]]


@asynccontextmanager
async def connected(
    home: Home, client: TerminalClient, tell: Tell, *, limit_s: float = math.inf
) -> AsyncIterator[Served]:
    """Have the client connected while entered, to a host that is not ended before. `limit_s`: for a host that is just
    starting or stopping. Raises NanohostError."""
    async with AsyncExitStack() as stack:
        is_here = await _served(home, tell, stack, limit_s)

        async def again() -> bool:
            nonlocal is_here
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - began < RESTART_S:
                if client.is_connected or is_announced(home):
                    return is_here
                await asyncio.sleep(LOOK_AGAIN_S)
            is_here = await _served(home, tell, stack, limit_s)
            return is_here

        async with client.connected():
            yield Served(is_here=is_here, again=again)


async def _served(home: Home, tell: Tell, stack: AsyncExitStack, limit_s: float) -> bool:
    """Return when a host's terminal answers. True: it was started here, and is ended with the stack."""
    loop, told = asyncio.get_running_loop(), False
    began, dumb_since = loop.time(), math.inf
    while True:
        try:
            await perform(find("terminal setup"), {}, home)
            if await _answers(home.run / "terminal.sock"):
                return False
            if not is_announced(home):
                await _host_here(home, tell, stack)
                return True
        except HomeBusy as busy:
            if loop.time() - dumb_since > DUMB_LIMIT_S:
                raise NanohostError(f"{busy}, and its terminal does not answer", hint="nanohost status") from None
        dumb_since = min(dumb_since, loop.time()) if home.control_socket.exists() else math.inf
        if loop.time() - began > limit_s:
            told_of = f"another nanohost has been starting or stopping for {limit_s:g} s"
            raise NanohostError(f"{told_of} in {home.root}", hint="nanohost status")
        if not told:
            tell(WAITS)
            told = True
        await asyncio.sleep(LOOK_AGAIN_S)


async def _host_here(home: Home, tell: Tell, stack: AsyncExitStack) -> None:
    from nanohost.cli.hosting import hosting
    from nanohost.known_names import load_checked

    settings = load_checked(home, os.environ)
    host = await stack.enter_async_context(hosting(home, settings, progress=tell, keep_containers=False))
    tell(f"No nanohost was running: one runs here now ({host.ground.runtime.name}, {provider_for(settings)}).")


async def _answers(socket: Path) -> bool:
    from nanohost.short_socket import short_path

    try:
        with short_path(socket) as path:
            _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True
