"""Agent groups: list, show, create."""

from __future__ import annotations

from pydantic import Field

from nanohost.commands.context import CommandContext
from nanohost.commands.registry import Arguments, Command
from nanohost.commands.setup import ensure_group, known_group
from nanohost.commands.show import Json, plain
from nanohost.errors import UsageError
from nanohost.store import agent_groups


class List(Arguments):
    """Nothing to say."""


class Show(Arguments):
    folder: str = Field(description="the folder's name")


class Create(Arguments):
    folder: str = Field(description="the folder's name: small letters, digits, - and _")
    name: str | None = Field(None, description="what the agent is called (default: the folder's name)")
    provider: str | None = Field(None, pattern="^(claude|demo|scripted)$", description="claude or demo")
    model: str | None = Field(None, description="a model's name (default: the setting)")


async def _list(context: CommandContext, arguments: List) -> Json:
    return plain(await agent_groups.every(context.store))


async def _show(context: CommandContext, arguments: Show) -> Json:
    return plain(await known_group(context.store, arguments.folder))


async def _create(context: CommandContext, arguments: Create) -> Json:
    if await agent_groups.find(context.store, arguments.folder):
        raise UsageError(f"there is an agent group {arguments.folder!r} already", hint="nanohost groups list")
    group = await ensure_group(
        context.store,
        context.home,
        arguments.folder,
        now=context.clock.now(),
        name=arguments.name,
        provider=arguments.provider,
        model=arguments.model,
    )
    return plain(group)


COMMANDS = (
    Command(words="groups list", help="list agent groups", example="nanohost groups list", arguments=List, run=_list),
    Command(
        words="groups show",
        help="show one agent group",
        example="nanohost groups show main",
        arguments=Show,
        run=_show,
        positional=("folder",),
    ),
    Command(
        words="groups create",
        help="make an agent group: a folder with a CLAUDE.md",
        example='nanohost groups create work --name "Ada"',
        arguments=Create,
        run=_create,
        positional=("folder",),
    ),
)
