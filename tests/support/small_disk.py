"""A separate disk for a test, which can be filled without harm."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mount_small_disk(folder: Path, megabytes: int, *, inodes: int = 0) -> Iterator[None]:
    """`inodes`: the number of files, 0 for no limit. Skips without the right to mount."""
    folder.mkdir()
    options = f"size={megabytes}m,nr_inodes={inodes}"
    words = ["mount", "-t", "tmpfs", "-o", options, "nanohost-small-disk", str(folder)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        with suppress(subprocess.SubprocessError):
            subprocess.run(["umount", str(folder)], check=True)
