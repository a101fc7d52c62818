"""The commands that the host deals with. A file of this package with a COMMAND is one; it is found by itself.

One of a conversation is a ChatCommand, one of the host a HostCommand.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from nanohost.chat_commands.command import ChatCommand
from nanohost.chat_commands.host_command import HostCommand

HELPERS = {"command", "host_command", "lists", "menu", "registry", "gate", "desk", "waiting"}
"""Modules of this package that are no command."""


@cache
def chat_commands() -> dict[str, ChatCommand]:
    """Those of a conversation by name, sorted."""
    return {name: command for name, command in _registered().items() if isinstance(command, ChatCommand)}


@cache
def host_commands() -> dict[str, HostCommand]:
    """Those of the host by name, sorted."""
    return {name: command for name, command in _registered().items() if isinstance(command, HostCommand)}


@cache
def _registered() -> dict[str, ChatCommand | HostCommand]:
    import nanohost.chat_commands as package

    found: dict[str, ChatCommand | HostCommand] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in HELPERS:
            command: ChatCommand | HostCommand = importlib.import_module(f"{package.__name__}.{module.name}").COMMAND
            found[command.name] = command
    return dict(sorted(found.items()))
