"""Defines the type of operator commands: words, a model of the arguments, a function, and a renderer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from pydantic import ValidationError

from nanohost.arguments import CommandArguments
from nanohost.commands.context import OfflineContext
from nanohost.commands.tables import Json, localize_times, render_result
from nanohost.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowMode:
    """How a command is followed: it is repeated, with `overrides` replacing typed arguments.

    `initial` returns what is shown of the first result, given the typed arguments. `changes` returns what is new in a
    result compared with the one before, or None.
    """

    overrides: Mapping[str, object]
    initial: Callable[[Json, CommandArguments], Json]
    changes: Callable[[Json, Json], Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An operator command. `words`: its name. `run` returns plain JSON, and `render` turns that into text for people.

    `run` gets a CommandContext, or an OfflineContext if `is_offline`: such a command needs no database and runs in the
    client's process, whether a host runs or not. `positional`: arguments that are typed without their name.
    `is_failure`: returns whether a result is a failure, with exit code 1. `follow_mode`: set if --follow is allowed.
    `can_create_install`: it creates the install if there is none. `is_rendered_locally`: its text depends on the
    terminal, so a running host returns only the result. `confirm`: the question to confirm at a terminal, with names
    of arguments in braces; --yes skips it.
    """

    words: str
    help: str
    example: str
    arguments: type[CommandArguments]
    run: Callable[[Any, Any], Awaitable[Json]]
    render: Callable[[Json], str] = render_result
    positional: tuple[str, ...] = ()
    is_offline: bool = False
    can_create_install: bool = False
    is_rendered_locally: bool = False
    is_failure: Callable[[Json], bool] = lambda _: False
    follow_mode: FollowMode | None = None
    confirm: str = ""

    async def execute(self, context: OfflineContext, arguments: Mapping[str, object]) -> Json:
        """Validates the arguments and runs the command. Raises UsageError and the command's own errors."""
        return await self.run(context, self.validate(arguments))

    def render_in_zone(self, result: Json, zone: tzinfo) -> str:
        """Renders the result as text for people, with its times in this zone."""
        return self.render(localize_times(result, zone))

    def validate(self, arguments: Mapping[str, object]) -> CommandArguments:
        """Returns the validated arguments. Raises UsageError."""
        try:
            return self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise _usage_error(self, error) from None


def _usage_error(command: Command, error: ValidationError) -> UsageError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":  # people need no regular expression
        said = f"{first['input']!r} is not {command.arguments.model_fields[place].description}"
    elif first["type"] == "bool_parsing":
        said = f"{first['input']!r} should be yes or no"
    elif first["type"] == "int_parsing":
        said = f"{first['input']!r} is not a number"
    elif said.startswith("Input should "):
        said = f"{first['input']!r} should {said.removeprefix('Input should ')}"
    return UsageError(f"{command.words}: {place}: {said}", hint=f"nanohost {command.words} --help")
