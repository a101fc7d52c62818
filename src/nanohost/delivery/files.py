"""Files of the agent, in words: for platforms that cannot be sent one.

The name was written by a container: it has to be a bare name, and what is there is looked at without following links.
"""

from __future__ import annotations

import stat
from pathlib import Path

from nanohost_protocol.layout import SessionLayout


def in_words(layout: SessionLayout, out_id: str, name: str) -> str:
    """What to say of outbox/<row>/<name>: its size and where the operator finds it. Blocking, a few microseconds."""
    if not _is_bare(name) or not _is_bare(out_id):
        return "a file whose name cannot be used"
    path = layout.out_dir / "outbox" / out_id / name
    size = _size(path)
    if size is None:
        return f"{name}, which is not there"
    return f"{name}, {size} bytes, kept in {path.relative_to(layout.root.parents[2])}"


def _is_bare(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name and len(name) <= 255


def _size(path: Path) -> int | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
