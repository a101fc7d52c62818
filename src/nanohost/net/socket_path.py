"""Shortens a Unix socket's path for the kernel, however deep its folder is.

The kernel allows 108 bytes for a socket's path (104 on macOS), with the final zero, and the path of a home may be
longer. On Linux the folder is opened and named through its descriptor; elsewhere a link in the temporary folder
replaces it. Bind or connect while the context is open, not later. Nothing here opens a socket.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:  # each short command loads this
    from collections.abc import Iterator
    from pathlib import Path

MAX_PATH_BYTES = 103
"""The limit that fits everywhere: sun_path of unix(4) on macOS, 104 bytes, less the final zero."""

_FD_DIR = "/proc/self/fd"


@contextmanager
def short_socket_path(path: Path | str) -> Iterator[str]:
    """Yields a short path to the same socket for `bind` and `connect`. Raises OSError if the folder is missing."""
    full = os.fspath(path)
    if len(os.fsencode(full)) <= MAX_PATH_BYTES:
        yield full
    elif os.path.isdir(_FD_DIR):
        folder = os.open(os.path.dirname(full) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"{_FD_DIR}/{folder}/{os.path.basename(full)}"
        finally:
            os.close(folder)
    else:
        import tempfile  # slow to load, and seldom needed
        from pathlib import Path

        with tempfile.TemporaryDirectory(prefix="nanohost-") as scratch:
            link = Path(scratch) / "to"
            link.symlink_to(Path(full).parent.resolve(strict=True))
            yield f"{link}/{os.path.basename(full)}"
