"""How much disk a container's folder takes. Promises: follows no link, looks no further than the limit, never raises:
what vanishes or cannot be read meanwhile counts nothing. Blocking: called from a thread."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

BLOCK = 512
"""What st_blocks counts in, whatever the file system's own blocks are."""
ENTRY_BYTES = 4096
"""The least an entry counts: a million empty files fill a disk as well."""


def footprint(folder: Path, *, limit: int) -> int:
    """Bytes below the folder; once they exceed `limit` the rest is not looked at."""
    total, folders = 0, [str(folder)]
    while folders and total <= limit:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    total += max(ENTRY_BYTES, entry.stat(follow_symlinks=False).st_blocks * BLOCK)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                if total > limit:
                    break
    return total
