"""The registry of operator commands, for the command line and the control socket.

Each file in this package holds the commands of one noun in a tuple COMMANDS, and, if they are made from a resource, its
definition in RESOURCE (see resource.py); a new file is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from nanohost.commands.command import Command
from nanohost.commands.resource import Resource
from nanohost.errors import UsageError

HELPER_MODULES = {
    "channel_setup",
    "chat_names",
    "command",
    "context",
    "delivery_number",
    "message_status",
    "old_words",
    "prompts",
    "qr",
    "registry",
    "resource",
    "settings_check",
    "setup",
    "since",
    "status_headings",
    "tables",
}
"""Modules of this package that hold no commands."""


@cache
def commands() -> dict[str, Command]:
    """All commands by their words, sorted."""
    found = {command.words: command for module in modules().values() for command in module.COMMANDS}
    return dict(sorted(found.items()))


@cache
def resources() -> dict[str, Resource]:
    """The resources among them by their name, sorted."""
    found = {module.RESOURCE.name: module.RESOURCE for module in modules().values() if hasattr(module, "RESOURCE")}
    return dict(sorted(found.items()))


def modules() -> dict[str, ModuleType]:
    """The files that hold commands, by their name."""
    import nanohost.commands as package

    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in HELPER_MODULES]
    return {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}


@cache
def meanings() -> dict[str, str]:
    """Returns the meaning of each noun: of a resource its description, of others the module's ABOUT."""
    found: dict[str, str] = {}
    for module in modules().values():
        about = module.RESOURCE.description if hasattr(module, "RESOURCE") else getattr(module, "ABOUT", "")
        if about:
            found[module.COMMANDS[0].words.partition(" ")[0]] = about
    return dict(sorted(found.items()))


def load_command(module: str, words: str) -> Command:
    """The command, from the file that holds it and without loading the others."""
    held: tuple[Command, ...] = importlib.import_module(f"nanohost.commands.{module}").COMMANDS
    return next(command for command in held if command.words == words)


def find_command(words: str) -> Command:
    """Returns the command of these words. Raises UsageError if there is none."""
    if words not in commands():
        raise UsageError(f"there is no command {words[:80]!r}", hint="nanohost --help")
    return commands()[words]
