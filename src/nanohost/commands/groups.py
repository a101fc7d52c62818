"""Agent groups: list, get, create, update, delete, restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from pydantic import Field

from nanohost.approvals.obsolete import withdraw_obsolete
from nanohost.arguments import CommandArguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import ensure_group, resolve_group
from nanohost.commands.tables import Json, to_json
from nanohost.commands.wirings import delete_wiring
from nanohost.db import agent_groups, approvals, audit, sessions
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Transaction
from nanohost.errors import ExtensionError, UsageError
from nanohost.extensions.providers import find_provider
from nanohost.model import AgentGroup
from nanohost.scheduler import task_operations as tasks

ABOUT = "agent groups: each an agent with a folder of its own; long name: agent-groups"
USE_DEFAULT = "default"
"""The value of a provider or model that restores the host's setting."""


class ListArgs(CommandArguments):
    """Nothing to say."""


class Get(CommandArguments):
    folder: str = Field(description="the folder's name")


class CreateArgs(CommandArguments):
    folder: str = Field(description="the folder's name: small letters, digits, - and _")
    name: str | None = Field(None, description="what the agent is called (default: the folder's name)")
    provider: str | None = Field(None, description="claude, demo, or the name of a file in providers/")
    model: str | None = Field(None, description="a model's name (default: the setting)")


class UpdateArgs(CommandArguments):
    folder: str = Field(description="the folder's name")
    name: str | None = Field(None, min_length=1, description="what the agent is called")
    provider: str | None = Field(
        None,
        description=f"claude, demo, or the name of a file in providers/, or {USE_DEFAULT}: what the setting says",
    )
    model: str | None = Field(
        None, min_length=1, description=f"a model's name, or {USE_DEFAULT}: what the setting says"
    )


class DeleteArgs(CommandArguments):
    folder: str = Field(description="the folder's name")


class RestartArgs(CommandArguments):
    folder: str = Field(description="the folder's name")
    message: str | None = Field(None, description="what each fresh container is told first of all")
    now: bool = Field(False, description="do not wait for turns to end; what is stopped is run again")


async def _restart(context: CommandContext, arguments: RestartArgs) -> Json:
    group = await resolve_group(context.store, arguments.folder)
    if context.host is None:
        raise UsageError("no host runs, so there is nothing to restart", hint="nanohost run")
    theirs = [one for one in await sessions.list_leased(context.store) if one.agent_group_id == group.id]
    restarted = [
        one.id for one in theirs if await context.host.restart(one, now=arguments.now, message=arguments.message)
    ]
    return {"group": group.folder, "restarted": list(restarted)}


async def _list(context: CommandContext, arguments: ListArgs) -> Json:
    return to_json(await agent_groups.list_all(context.store.reports))


async def _get(context: CommandContext, arguments: Get) -> Json:
    return to_json(await resolve_group(context.store, arguments.folder))


async def _create(context: CommandContext, arguments: CreateArgs) -> Json:
    if await agent_groups.find(context.store, arguments.folder):
        raise UsageError(f"there is an agent group {arguments.folder!r} already", hint="nanohost agents list")
    await _check_provider(context, arguments.provider)
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
    return to_json(group)


async def _update(context: CommandContext, arguments: UpdateArgs) -> Json:
    given: dict[str, Any] = arguments.model_dump(exclude={"folder"}, exclude_none=True)
    if not given:
        raise UsageError("nothing is to be changed", hint="nanohost agents update --help")
    if arguments.provider != USE_DEFAULT:
        await _check_provider(context, arguments.provider)
    async with context.store.transaction() as tx:
        was = await resolve_group(tx, arguments.folder)
        group = replace(
            was,
            name=arguments.name or was.name,
            provider=_resolve_default(arguments.provider, was.provider),
            model=_resolve_default(arguments.model, was.model),
        )
        await agent_groups.update(tx, group)
        await _record_audit(context, tx, "agents.update", group, given)
    return {**_make_row(group), "next": _effective_notice(group, given)}


async def _check_provider(context: CommandContext, name: str | None) -> None:
    """Raises UsageError for a provider that cannot be used."""
    if name is None:
        return
    try:
        await asyncio.to_thread(find_provider, context.home.root, name)
    except ExtensionError as error:
        raise UsageError(str(error), hint=error.hint) from None


