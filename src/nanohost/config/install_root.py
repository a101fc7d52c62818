"""Finds the install root with hardly any imports, because every short command begins here.

Paths are text: nanohost.config.home makes Paths of them, for whoever does more than ask the running host.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HOME_VARIABLE = "NANOHOST_HOME"
CONTROL_SOCKET = "run/control.sock"
"""Where a running host is asked, below the root."""


def shipped_folder() -> str:
    """The checkout's root if this file lies in a checkout, else the folder the wheel brought along."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    checkout = os.path.dirname(os.path.dirname(package))
    return checkout if _is_checkout(checkout) else f"{package}/_shipped"


def find_root(option: str | None, environ: Mapping[str, str]) -> str:
    """--home, else NANOHOST_HOME, else the checkout this code lies in, else ~/.nanohost; absolute."""
    if option is None:
        option = environ.get(HOME_VARIABLE) or None
    if option is None:
        shipped = shipped_folder()
        option = shipped if _is_checkout(shipped) else "~/.nanohost"
    # realpath would follow a link that may be moved.
    return os.path.abspath(os.path.expanduser(option))


def _is_checkout(folder: str) -> bool:
    return os.path.isfile(f"{folder}/pyproject.toml") and os.path.isdir(f"{folder}/migrations")
