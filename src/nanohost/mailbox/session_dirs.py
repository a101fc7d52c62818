"""Defines where a session's folder is, and creates it. No other module knows the location, so that it can change."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nanohost.model import SessionId
from nanohost_protocol.layout import SessionLayout


def session_layout(sessions_dir: Path, group_folder: str, session: SessionId) -> SessionLayout:
    """Returns the paths of a session below the install's sessions folder."""
    return SessionLayout(sessions_dir / group_folder / session)


def attachment_dir(layout: SessionLayout, message_id: str) -> Path:
    """Returns the folder of the files that people sent with a message of this session."""
    return layout.in_dir / "inbox" / message_id


def prepare_session_dir(layout: SessionLayout) -> None:
    """Create a session's folders, its wake FIFO and an empty outbound.db. Blocking; a repeat changes nothing.

    Every user can read in/ and enter run/, because the container's user differs: the sessions folder above, which only
    we may enter, keeps other users of this machine out. outbound.db must exist before a container starts, so that it
    can be mounted over itself; after that it belongs to the container.
    """
    for folder in (layout.in_dir, layout.out_dir):
        folder.mkdir(parents=True, exist_ok=True)
    layout.in_dir.chmod(0o755)
    restore_empty_parts(layout)
    with suppress(FileExistsError):
        os.close(os.open(layout.outbound_db, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644))


def restore_empty_parts(layout: SessionLayout) -> None:
    """Make the folders that may be empty, and the FIFO, which a backup may have left out. Blocking.

    Nothing else is made: without in/ and out/ the session's data is lost, and its container must not start.
    """
    if not layout.root.is_dir():
        return
    for folder in (layout.state_dir, layout.run_dir, layout.log_dir):
        folder.mkdir(exist_ok=True)
    layout.run_dir.chmod(0o755)
    with suppress(FileExistsError, FileNotFoundError):
        os.mkfifo(layout.wake_fifo)
        layout.wake_fifo.chmod(0o644)


def notify_runner(layout: SessionLayout) -> None:
    """Wake the runner, if one listens. Never blocks and never raises: the runner's poll is the safety net."""
    with suppress(OSError):
        fifo = os.open(layout.wake_fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fifo, b"!")
        finally:
            os.close(fifo)
