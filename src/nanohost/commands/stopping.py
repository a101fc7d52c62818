"""Stopping containers where no host runs that would do it: they outlive a host on purpose, and nobody else ends them.

The lease stays on record: the next host finds its container gone, and frees what that had claimed, as after any death.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nanohost.errors import RuntimeUnavailable, SettingsError
from nanohost.keeper.slots import STOP_GRACE_S
from nanohost.model import Session, SessionId
from nanohost.runtime_files import runtime_names
from nanohost.runtimes.choose import reopen_runtime
from nanohost.runtimes.port import Container, Runtime
from nanohost.store import install, sessions
from nanohost.store.database import Store

RuntimeFactory = Callable[[str, str], Runtime]


async def stop_without_host(
    store: Store, root: Path, session: Session | None, *, make_runtime: RuntimeFactory | None = None
) -> Sequence[SessionId]:
    """Stop the container of this session, or of all (None), also those that no session knows of. Returns whose.
    `root` is the install's.

    The caller holds the home. Raises RuntimeUnavailable when what started a container on record does not answer,
    SettingsError when its file is gone or cannot be used.
    """
    install_id = await install.find(store.reports)
    if install_id is None:
        return []
    leased = await sessions.list_leased(store.reports) if session is None else [session]
    recorded = {one.runtime for one in leased if one.lease is not None and one.runtime is not None}
    stopped: list[SessionId] = []
    make_runtime = make_runtime or (lambda name, id: reopen_runtime(name, root=root, install=id))
    for name in runtime_names(root) if session is None else sorted(recorded):
        try:
            stopped += await _stop_all(make_runtime(name, install_id), session)
        except (RuntimeUnavailable, SettingsError):  # not installed, or a file that cannot be used
            if name in recorded:
                raise
    return stopped


async def _stop_all(runtime: Runtime, session: Session | None) -> list[SessionId]:
    async with runtime.opened(_ignore_exit):
        found = [one for one in await runtime.adopt() if session is None or one.session_id == session.id]
        for container in found:
            await runtime.stop(container, grace_s=STOP_GRACE_S)
    return [container.session_id for container in found]


def _ignore_exit(container: Container) -> None:
    """What died is asked for, not listened to."""
