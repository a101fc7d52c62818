"""Finds the files that ship beside the code: Dockerfile.agent, migrations, channels.

In a checkout they lie at its root; in an installed wheel they lie in the package's `_shipped` folder.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nanohost.config.install_root import shipped_folder


@cache
def shipped_root() -> Path:
    """The checkout's root if this file lies in a checkout, else the folder the wheel brought along."""
    return Path(shipped_folder())
