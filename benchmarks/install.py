"""What `make chat` puts on disk beside the image, installed anew in a folder of its own."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from benchmarks.measure import Measurement

BEFORE_MB = 610
"""When make chat installed what developers need, and Claude's command line beside the one of the image."""
PART = 0.75
CHECKOUT = Path(__file__).resolve().parent.parent


async def measure(root: Path) -> list[Measurement]:
    """Asks the package index, once a package."""
    folder = root / "venv"
    command = ["make", "--no-print-directory", "host", f"VENV={folder}"]
    await asyncio.to_thread(subprocess.run, command, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return [
        Measurement(
            key="install_mb",
            what=f"make chat, beside the image: on disk (before: {BEFORE_MB} MB)",
            value=await asyncio.to_thread(size_mb, folder),
            unit="MB",
            target=BEFORE_MB * PART,
        )
    ]


def size_mb(folder: Path) -> float:
    """What a folder takes of the disk, as `du` counts it."""
    seen: dict[tuple[int, int], int] = {}
    for path in (folder, *folder.rglob("*")):
        found = path.lstat()
        seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return round(sum(seen.values()) / 1024**2, 1)
