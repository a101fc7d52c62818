"""Finds the files that ship beside the code: Dockerfile.agent, migrations, channels.

In a checkout they are at its root; in an installed wheel they are in the package's `_shipped` folder.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nanohost.config.install_root import shipped_folder


@cache
def shipped_root() -> Path:
    """Returns the checkout's root if this file is in a checkout, else the wheel's folder `_shipped`."""
    return Path(shipped_folder())
