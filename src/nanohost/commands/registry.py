"""What an operator can ask of the host: one registry for the command line, the control socket and later the chat.

A command is its words, a model of its arguments, a function and a way to show the result. Files in this package hold
one noun's commands each, in a tuple COMMANDS, and the definition they are made from, if they are, in RESOURCE (see
resource.py); a new file is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nanohost.arguments import Arguments as Arguments
from nanohost.commands.context import OfflineContext
from nanohost.commands.show import Json, show
from nanohost.errors import UsageError

if TYPE_CHECKING:
    from nanohost.commands.resource import Resource

HELPERS = {"channel_setup", "context", "registry", "resource", "setup", "show"}
"""Modules of this package that hold no commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How a command is followed: asked again and again with `asked` in place of what was typed for it.

    `first` is what is shown of the first result, given the typed arguments; `news` is what a result has that the one
    before had not, or None.
    """

    asked: Mapping[str, object]
    first: Callable[[Json, Arguments], Json]
    news: Callable[[Json, Json], Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`words` is what is typed, `run` answers with plain JSON, `render` turns that into text for people.

    `run` gets a CommandContext, or an OfflineContext if `offline`: such a command needs no database and runs where it
    is typed, whether a host runs or not. `positional` names the arguments that are typed without their name. `failed`
    says of a result that it is bad news: exit code 1. `following`: it can be typed with --follow.
    `begins`: it may be the first thing that is typed, and makes the install if there is none.
    """

    words: str
    help: str
    example: str
    arguments: type[Arguments]
    run: Callable[[Any, Any], Awaitable[Json]]
    render: Callable[[Json], str] = show
    positional: tuple[str, ...] = ()
    offline: bool = False
    begins: bool = False
    failed: Callable[[Json], bool] = lambda _: False
    following: Following | None = None

    async def call(self, context: OfflineContext, given: Mapping[str, object]) -> Json:
        """Check the arguments and run. Raises UsageError and whatever the command raises."""
        return await self.run(context, self.checked(given))

    def checked(self, given: Mapping[str, object]) -> Arguments:
        """The arguments, typed. Raises UsageError."""
        try:
            return self.arguments.model_validate(given)
        except ValidationError as error:
            raise _usage(self, error) from None


@cache
def commands() -> dict[str, Command]:
    """All commands by their words, sorted."""
    found = {command.words: command for module in _modules() for command in module.COMMANDS}
    return dict(sorted(found.items()))


@cache
def resources() -> dict[str, Resource]:
    """The resources among them by their name, sorted."""
    found = {module.RESOURCE.name: module.RESOURCE for module in _modules() if hasattr(module, "RESOURCE")}
    return dict(sorted(found.items()))


def _modules() -> list[ModuleType]:
    import nanohost.commands as package

    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in HELPERS]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def find(words: str) -> Command:
    """Raises UsageError for words that name no command."""
    if words not in commands():
        raise UsageError(f"there is no command {words[:80]!r}", hint="nanohost --help")
    return commands()[words]


def _usage(command: Command, error: ValidationError) -> UsageError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"]
    if first["type"] == "string_pattern_mismatch":  # a regular expression is no answer
        said = f"{first['input']!r} is not {command.arguments.model_fields[place].description}"
    return UsageError(f"{command.words}: {place}: {said}", hint=f"nanohost {command.words} --help")
