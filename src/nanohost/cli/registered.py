"""The registry's commands on the command line: parsers out of their argument models, results as text or JSON.

A command is answered by the running host if there is one; else it takes the home for itself and runs here.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from pydantic.fields import FieldInfo

from nanohost.cli.ending import Ending
from nanohost.clock import SystemClock
from nanohost.commands.command import Command, Following
from nanohost.commands.context import CommandContext, OfflineContext
from nanohost.commands.registry import commands, resources
from nanohost.commands.show import as_json
from nanohost.control.client import NobodyThere, ask
from nanohost.errors import HomeError
from nanohost.home import Holding, Home, HomeBusy, hold
from nanohost.logs import set_up_logs
from nanohost.settings import load_settings

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]

HOLDER_LIMIT_S = 5.0
"""How long to wait for another command, or for a host that is just starting or stopping."""


FOLLOW_PAUSE_S = 0.5
"""Between two looks at what is followed."""


def add_registered(subcommands: Subcommands) -> None:
    """Add every command of the registry; `wirings create` becomes `create` below `wirings`."""
    groups: dict[str, Subcommands] = {}
    for command in commands().values():
        first, _, second = command.words.partition(" ")
        if not second:
            _add(subcommands, first, command)
            continue
        if first not in groups:
            parent = subcommands.add_parser(first, help=_verbs(first), description=_about(first))
            parent.set_defaults(help_of=parent)
            groups[first] = parent.add_subparsers(title="commands", metavar="COMMAND")
        _add(groups[first], second, command)


def add_home(parser: argparse.ArgumentParser) -> None:
    """--home is taken before the command and after it."""
    parser.add_argument(
        "--home", type=Path, metavar="DIR", default=argparse.SUPPRESS, help="the install root (or NANOHOST_HOME)"
    )


def _about(first: str) -> str | None:
    """What the rows are, if the noun is a resource."""
    found = resources().get(first)
    return None if found is None else sentence(found.about)


def sentence(words: str) -> str:
    """As it stands at the head of a help text."""
    return f"{words[0].upper()}{words[1:]}."


def _verbs(first: str) -> str:
    return ", ".join(words.partition(" ")[2] for words in commands() if words.startswith(f"{first} "))


def _add(subcommands: Subcommands, word: str, command: Command) -> None:
    parser = subcommands.add_parser(
        word,
        help=command.help,
        description=sentence(command.help),
        epilog=f"example: {command.example}",
    )
    for name, field in command.arguments.model_fields.items():
        _add_argument(parser, name, field, positional=name in command.positional)
    add_home(parser)
    if command.following is not None:
        parser.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON")
    parser.set_defaults(action=lambda options, home: _perform(command, options, home))


def _add_argument(parser: argparse.ArgumentParser, name: str, field: FieldInfo, *, positional: bool) -> None:
    choices = _choices(field.annotation)
    shown = "|".join(choices) if choices else name.upper()
    help_text = (field.description or "").replace("%", "%%")
    if positional:
        parser.add_argument(name, help=help_text, metavar=shown)
        return
    option = f"--{name.replace('_', '-')}"
    if field.annotation is bool:
        parser.add_argument(option, dest=name, help=help_text, action="store_true", default=argparse.SUPPRESS)
        return
    parser.add_argument(
        option,
        dest=name,
        help=help_text,
        metavar=shown,
        required=field.is_required(),
        default=argparse.SUPPRESS,
    )


def _choices(annotation: Any) -> list[str]:
    if bool in get_args(annotation):  # of three: yes, no, or left as it is
        return ["yes", "no"]
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, enum.EnumMeta):
            return [str(member.value) for member in kind]  # type: ignore[var-annotated]
    return []


def _perform(command: Command, options: argparse.Namespace, home: Home) -> int:
    set_up_logs(os.environ, form="quiet")
    given = {name: getattr(options, name) for name in command.arguments.model_fields if hasattr(options, name)}

    def say(result: Any) -> None:
        text = as_json(result) if options.as_json else command.render(result)
        print(text, flush=True)

    with Ending() as ending:
        if command.following is not None and options.follow:
            ending.run(_follow(command, command.following, given, home, say))
        result = ending.run(perform(command, given, home))
        say(result)
    return 1 if command.failed(result) else 0


async def _follow(
    command: Command, following: Following, given: Mapping[str, object], home: Home, say: Callable[[Any], None]
) -> NoReturn:
    """Ask again and again, and say what is new. Ends with an interruption, or by raising NanohostError."""
    typed = command.checked(given)
    asked = {**given, **following.asked}
    seen = await perform(command, asked, home)
    say(following.first(seen, typed))
    while True:
        await asyncio.sleep(FOLLOW_PAUSE_S)
        now = await perform(command, asked, home)
        if (news := following.news(seen, now)) is not None:
            say(news)
        seen = now


async def perform(command: Command, given: Mapping[str, object], home: Home) -> Any:
    """Run a command where it belongs. Raises NanohostError."""
    if command.offline:
        settings = load_settings(home.root, os.environ, resolve_secrets=False)
        return await command.call(OfflineContext(home=home, settings=settings, clock=SystemClock()), given)
    give_up = asyncio.get_running_loop().time() + HOLDER_LIMIT_S
    while True:
        try:
            return await ask(home, command.words, given)
        except NobodyThere:
            pass
        try:
            return await _perform_here(command, given, home)
        except HomeBusy:
            if asyncio.get_running_loop().time() > give_up:
                raise
            await asyncio.sleep(0.1)  # a host that is starting has the home before it answers


async def _perform_here(command: Command, given: Mapping[str, object], home: Home) -> Any:
    from nanohost.app import opened_store

    if not command.begins:
        _want_install(home)
    settings = load_settings(home.root, os.environ, resolve_secrets=False)
    with hold(home, Holding.COMMAND):
        async with opened_store(home) as store:
            context = CommandContext(home=home, settings=settings, clock=SystemClock(), store=store)
            return await command.call(context, given)


def _want_install(home: Home) -> None:
    """A look makes nothing: where --home is mistyped there would be one more empty install. Raises HomeError."""
    if not home.is_made():
        raise HomeError(
            f"there is no nanohost in {home.root}",
            hint="name the folder of yours with --home or NANOHOST_HOME, or begin here with nanohost chat",
        )
