"""Start one process that outlives the host, and give up a start halfway without leaving anything behind.

It never waits for the process; whoever started it watches it through a pid descriptor.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from nanohost.errors import NanohostError, SpawnError
from nanohost.text.translation import lazy_gettext

T = TypeVar("T")


def spawn(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: int,
    stdout: int | None = None,
    cwd: Path | None = None,
    inherited_fds: Sequence[int] = (),
) -> int:
    """Start a process in a session of its own, output to the descriptor `log`, and return its pid.

    `stdout`: another descriptor for standard output. `inherited_fds`: descriptors it inherits under the same number.
    Raises SpawnError when the program cannot be run.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the arguments are ours, never a person's or an agent's
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            cwd=cwd,
            env=dict(environment),
            pass_fds=inherited_fds,
            # Its own session: neither the terminal's Ctrl-C nor the end of the host reaches it.
            start_new_session=True,
        )
    except OSError as error:
        raise SpawnError(
            lazy_gettext("Cannot run {program}: {cause}.", program=arguments[0], cause=error.strerror),
            hint=f"which {arguments[0]}",
        ) from error
    # The process may outlive this one and is reaped through its pid descriptor, so Popen must not feel responsible.
    process.returncode = 0
    return process.pid


async def complete_or_undo(job: Awaitable[T], undo: Callable[[T], Awaitable[None]]) -> T:
    """The job's result. Cancelled meanwhile, the job still ends (a thread cannot be stopped) and is then undone."""
    running = asyncio.ensure_future(job)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(NanohostError):
            await undo(await running)
        raise
