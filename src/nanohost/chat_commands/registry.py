"""The commands that the host deals with. A file of this package with a COMMAND is one; it is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from nanohost.chat_commands.command import ChatCommand

HELPERS = {"command", "registry", "gate", "desk", "waiting"}
"""Modules of this package that are no command."""


@cache
def chat_commands() -> dict[str, ChatCommand]:
    """All of them by name, sorted."""
    import nanohost.chat_commands as package

    found: dict[str, ChatCommand] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in HELPERS:
            command: ChatCommand = importlib.import_module(f"{package.__name__}.{module.name}").COMMAND
            found[command.name] = command
    return dict(sorted(found.items()))
