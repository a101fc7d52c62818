"""The registry of chat commands. A file of this package with a COMMAND is one, and is found by itself.

A command of a session is a ChatCommand, one of the host a HostCommand. The commands of an install's own files are
registered while its host runs.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from nanohost.chat_commands.agent_commands import AGENT_COMMANDS
from nanohost.chat_commands.command import ChatCommand
from nanohost.chat_commands.host_command import HostCommand
from nanohost.errors import ExtensionError
from nanohost.extensions.host_loader import load_extensions
from nanohost.extensions.loader import list_python_files

HELPER_MODULES = {
    "agent_commands",
    "classify",
    "command",
    "executor",
    "host_command",
    "menu",
    "open_messages",
    "registry",
}
"""Modules of this package that are no commands."""
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_-]*")
"""Valid names of commands."""
NAME_ASSIGNMENT = re.compile(rf"""\bname\s*=\s*["']({NAME_PATTERN.pattern})["']""")


@cache
def chat_commands() -> dict[str, ChatCommand]:
    """Returns the commands of a session by name, sorted."""
    return {name: command for name, command in _registered().items() if isinstance(command, ChatCommand)}


@cache
def host_commands() -> dict[str, HostCommand]:
    """Returns the host commands by name, sorted."""
    return {name: command for name, command in _registered().items() if isinstance(command, HostCommand)}


@cache
def _registered() -> dict[str, ChatCommand | HostCommand]:
    import nanohost.chat_commands as package

    found: dict[str, ChatCommand | HostCommand] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in HELPER_MODULES:
            command: ChatCommand | HostCommand = importlib.import_module(f"{package.__name__}.{module.name}").COMMAND
            found[command.name] = command
    return dict(sorted(found.items()))


@asynccontextmanager
async def extensions_loaded(folder: Path) -> AsyncIterator[None]:
    """Registers the commands of an install's own files while entered."""
    own = await asyncio.to_thread(_load_extensions, folder)
    chat_commands().update({name: one for name, one in own.items() if isinstance(one, ChatCommand)})
    host_commands().update({name: one for name, one in own.items() if isinstance(one, HostCommand)})
    try:
        yield
    finally:
        for name in own:
            chat_commands().pop(name, None)
            host_commands().pop(name, None)


def extension_names(folder: Path) -> frozenset[str]:
    """Returns the names of the commands in an install's own files without importing them, for use outside the host.

    If a file does not contain the name as a literal, uses the file's name. Reads the disk.
    """
    return frozenset(
        name
        for path in list_python_files([folder])
        for name in NAME_ASSIGNMENT.findall(_read_text(path)) or [path.stem]
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # the host reports why it cannot be read
        return ""


def _load_extensions(folder: Path) -> dict[str, ChatCommand | HostCommand]:
    own: dict[str, ChatCommand | HostCommand] = {}

    def take(held: object) -> None:
        if not isinstance(held, ChatCommand | HostCommand):
            raise ExtensionError("COMMAND is no ChatCommand and no HostCommand", hint="COMMAND = ChatCommand(...)")
        if not NAME_PATTERN.fullmatch(held.name):
            raise ExtensionError(f"nobody can type /{held.name[:40]}", hint="a letter, then letters, digits, - and _")
        if held.name in {*_registered(), *AGENT_COMMANDS, *own}:
            raise ExtensionError(f"there is a command /{held.name} already", hint="give it another name")
        own[held.name] = held

    load_extensions("chat_command", folder, "COMMAND", take)
    return own
