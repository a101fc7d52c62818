"""A file that the agent wants to send, read. Promises: only a plain file, only from the folders that are its own, and
no link leads out of them, not even one that is put there meanwhile. Blocking: keep it off the event loop.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

MAX_FILE_BYTES = 100 * 1024 * 1024
"""The most that a platform of ours takes; each has its own limit below, which the host knows."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnreadableFile(Exception):
    """It cannot be sent; the text tells the agent why."""


def read_file(path: str, *, roots: Sequence[Path], max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """What is in the file; a path that is not absolute counts from the first of `roots`. Raises Unreadable."""
    try:
        return _read_nofollow(*_locate(path, roots), max_bytes)
    except OSError as error:
        raise UnreadableFile(f"{path!r} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # a zero byte, or half a character, which no file system can be asked for
        raise UnreadableFile(f"{path!r} is no path.") from error


def _locate(path: str, roots: Sequence[Path]) -> tuple[Path, Path]:
    """The root that the file really is in, and the way there from it."""
    real = _real_path(roots[0] / path)
    for root in map(_real_path, roots):
        if root in real.parents:
            return root, real.relative_to(root)
    raise UnreadableFile(f"{path!r} is neither in your folder nor in /tmp: copy it there first.")


def _real_path(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike resolve(), no error of its own where links go round in circles


def _read_nofollow(root: Path, relative_path: Path, max_bytes: int) -> bytes:
    with ExitStack() as stack:
        at = os.open(root, _FLAGS | os.O_DIRECTORY)
        stack.callback(os.close, at)
        for folder in relative_path.parts[:-1]:
            at = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=at)
            stack.callback(os.close, at)
        # Without waiting: what looks like a file may be a pipe that nobody writes to.
        descriptor = os.open(relative_path.name, _FLAGS | os.O_NONBLOCK, dir_fd=at)
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableFile(f"{relative_path.name!r} is no plain file.")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    if not 0 < len(data) <= max_bytes:
        why = "is empty" if not data else f"is larger than {max_bytes // 1024**2} MiB"
        raise UnreadableFile(f"{relative_path.name!r} {why}; it cannot be sent.")
    return data
