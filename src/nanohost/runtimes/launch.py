"""Starts a process that outlives the host, and undoes a start that is cancelled.

Never: waits for the process. The caller watches it through a pid descriptor.
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
    """Start a process in a session of its own, with output to the descriptor `log`. Returns its pid.

    `stdout`: another descriptor for standard output. `inherited_fds`: descriptors that it inherits by the same number.
    Raises SpawnError if the program cannot be run.
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
            # In its own session, neither the terminal's Ctrl-C nor the end of the host reaches it.
            start_new_session=True,
        )
    except OSError as error:
        raise SpawnError(
            lazy_gettext("Cannot run {program}: {cause}.", program=arguments[0], cause=error.strerror),
            hint=f"which {arguments[0]}",
        ) from error
    # The process may outlive this one and is reaped through its pid descriptor, so Popen must not wait for it.
    process.returncode = 0
    return process.pid


async def complete_or_undo(job: Awaitable[T], undo: Callable[[T], Awaitable[None]]) -> T:
    """Returns the job's result. If cancelled, waits for the job (a thread cannot be stopped) and then undoes it."""
    running = asyncio.ensure_future(job)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(NanohostError):
            await undo(await running)
        raise
