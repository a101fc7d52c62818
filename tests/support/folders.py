"""Folders as a container may fill them. Fixtures with very many files create them in memory: see `folder`."""

from __future__ import annotations

import os
from pathlib import Path

MANY_FILES = 200_000


def fill_folder(folder: Path, files: int) -> None:
    """A folder with so many empty files."""
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for number in range(files):
        os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def nest_folders(folder: Path, levels: int) -> None:
    """A folder with so many folders in it, each in the one before."""
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
