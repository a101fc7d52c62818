"""Reads a file that the agent wants to send. Promises: reads only plain files in the agent's own folders, and follows
no link out of them, not even one that is created meanwhile. Blocks: keep it off the event loop.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

MAX_FILE_BYTES = 100 * 1024 * 1024
"""Bytes: the largest limit of the shipped platforms; the host knows the lower limit of each."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnreadableFile(Exception):
    """The file cannot be sent; the text tells the agent why."""


def read_file(path: str, *, roots: Sequence[Path], max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Returns the file's content. A relative path is relative to the first of `roots`. Raises UnreadableFile."""
    try:
        return _read_nofollow(*_locate(path, roots), max_bytes)
    except OSError as error:
        raise UnreadableFile(f"{path!r} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # a zero byte or an unpaired surrogate, which no path can hold
        raise UnreadableFile(f"{path!r} is no path.") from error


def _locate(path: str, roots: Sequence[Path]) -> tuple[Path, Path]:
    """Returns the root that the file is really in, and its path relative to that root."""
    real = _real_path(roots[0] / path)
    for root in map(_real_path, roots):
        if root in real.parents:
            return root, real.relative_to(root)
    raise UnreadableFile(f"{path!r} is neither in your folder nor in /tmp: copy it there first.")


def _real_path(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike resolve(), raises no error for a loop of links


def _read_nofollow(root: Path, relative_path: Path, max_bytes: int) -> bytes:
    with ExitStack() as stack:
        at = os.open(root, _FLAGS | os.O_DIRECTORY)
        stack.callback(os.close, at)
        for folder in relative_path.parts[:-1]:
            at = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=at)
            stack.callback(os.close, at)
        # Non-blocking: it may be a pipe that nobody writes to.
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
