"""Reads the names, helps and arguments of all commands from command_catalogue.json, without importing the commands.

The file is written from the registry by scripts/reference, and a test fails when it is stale. So a help text, a
mistyped word, and a command that the running host answers, load no command, no argument model and no database.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is a fifth of the start
    from typing import Any, TypedDict

    from nanohost.commands.command import Command

    class Argument(TypedDict):
        """An argument. `choices`: the allowed values, [] for any; `flag`: takes no value; `positional`: typed without
        its name; `repeated`: typed once for each value."""

        name: str
        help: str
        choices: list[str]
        flag: bool
        repeated: bool
        positional: bool
        required: bool

    class Entry(TypedDict):
        """A command. `offline`: it runs in the client's process; `rendered_here`: its text is rendered there;
        `follows`: it takes --follow; `confirm`: the question to confirm; `module`: the module that defines it."""

        words: str
        help: str
        example: str
        offline: bool
        rendered_here: bool
        follows: bool
        confirm: str
        module: str
        arguments: list[Argument]

    class Catalogue(TypedDict):
        """`nouns`: what each noun is."""

        nouns: dict[str, str]
        commands: list[Entry]


CATALOGUE_PATH = f"{__file__.rpartition('/')[0]}/command_catalogue.json"


def read_catalogue() -> Catalogue:
    """Reads the catalogue, sorted by words."""
    with open(CATALOGUE_PATH, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is another fifth
        found: Catalogue = json.load(file)
    return found


def group_by_noun(entries: list[Entry]) -> dict[str, list[Entry]]:
    """Groups the commands by their first word."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry["words"].partition(" ")[0], []).append(entry)
    return found


def render_catalogue() -> str:
    """Returns the content of the file, made from the registry."""
    return json.dumps(_build_catalogue(), indent=1, ensure_ascii=False) + "\n"


def _build_catalogue() -> Catalogue:
    from nanohost.commands.registry import meanings, modules

    return {
        "nouns": meanings(),
        "commands": sorted(
            (_make_entry(command, name) for name, module in modules().items() for command in module.COMMANDS),
            key=lambda entry: entry["words"],
        ),
    }


def _make_entry(command: Command, module: str) -> Entry:
    from typing import get_origin

    return {
        "words": command.words,
        "help": command.help,
        "example": command.example,
        "offline": command.is_offline,
        "rendered_here": command.is_rendered_locally,
        "follows": command.follow_mode is not None,
        "confirm": command.confirm,
        "module": module,
        "arguments": [
            {
                "name": name,
                "help": field.description or "",
                "choices": _argument_choices(field.annotation),
                "flag": field.annotation is bool,
                "repeated": get_origin(field.annotation) is tuple,
                "positional": name in command.positional,
                "required": field.is_required(),
            }
            for name, field in command.arguments.model_fields.items()
        ],
    }


def _argument_choices(annotation: Any) -> list[str]:
    import enum
    from typing import get_args

    if bool in get_args(annotation):  # of three: yes, no, or left as it is
        return ["yes", "no"]
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, enum.EnumMeta):
            return [str(member.value) for member in kind]  # type: ignore[var-annotated]
    return []
