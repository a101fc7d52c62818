"""Files of the agent, in words: for platforms that cannot be sent one.

The name was written by a container: it has to be a bare name, and what is there is looked at without following links,
those of the folders above it included.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nanohost_protocol.layout import SessionLayout


def in_words(layout: SessionLayout, out_id: str, name: str) -> str:
    """What to say of outbox/<row>/<name>: its size and where the operator finds it. Blocking, a few microseconds."""
    if not _is_bare(name) or not _is_bare(out_id):
        return "a file whose name cannot be used"
    size = _size(layout.out_dir, ("outbox", out_id), name)
    if size is None:
        return f"{name}, which is not there"
    path = layout.out_dir / "outbox" / out_id / name
    return f"{name}, {size} bytes, kept in {path.relative_to(layout.root.parents[2])}"


def _is_bare(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name and len(name) <= 255


def _size(top: Path, below: Sequence[str], name: str) -> int | None:
    """The size of a plain file. Goes down folder by folder: a link in place of one would lead out of the session."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(_opened(top, None))
            for each in below:
                folder = stack.enter_context(_opened(each, folder))
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (OSError, ValueError):  # ValueError: half a character, which no file system can be asked for
            return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _opened(folder: Path | str, above: int | None) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
