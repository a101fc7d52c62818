"""Finds the host for a chat: one that runs or is starting; otherwise starts one in this process.

Never takes the home's lock from a host that is starting, and never fails because of one: it waits.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nanohost.cli.run_command import execute
from nanohost.cli.terminal_client import TerminalClient
from nanohost.commands.registry import find_command
from nanohost.config.home import Home, HomeLocked, is_daemon_announced
from nanohost.errors import NanohostError
from nanohost.gateway.provider_settings import resolve_provider

NoticePrinter = Callable[[str], None]

POLL_INTERVAL_S = 0.2
RESTART_GRACE_S = 5.0
"""Seconds to wait for a daemon to restart before taking its home's lock."""
TERMINAL_TIMEOUT_S = 5.0
"""Seconds that a host may answer commands before its terminal socket is ready."""
WAITING_NOTICE = "Another nanohost is starting or stopping here: this waits for it."


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConnection:
    """The host of a chat. `is_in_process`: it runs in this process. `reconnect`: for --once, call it when the host is
    gone: it waits for a restarting daemon, or runs the host here if another chat was the host and ended. It returns
    whether the host is in this process now."""

    is_in_process: bool
    reconnect: Callable[[], Awaitable[bool]]


@asynccontextmanager
async def connect_to_host(
    home: Home, client: TerminalClient, print_notice: NoticePrinter, *, start_timeout_s: float = math.inf
) -> AsyncIterator[HostConnection]:
    """Keeps the client connected to a host while entered. `start_timeout_s`: for a host that is starting or stopping.
    Raises NanohostError."""
    async with AsyncExitStack() as stack:
        is_here = await _ensure_host(home, print_notice, stack, start_timeout_s)

        async def again() -> bool:
            nonlocal is_here
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - began < RESTART_GRACE_S:
                if client.is_connected or is_daemon_announced(home):
                    return is_here
                await asyncio.sleep(POLL_INTERVAL_S)
            is_here = await _ensure_host(home, print_notice, stack, start_timeout_s)
            return is_here

        async with client.connected():
            yield HostConnection(is_in_process=is_here, reconnect=again)


async def _ensure_host(home: Home, print_notice: NoticePrinter, stack: AsyncExitStack, start_timeout_s: float) -> bool:
    """Returns when a host's terminal answers. True: it was started here, and ends with the stack."""
    loop, told = asyncio.get_running_loop(), False
    began, dumb_since = loop.time(), math.inf
    while True:
        try:
            await execute(find_command("terminal setup"), {}, home)
            if await _accepts_connections(home.run_dir / "terminal.sock"):
                return False
            if not is_daemon_announced(home):
                await _start_host_in_process(home, print_notice, stack)
                return True
        except HomeLocked as busy:
            if loop.time() - dumb_since > TERMINAL_TIMEOUT_S:
                raise NanohostError(f"{busy}, and its terminal does not answer", hint="nanohost status") from None
        dumb_since = min(dumb_since, loop.time()) if home.control_socket.exists() else math.inf
        if loop.time() - began > start_timeout_s:
            told_of = f"another nanohost has been starting or stopping for {start_timeout_s:g} s"
            raise NanohostError(f"{told_of} in {home.root}", hint="nanohost status")
        if not told:
            print_notice(WAITING_NOTICE)
            told = True
        await asyncio.sleep(POLL_INTERVAL_S)


async def _start_host_in_process(home: Home, print_notice: NoticePrinter, stack: AsyncExitStack) -> None:
    from nanohost.cli.host_process import serve_host
    from nanohost.commands.settings_check import load_validated_settings

    settings = load_validated_settings(home, os.environ)
    host = await stack.enter_async_context(
        serve_host(home, settings, progress=print_notice, should_keep_containers=False)
    )
    print_notice(
        f"No nanohost was running: one runs here now ({host.foundation.runtime.name}, {resolve_provider(settings)})."
    )


async def _accepts_connections(socket: Path) -> bool:
    from nanohost.net.socket_path import short_socket_path

    try:
        with short_socket_path(socket) as path:
            _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True
