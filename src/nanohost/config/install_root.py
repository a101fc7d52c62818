"""Finds the install root with hardly any imports, because every short command begins here.

Paths are strings here; nanohost.config.home makes Path objects for code that does more than call the running host.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HOME_VARIABLE = "NANOHOST_HOME"
CONTROL_SOCKET = "run/control.sock"
"""The path of the control socket below the root."""


def shipped_folder() -> str:
    """Returns the checkout's root if this file is in a checkout, else the wheel's folder `_shipped`."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    checkout = os.path.dirname(os.path.dirname(package))
    return checkout if _is_checkout(checkout) else f"{package}/_shipped"


def find_root(option: str | None, environ: Mapping[str, str]) -> str:
    """Returns --home, else NANOHOST_HOME, else the checkout of this code, else ~/.nanohost; absolute."""
    if option is None:
        option = environ.get(HOME_VARIABLE) or None
    if option is None:
        shipped = shipped_folder()
        option = shipped if _is_checkout(shipped) else "~/.nanohost"
    # Not realpath: it would follow a link whose target may change.
    return os.path.abspath(os.path.expanduser(option))


def _is_checkout(folder: str) -> bool:
    return os.path.isfile(f"{folder}/pyproject.toml") and os.path.isdir(f"{folder}/migrations")
