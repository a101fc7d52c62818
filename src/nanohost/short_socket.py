"""A Unix socket's path, made short enough for the kernel however deep its folder lies.

The kernel keeps 108 bytes for a socket's path (104 on macOS), the final zero included, and a home may lie deeper
than that. On Linux the folder is opened and named through its descriptor; elsewhere a link in the temporary folder
stands in for it. Bind or connect while the path is lent, not later. Nothing here opens a socket.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATH_LIMIT_BYTES = 103
"""What fits everywhere: sun_path of unix(4) on macOS, 104 bytes, less the final zero."""

_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Lend a path to the same place that `bind` and `connect` take. Raises OSError when the folder is not there."""
    full = os.fspath(path)
    if len(os.fsencode(full)) <= PATH_LIMIT_BYTES:
        yield full
    elif _DESCRIPTORS.is_dir():
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"{_DESCRIPTORS}/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        with tempfile.TemporaryDirectory(prefix="nanohost-") as scratch:
            link = Path(scratch) / "to"
            link.symlink_to(path.parent.resolve(strict=True))
            yield f"{link}/{path.name}"
