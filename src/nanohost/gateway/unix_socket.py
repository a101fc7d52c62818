"""A listening Unix socket at a path of any length.

The kernel takes at most 107 bytes (103 on macOS) for a socket's path, and a home may lie deeper. The name is bound
through a short link to its folder, which is gone again when the socket listens.
"""

from __future__ import annotations

import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def listen_at(path: Path) -> socket.socket:
    """Bind a socket that every user may connect to; who can reach it is decided by the folders above.

    Replaces a socket that an earlier host left. Raises OSError when the folder is missing or the name is taken by
    something that is not a socket.
    """
    remove_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(path) as name:
            listener.bind(str(name))
        path.chmod(0o666)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def remove_socket(path: Path) -> None:
    """Remove a socket's name; one that is gone already is fine. Raises FileExistsError if it is anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there and is not a socket")
    path.unlink(missing_ok=True)


@contextmanager
def _short_path(path: Path) -> Iterator[Path]:
    """The same name by a short way."""
    with tempfile.TemporaryDirectory(prefix="nanohost-") as folder:
        link = Path(folder, "d")
        link.symlink_to(path.parent.absolute(), target_is_directory=True)
        yield link / path.name
