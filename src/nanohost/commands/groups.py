"""Agent groups: list, show, create."""

from __future__ import annotations

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import ensure_group, known_group
from nanohost.commands.show import Json, plain
from nanohost.errors import UsageError
from nanohost.store import agent_groups, sessions


class List(Arguments):
    """Nothing to say."""


class Show(Arguments):
    folder: str = Field(description="the folder's name")


class Create(Arguments):
    folder: str = Field(description="the folder's name: small letters, digits, - and _")
    name: str | None = Field(None, description="what the agent is called (default: the folder's name)")
    provider: str | None = Field(None, pattern="^(claude|demo|scripted)$", description="claude or demo")
    model: str | None = Field(None, description="a model's name (default: the setting)")


class Restart(Arguments):
    folder: str = Field(description="the folder's name")
    message: str | None = Field(None, description="what each fresh container is told first of all")
    now: bool = Field(False, description="do not wait for turns to end; what is stopped is run again")


async def _restart(context: CommandContext, arguments: Restart) -> Json:
    group = await known_group(context.store, arguments.folder)
    if context.live is None:
        raise UsageError("no host runs, so there is nothing to restart", hint="nanohost run")
    theirs = [one for one in await sessions.leased(context.store) if one.agent_group_id == group.id]
    restarted = [
        one.id for one in theirs if await context.live.restart(one, now=arguments.now, message=arguments.message)
    ]
    return {"group": group.folder, "restarted": list(restarted)}


async def _list(context: CommandContext, arguments: List) -> Json:
    return plain(await agent_groups.every(context.store.reports))


async def _show(context: CommandContext, arguments: Show) -> Json:
    return plain(await known_group(context.store, arguments.folder))


async def _create(context: CommandContext, arguments: Create) -> Json:
    if await agent_groups.find(context.store, arguments.folder):
        raise UsageError(f"there is an agent group {arguments.folder!r} already", hint="nanohost groups list")
    group = await ensure_group(
        context.store,
        context.home,
        arguments.folder,
        who=context.who,
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
        begins=True,
        help="make an agent group: a folder with a CLAUDE.md",
        example='nanohost groups create work --name "Ada"',
        arguments=Create,
        run=_create,
        positional=("folder",),
    ),
    Command(
        words="groups restart",
        help="replace an agent group's containers: each ends its turn, then a fresh one starts",
        example='nanohost groups restart main --message "you have a new tool"',
        arguments=Restart,
        run=_restart,
        positional=("folder",),
    ),
)