def _resolve_default(typed: str | None, current: str | None) -> str | None:
    """Returns the value to store; None means the host's setting."""
    return current if typed is None else (None if typed == USE_DEFAULT else typed)


def _effective_notice(group: AgentGroup, changes: Any) -> str:
    """Returns when the changes take effect. The name is only for people: the agent knows its name by its CLAUDE.md."""
    notices = []
    if "provider" in changes or "model" in changes:
        notices.append(f"for each conversation's next container; at once with nanohost agents restart {group.folder}")
    if "name" in changes:
        notices.append(f"what the agent is told of its name is in groups/{group.folder}/CLAUDE.md")
    return "; ".join(notices)


async def _delete(context: CommandContext, arguments: DeleteArgs) -> Json:
    now = context.clock.now()
    async with context.store.transaction() as tx:
        group = await resolve_group(tx, arguments.folder)
        await _require_idle(tx, group)
        for wiring in (wired := await agent_groups.list_wiring_ids(tx, group.id)):
            await delete_wiring(tx, wiring, now)
        why = f"the agent group {group.folder} was deleted"
        planned = [await tasks.cancel(tx, one, now, why) for one in await agent_groups.list_open_task_ids(tx, group.id)]
        await agent_groups.delete(tx, group.id, now)
        await _record_audit(context, tx, "agents.delete", group, {})
        await withdraw_obsolete(tx, now=now, zone=context.settings.zone)
    return {
        "deleted": group.folder,
        "chats": len(wired),
        "tasks": len(planned),
        "kept": f"{context.home.groups / group.folder} and its conversations, for nanohost agents create"
        f" {group.folder}; delete the folder if nobody is to have it",
    }


async def _require_idle(tx: Transaction, group: AgentGroup) -> None:
    """Raises UsageError while the group has running work, which a deleted agent could not finish."""
    if working := await agent_groups.list_active_sessions(tx, group.id):
        raise UsageError(
            f"{group.folder} has a container that runs, or work to do, in session {working[0]}",
            hint=f"nanohost sessions stop {working[0]}, or wait until it is done",
        )
    for asked in await approvals.list_open(tx):
        if asked.session_id is not None and asked.agent_group_id == group.id:
            raise UsageError(
                f"a request of {group.folder} waits for approval", hint=f"nanohost approvals deny {asked.id}"
            )


async def _record_audit(context: CommandContext, tx: Transaction, what: str, group: AgentGroup, details: Any) -> None:
    await audit.record(
        tx,
        actor=context.who,
        action=what,
        target=group.folder,
        origin=audit.LOCAL,
        outcome=AuditOutcome.DONE,
        now=context.clock.now(),
        details=details,
    )


def _make_row(group: AgentGroup) -> dict[str, Json]:
    row = to_json(group)
    assert isinstance(row, dict), "a row"
    return row


COMMANDS = (
    Command(
        words="agents list", help="list agent groups", example="nanohost agents list", arguments=ListArgs, run=_list
    ),
    Command(
        words="agents get",
        help="show one agent group",
        example="nanohost agents get main",
        arguments=Get,
        run=_get,
        positional=("folder",),
    ),
    Command(
        words="agents update",
        help="change an agent group's name, provider or model",
        example="nanohost agents update main --model claude-opus-4-5",
        arguments=UpdateArgs,
        run=_update,
        positional=("folder",),
    ),
    Command(
        words="agents delete",
        help="take an agent group out of all chats, with its roles, rules and tasks; its files are kept",
        confirm="Delete the agent group {folder} and its wirings?",
        example="nanohost agents delete work",
        arguments=DeleteArgs,
        run=_delete,
        positional=("folder",),
    ),
    Command(
        words="agents create",
        can_create_install=True,
        help="make an agent group: a folder with a CLAUDE.md",
        example='nanohost agents create work --name "Ada"',
        arguments=CreateArgs,
        run=_create,
        positional=("folder",),
    ),
    Command(
        words="agents restart",
        help="replace an agent group's containers: each ends its turn, then a fresh one starts",
        example='nanohost agents restart main --message "you have a new tool"',
        arguments=RestartArgs,
        run=_restart,
        positional=("folder",),
    ),
)
