"""Where a session's folder is. Nothing else knows it, so that one day it may be elsewhere."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nanohost.model import SessionId
from nanohost_protocol.layout import SessionLayout


def session_layout(sessions_dir: Path, group_folder: str, session: SessionId) -> SessionLayout:
    """The paths of a session below the install's sessions folder."""
    return SessionLayout(sessions_dir / group_folder / session)


def attachment_dir(layout: SessionLayout, message_id: str) -> Path:
    """Where the files are that people sent with a message of this session."""
    return layout.in_dir / "inbox" / message_id


def prepare_session_dir(layout: SessionLayout) -> None:
    """Make a session's folders, its wake FIFO and an empty outbound.db. Blocking; doing it again changes nothing.

    in/ can be read and run/ be entered by the container's user, whoever that is: what keeps other users of this
    machine out is the sessions folder above, which only we may enter. outbound.db must exist before a container
    starts, so that it can be mounted over itself; it is the container's from then on, and never opened here.
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
    """Wake the runner, if one listens. Never blocks and never fails: the runner's poll is the safety net."""
    with suppress(OSError):
        bell = os.open(layout.wake_fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(bell, b"!")
        finally:
            os.close(bell)
